"""Which way up a file says that it is, without looking at its pixels."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from salakseg.imagery.decode import exif_orientation, turned_upright

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
]


def oriented(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = oriented(tmp_path / f"a.{suffix}", orientation)
    assert exif_orientation(path) == orientation
    if suffix == "png":
        with Image.open(path) as image:
            upright = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(turned_upright(PIXELS, orientation), upright)


def test_orientations_that_are_none(tmp_path: Path) -> None:
    assert exif_orientation(oriented(tmp_path / "a.png", 42)) == 1
    assert exif_orientation(tmp_path / "gone.png") == 1
    for content in (b"II*\0", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0", b"no image", b""):
        (tmp_path / "a.tif").write_bytes(content)
        assert exif_orientation(tmp_path / "a.tif") == 1


def test_of_a_raster_that_pillow_cannot_open(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "region.tif"
    options = {"tiled": True, "sparse_ok": True, "bigtiff": "YES", "compress": "deflate"}
    with rasterio.open(
        path, "w", driver="GTiff", width=90_112, height=90_112, count=20, dtype="uint8", **options
    ):
        pass
    with pytest.raises(Exception, match="cannot identify"):
        Image.open(path)
    capfd.readouterr()
    assert exif_orientation(path) == 1
    assert capfd.readouterr() == ("", "")
