"""Files that belong together and whether they lie on the same ground."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.warp import transform as warp

from salakseg.imagery.alignment import Footprint, footprint, lies_elsewhere, offsets

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = "EPSG:32633"


def utm(column: float = 0, row: float = 0, scale: float = 1) -> Affine:
    """North up, pixels of 10 cm, moved by so many of them and enlarged."""
    return Affine(0.1 * scale, 0, 5e5 + 0.1 * column, 0, -0.1 * scale, 4e6 - 0.1 * row)


NORTH_UP = utm()


def write(path: Path, transform: Affine | None, crs: str | None = UTM, side: int = 128) -> Path:
    place = {} if transform is None else {"transform": transform}
    with rasterio.open(path, "w", "GTiff", side, side, 1, dtype="uint8", crs=crs, **place) as file:
        file.write(np.zeros((1, side, side), np.uint8))
    return path


@pytest.mark.parametrize(
    ("of_mask", "crs", "side", "words"),
    [
        (NORTH_UP, UTM, 128, ""),
        (NORTH_UP, UTM, 126, ""),
        (utm(0.5, -0.5), UTM, 128, ""),
        (NORTH_UP, "+proj=utm +zone=33 +datum=WGS84 +units=m", 128, ""),
        (NORTH_UP, None, 128, ""),
        (None, UTM, 128, ""),
        (utm(128), UTM, 128, "at column 128, row 0 of it"),
        (Affine(0.1, 0, 5e5, 0, 0.1, 4e6 - 12.8), UTM, 128, "at column 0, row 128 of it"),
        (utm(scale=2), UTM, 128, "its last one at column 256, row 256"),
        (NORTH_UP, "EPSG:32634", 128, "lies elsewhere"),
    ],
)  # fmt: skip
def test_a_mask_and_its_image(
    tmp_path: Path, of_mask: Affine | None, crs: str | None, side: int, words: str
) -> None:
    image = write(tmp_path / "image.tif", NORTH_UP)
    found = lies_elsewhere(image, write(tmp_path / "mask.tif", of_mask, crs, side))
    assert words in found if words else found == ""


def test_a_mask_in_another_crs_of_the_same_ground(tmp_path: Path) -> None:
    image = write(tmp_path / "image.tif", NORTH_UP)
    ends = warp(CRS.from_string(UTM), CRS.from_epsg(4326), [5e5, 5e5 + 12.8], [4e6, 4e6 - 12.8])
    (west, east), (north, south) = ends
    # Meridians are near enough to the grid's north here: a pixel is a pixel, to a hundredth.
    degrees = Affine((east - west) / 128, 0, west, 0, (south - north) / 128, north)
    assert lies_elsewhere(image, write(tmp_path / "mask.tif", degrees, "EPSG:4326")) == ""
    moved = Affine(degrees.a, 0, west + 5 * degrees.a, 0, degrees.e, north)
    assert "column 5" in lies_elsewhere(image, write(tmp_path / "mask.tif", moved, "EPSG:4326"))


def test_pictures_without_a_place_say_nothing(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.tif").write_bytes(b"no image")
    assert footprint(tmp_path / "a.png") == footprint(tmp_path / "b.tif") == Footprint()
    with rasterio.open(tmp_path / "a.png", "r+") as file:
        file.crs, file.transform = CRS.from_string(UTM), NORTH_UP
    assert footprint(tmp_path / "a.png").pixel_size == pytest.approx(0.1, rel=1e-3)


def test_places_of_patches_in_the_image_that_they_were_cut_from() -> None:
    def cut(x: float, y: float, scale: float = 1) -> Footprint:
        return Footprint("", tuple(utm(x, y, scale))[:6], 64, 64)

    assert offsets([cut(64, 0), cut(0, 32), cut(64, 32)]) == [(64, 0), (0, 32), (64, 32)]
    assert offsets([cut(0, 0), cut(64.4, 0)]) is None
    assert offsets([cut(0, 0), cut(64, 0, 2)]) is None
    assert offsets([cut(0, 0), Footprint()]) is None
