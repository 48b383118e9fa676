"""What `index` says of the images of a data set: their sizes and white level."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from salakseg.data.index import index
from salakseg.data.shards import read_shards
from salakseg.data.shards_pack import shard
from salakseg.errors import InputError
from tests.conftest import SAMPLES
from tests.data.samples import PHOTOS, problems


def test_a_photograph_among_patches_is_fatal(data: Path) -> None:
    shutil.copy(SAMPLES / f"images/{PHOTOS[0]}.jpg", data / "flight-1/images/whole.jpg")
    with pytest.raises(InputError, match=r"whole\.jpg: too large for a patch.*salakseg patchify"):
        index(data, num_workers=1)


def test_full_photographs_are_fatal(data: Path) -> None:
    for kind in ("images", "masks"):
        (data / "full" / kind).mkdir(parents=True)
        Image.new("RGB", (1100, 700), (132, 41, 246)).save(data / "full" / kind / "DJI_0001.png")
    with pytest.raises(InputError, match=r"1100×700.*salakseg patchify"):
        index(data, num_workers=1)


def test_the_white_level_of_a_layout_goes_into_the_summary(data: Path) -> None:
    header = "patch,base_image,row,column,x,y,pixel_size,white_level"
    for number, folder in enumerate(("flight-1", "flight-2")):
        stems = sorted(path.stem for path in (data / folder / "images").iterdir())
        lines = [header, *(f"{stem},{stem[:5]},0,0,0,0,," for stem in stems)]
        (data / folder / "layout.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if number:
            assert index(data, num_workers=1)["white_level"] is None
    text = (data / "flight-1/layout.csv").read_text("utf-8").replace(",,\n", ",,4095\n")
    (data / "flight-1/layout.csv").write_text(text, encoding="utf-8")
    assert index(data, num_workers=1)["white_level"] == 4095
    assert shard(num_workers=1)["white_level"] == read_shards().white_level == 4095
    text = (data / "flight-2/layout.csv").read_text("utf-8").replace(",,\n", ",,1023\n")
    (data / "flight-2/layout.csv").write_text(text, encoding="utf-8")
    assert index(data, num_workers=1)["white_level"] == 4095
    assert (
        problems()
        .set_index("kind")["detail"]["two white levels"]
        .startswith("cut with 1023, 4095: maps are made with 4095")
    )
