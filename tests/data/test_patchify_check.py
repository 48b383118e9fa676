"""What patchify finds to cut, by the rule of index, and what it refuses before it cuts."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.transform import from_origin

from salakseg.classes import MASK_SIZE_TOLERANCE
from salakseg.data.folders import find_folders, pair
from salakseg.data.patchify import find_photos, patchify
from salakseg.data.problems import Problems
from salakseg.errors import InputError
from tests.data.cutting import QUIET, layout, write_geotiff, write_mask

pytestmark = QUIET
GREY = np.zeros((40, 50), np.uint8)


def cut(tmp_path: Path, **options: object) -> Path:
    patchify(tmp_path / "data", out=tmp_path / "out", size=32, num_workers=1, **options)  # type: ignore[arg-type]
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_files_of_other_formats_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write_mask(tmp_path / "data/images/a.png", GREY)
    write_mask(tmp_path / "data/masks/a.png", GREY)
    for name in ("b.webp", "c.webp", "d.heic", "._a.png", "a.png.aux.xml"):
        (tmp_path / "data" / kind / name).touch()
    (tmp_path / "data" / kind / "deeper").mkdir()
    (tmp_path / "data" / kind / "deeper" / "e.png").touch()
    cut(tmp_path)
    said = capsys.readouterr().out
    assert f"{kind}/b.webp: other file: 3 files of {kind}/ with an extension other than" in said
    assert "1 file in folders below: not used" in said


def test_only_files_of_other_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/a.heic").touch()
    with pytest.raises(InputError, match=r"no images in it; .* with \.png \.jpg"):
        cut(tmp_path)
    assert "1 file of images/ with an extension other than" in capsys.readouterr().out


def test_folders_in_capitals_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mask(tmp_path / "data/far/Images/a.png", GREY)
    write_mask(tmp_path / "data/far/MASKS/a.png", GREY)
    out = cut(tmp_path)
    assert len(list((out / "far/masks").iterdir())) == len(list((out / "far/images").iterdir())) > 0
    assert layout(out / "far")[0]["source"] == "far/Images/a.png"
    assert "MASKS: folder: taken for masks/" in capsys.readouterr().out


def test_names_meet_whichever_way_they_are_written(tmp_path: Path) -> None:
    name = "forêt"
    write_mask(tmp_path / "data/images" / unicodedata.normalize("NFD", f"{name}.png"), GREY)
    write_mask(tmp_path / "data/masks" / unicodedata.normalize("NFC", f"{name}.png"), GREY)
    out = cut(tmp_path)
    assert {path.name for path in (out / "masks").iterdir()} == {
        f"{row['patch']}.png" for row in layout(out)
    }
    assert layout(out)[0]["base_image"] == unicodedata.normalize("NFC", name)
    assert patchify(tmp_path / "data", out=out, size=32, num_workers=1)["cut"] == 0


def test_links_are_followed_as_index_does(tmp_path: Path) -> None:
    write_mask(tmp_path / "elsewhere/images/a.png", GREY)
    write_mask(tmp_path / "elsewhere/masks/a.png", GREY)
    (tmp_path / "data").mkdir()
    try:
        (tmp_path / "data/flight").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    [photo] = find_photos(tmp_path / "data")
    patches = pair(tmp_path / "data", find_folders(tmp_path / "data"), Problems())
    assert photo.source == patches["image"].item() == "flight/images/a.png"
    assert photo.mask == tmp_path / "data" / patches["mask"].item()


def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "A.jpg"):
        write_mask(tmp_path / "data/images" / name, GREY)
    with pytest.raises(InputError, match=r"images.a\.png: two photos of one name: .*A\.jpg"):
        cut(tmp_path)


NORTH_UP = from_origin(400000, 9150000, 0.1, 0.1)


@pytest.mark.parametrize(
    ("of_mask", "off"),
    [
        (NORTH_UP, False),
        (from_origin(400000 + 0.1 * MASK_SIZE_TOLERANCE, 9150000, 0.1, 0.1), False),
        (from_origin(400000 + 5.0, 9150000, 0.1, 0.1), True),  # the tile to the east
        (from_origin(400000, 9150000, 0.05, 0.05), True),
        (Affine(0.1, 0, 400000, 0, 0.1, 9150000 - 4.0), True),  # south up
    ],
)
@pytest.mark.parametrize("kind", ["masks", "guess"])
def test_a_mask_of_other_ground_is_refused(
    tmp_path: Path, of_mask: Affine, off: bool, kind: str
) -> None:
    write_geotiff(tmp_path / "data/images/a.tif", np.ones((3, 40, 50), np.uint8))
    write_geotiff(tmp_path / "data/masks/a.tif", GREY[None])
    write_geotiff(tmp_path / "data" / kind / "a.tif", GREY[None], transform=of_mask)
    if not off:
        cut(tmp_path)
        return
    with pytest.raises(InputError, match=rf"{kind}.a\.tif: .*elsewhere.*images.a\.tif"):
        cut(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_south_up_photo_wants_a_south_up_mask(tmp_path: Path) -> None:
    south_up = Affine(0.1, 0, 400000, 0, 0.1, 9150000 - 4.0)
    write_geotiff(
        tmp_path / "data/images/a.tif", np.ones((3, 40, 50), np.uint8), transform=south_up
    )
    write_geotiff(tmp_path / "data/masks/a.tif", GREY[None])
    with pytest.raises(InputError, match="elsewhere"):
        cut(tmp_path)
    write_geotiff(tmp_path / "data/masks/a.tif", GREY[None], transform=south_up)
    assert layout(cut(tmp_path))[0]["crs"] == "EPSG:32748"


def smeared(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=80)


def test_white_of_grey_jpeg_masks_is_a_class(tmp_path: Path) -> None:
    """0 and 255 are no colours of this mapping; all masks together say what they are."""
    truth = np.zeros((64, 64), np.uint8)
    truth[10:50, 17:40] = 1
    for name in "ab":
        write_mask(tmp_path / f"data/images/{name}.png", truth)
        smeared(tmp_path / f"data/masks/{name}.jpg", truth * 255)
    (tmp_path / "data/class_mapping.csv").write_text(
        "class_name,class_color\nLand,200 30 30\nWater,20 30 200\n", encoding="utf-8"
    )
    out = cut(tmp_path)
    for row in layout(out):
        colors = np.asarray(Image.open(out / "masks" / f"{row['patch']}.png").convert("RGBA"))
        x, y = int(row["x"]), int(row["y"])
        part = truth[y : y + 32, x : x + 32]
        right = (colors[..., :3] == np.array([(200, 30, 30), (20, 30, 200)])[part]).all(axis=2)
        assert (right | (colors[..., 3] == 0)).all()
        assert (colors[..., 3] == 0).mean() < 0.1


def test_numbers_that_a_person_must_explain(tmp_path: Path) -> None:
    write_mask(tmp_path / "data/images/a.png", GREY)
    rows = ["class_name,class_color,mask_value", "Land,200 30 30,", "Water,20 30 200,"]
    mapping = tmp_path / "data/class_mapping.csv"
    mapping.write_text("\n".join(rows), encoding="utf-8")
    smeared(tmp_path / "data/masks/a.jpg", np.full((40, 50), 120, np.uint8))
    with pytest.raises(InputError, match=r"masks: its masks hold .*column mask_value"):
        cut(tmp_path)
    mapping.write_text("\n".join([*rows[:2], "Water,20 30 200,120"]), encoding="utf-8")
    patch = next((cut(tmp_path) / "masks").iterdir())
    assert np.asarray(Image.open(patch).convert("RGB"))[3, 3].tolist() == [20, 30, 200]
