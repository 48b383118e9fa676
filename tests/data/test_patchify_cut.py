"""What is not there stays so in patches: transparent, and without a class in every kind of mask."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import ClassMapping, read_mask
from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.patchify import patchify
from salakseg.imagery.raster import open_image
from tests.data.cutting import (
    MAPPING,
    QUIET,
    SAMPLES,
    layout,
    reassembled,
    write_geotiff,
    write_mask,
)

pytestmark = QUIET
GONE = np.zeros((100, 120), bool)
GONE[:, 70:] = True
GONE[40:44, 3:9] = True
ROWS = np.random.default_rng(0).integers(0, 6, (10, 12)).astype(np.uint8)
ROWS = ROWS.repeat(10, 0).repeat(10, 1)


def with_nodata(path: Path) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(1, 256, (3, 100, 120), dtype=np.uint8)
    pixels[:, GONE] = 0
    write_geotiff(path, pixels, nodata=0)
    return pixels


def alpha_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))[..., 3]


def test_nodata_is_transparent_in_patches(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pixels = with_nodata(tmp_path / "data/images/a.tif")
    counts = patchify(tmp_path / "data", out=tmp_path / "out", size=50, num_workers=1)
    assert counts["nodata"] == 2  # the last column of patches, which begins at 70
    modes = {path.name[8:15]: Image.open(path).mode for path in (tmp_path / "out/images").iterdir()}
    assert modes == {"000_000": "RGBA", "000_001": "RGBA", "001_000": "RGB", "001_001": "RGBA"}
    alpha = reassembled(tmp_path / "out", "images", alpha_of)["a"]
    assert ((alpha[:, :100] == 0) == GONE[:, :100]).all()
    with open_image(tmp_path / "out/images/a_patch_000_000.png") as patch:
        back, valid = patch.read(0, 0, 50, 50)
    assert np.array_equal(valid, ~GONE[:50, :50])
    assert np.array_equal(back[valid], np.moveaxis(pixels, 0, 2)[:50, :50][valid])
    assert not back[~valid].any()
    assert "nodata in part: transparent there, and without a class" in capsys.readouterr().out


def write_kind(path: Path, kind: str) -> None:
    """ROWS as a mask, whichever way it is stored."""
    table = np.array([color for _, color, _ in MAPPING.rows], np.uint8)
    if kind == "rgb":
        write_mask(path, table[ROWS])
    elif kind == "palette":
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(ROWS)
        image.putpalette(table.tobytes())
        image.save(path)
    elif kind == "grey16":
        write_mask(path, ROWS.astype(np.uint16))
    else:
        write_mask(path, ROWS)


@pytest.mark.parametrize("kind", ["rgb", "palette", "grey", "grey16"])
def test_what_is_not_there_has_no_class(tmp_path: Path, kind: str) -> None:
    with_nodata(tmp_path / "data/images/a.tif")
    write_kind(tmp_path / "data/masks/a.png", kind)
    shutil.copytree(tmp_path / "data/masks", tmp_path / "data/guess")
    patchify(tmp_path / "data", out=tmp_path / "out", size=50, num_workers=1)
    whole = read_mask(tmp_path / "data/masks/a.png", MAPPING).labels
    for part in ("masks", "guess"):
        back = reassembled(tmp_path / "out", part, lambda path: read_mask(path, MAPPING).labels)
        expected = np.where(GONE, 255, whole)
        assert np.array_equal(back["a"][:, :100], expected[:, :100])
    if kind == "grey":  # what most programs leave out
        stored = reassembled(tmp_path / "out", "masks", lambda path: np.asarray(Image.open(path)))
        assert (stored["a"][:, :100][GONE[:, :100]] == 255).all()


@pytest.mark.parametrize("black_and_white", [True, False])
def test_one_bit_masks_stay_what_they_are(tmp_path: Path, black_and_white: bool) -> None:
    """Beside nodata a bit is not enough; the patches of one mask must still be read alike."""
    colors = ((255, 255, 255), (0, 0, 0)) if black_and_white else ((200, 30, 30), (0, 0, 255))
    mapping = ClassMapping((("House", colors[0], False), ("Other", colors[1], False)))
    with_nodata(tmp_path / "data/images/a.tif")
    write_mask(tmp_path / "data/masks/a.png", ROWS > 2)
    patchify(tmp_path / "data", out=tmp_path / "out", size=32, num_workers=1)
    modes = {Image.open(path).mode for path in (tmp_path / "out/masks").iterdir()}
    assert modes == {"1", "P"}
    whole = read_mask(tmp_path / "data/masks/a.png", mapping)
    back = reassembled(tmp_path / "out", "masks", lambda path: read_mask(path, mapping).labels)
    assert np.array_equal(back["a"][:, :64], np.where(GONE, 255, whole.labels)[:, :64])


def test_index_counts_only_what_is_there(tmp_path: Path) -> None:
    with_nodata(tmp_path / "data/images/a.tif")
    shutil.copy(SAMPLES / "images" / "tile1_part001.jpg", tmp_path / "data/images")
    write_kind(tmp_path / "data/masks/a.png", "grey")
    shutil.copy(SAMPLES / "masks" / "tile1_part001.png", tmp_path / "data/masks")
    shutil.copy(SAMPLES / "class_mapping.csv", tmp_path / "data")
    patchify(tmp_path / "data", out=tmp_path / "out", size=50, num_workers=1)
    index(tmp_path / "out", out=tmp_path / "index", num_workers=1, val_split=0.5)
    patches = read_index(tmp_path / "index").patches
    counts = patches[patches["base_image"] == "a"]["ignored"].tolist()
    void = MAPPING.row_to_index[ROWS] == 255
    assert counts == [
        int((GONE | void)[y : y + 50, x : x + 50].sum()) for y in (0, 50) for x in (0, 50)
    ]


def test_options_take_bands_and_nodata(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 256, (5, 64, 64), dtype=np.uint8)
    pixels[:, :20] = 9
    write_geotiff(tmp_path / "data/images/a.tif", pixels)
    patchify(
        tmp_path / "data", out=tmp_path / "out", size=64, bands="4,3,2", nodata=9, num_workers=1
    )
    with Image.open(tmp_path / "out/images/a_patch_000_000.png") as image:
        patch = np.asarray(image)
    assert patch.shape == (64, 64, 4) and not patch[:20].any() and (patch[20:, :, 3] == 255).all()
    assert np.array_equal(patch[20:, :, :3], np.moveaxis(pixels[[3, 2, 1], 20:], 0, 2))
    assert [row["patch"] for row in layout(tmp_path / "out")] == ["a_patch_000_000"]


def test_a_guess_a_pixel_short_is_cropped_with_the_others(tmp_path: Path) -> None:
    with_nodata(tmp_path / "data/images/a.tif")
    write_mask(tmp_path / "data/masks/a.png", ROWS)
    write_mask(tmp_path / "data/guess/a.png", ROWS[:99, :119])
    patchify(tmp_path / "data", out=tmp_path / "out", size=50, num_workers=1)
    back = [
        reassembled(tmp_path / "out", kind, lambda path: read_mask(path, MAPPING).labels)["a"]
        for kind in ("masks", "guess")
    ]
    assert np.array_equal(*back) and (back[0][99:] == 7).all() and (back[0][:99, :70] != 7).all()
