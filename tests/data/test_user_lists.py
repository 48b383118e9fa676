"""--split-file and --labeled-list: what they may say, and what is said of them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from salakseg.data.index import index
from salakseg.errors import InputError
from tests.data.samples import PHOTOS, cut_photo, problems, save_split


def test_split_file_of_two_flights_needs_folders(data: Path) -> None:
    cut_photo(PHOTOS[5], data / "flight-2", base=PHOTOS[0], mask=False)
    roles = {photo: "train" for photo in PHOTOS}
    with pytest.raises(InputError, match=f"{PHOTOS[0]} is in flight-1 and in flight-2"):
        index(data, num_workers=1, split_file=save_split(data, roles))
    both = {f"{PHOTOS[0]},flight-1": "val", f"{PHOTOS[0]},flight-2": "unlabeled"}
    rest = {f"{photo},": "train" for photo in PHOTOS[1:]}
    path = save_split(data, both | rest, "base_image,folder,split")
    index(data, num_workers=1, split_file=path)
    bases = pd.read_csv("index/base_images.csv").set_index(["folder", "base_image"])["split"]
    assert bases["flight-1", PHOTOS[0]] == "val"
    assert bases["flight-2", PHOTOS[0]] == "unlabeled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda roles: roles.pop(PHOTOS[2]), f"no row for 1 base image.*{PHOTOS[2]}"),
        (lambda roles: roles.update({PHOTOS[2]: "trian"}), "line 4: .*not 'trian'"),
        (lambda roles: roles.update({f'"{PHOTOS[2]}"': "val"}), "stands on line 4 already"),
    ],
    ids=["missing", "bad word", "twice"],
)
def test_bad_split_files(
    data: Path, change: Callable[[dict[str, str]], object], message: str
) -> None:
    roles = dict.fromkeys(PHOTOS, "train")
    change(roles)
    with pytest.raises(InputError, match=message):
        index(data, num_workers=1, split_file=save_split(data, roles))
    assert not Path("index").exists()


def test_split_file_may_name_more_than_there_is(data: Path) -> None:
    roles = dict.fromkeys(PHOTOS, "train") | {PHOTOS[0]: "val", "elsewhere": "val"}
    index(data, num_workers=1, split_file=save_split(data, roles))
    assert "elsewhere" in set(problems()["file"])
    with pytest.raises(InputError, match=r"none of its 1 base image is.*names like tile1"):
        index(data, num_workers=1, split_file=save_split(data, {"tile1_part001.jpg": "val"}))
    with pytest.raises(InputError, match="needs the columns base_image and split"):
        index(data, num_workers=1, split_file=save_split(data, roles, "photo;split"))


def test_labeled_list_limits_the_masks(data: Path) -> None:
    names = [
        f"{PHOTOS[0]}_patch_000_001.png",
        f"flight-1/{PHOTOS[1]}",
        f"{PHOTOS[2]}_patch_001_000",
    ]
    Path("list.txt").write_text("# two patches, one photo\n" + "\n".join(names), encoding="utf-8")
    summary = index(data, num_workers=1, labeled_list=Path("list.txt"))
    assert (summary["masks"], summary["labelled"]) == (72, 14)
    Path("list.txt").write_text(f"{PHOTOS[0]}\nDJI_9999\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"1 name of neither a patch.*DJI_9999"):
        index(data, num_workers=1, labeled_list=Path("list.txt"))
    cut_photo(PHOTOS[0], data / "flight-2")
    Path("list.txt").write_text(PHOTOS[0], encoding="utf-8")
    with pytest.raises(InputError, match=r"is in flight-1 and in flight-2; write FOLDER/tile1"):
        index(data, num_workers=1, labeled_list=Path("list.txt"))
