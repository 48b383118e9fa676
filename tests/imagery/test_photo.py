"""Every photo becomes upright 8-bit RGB by one rule, whatever its format."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from salakseg.errors import InputError
from salakseg.imagery.photo import exif_orientation, read_photo, rgb8_of, to_rgb8

SAMPLE = Path(__file__).parents[1] / "samples" / "dubai" / "images" / "tile1_part001.jpg"
RANDOM = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    height, width, bands = pixels.shape
    with rasterio.open(path, "w", "GTiff", width, height, bands, dtype=pixels.dtype) as raster:
        raster.write(np.moveaxis(pixels, 2, 0))


def test_bands() -> None:
    grey = RANDOM[..., 0]
    assert np.array_equal(to_rgb8(grey), np.dstack([grey] * 3))
    assert np.array_equal(to_rgb8(RANDOM[..., :2]), np.dstack([grey] * 3))
    assert np.array_equal(to_rgb8(RANDOM), RANDOM[..., :3])


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    assert to_rgb8(values)[..., 0].tolist() == [[0, 0, 1, 1, 128, 255]]


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_values_without_a_known_scale_are_refused(dtype: type, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only 8-bit and 16-bit unsigned"):
        to_rgb8(RANDOM.astype(dtype))
    write_tiff(tmp_path / "a.tif", RANDOM.astype(dtype))
    with pytest.raises(InputError, match=r"a\.tif: its values are"):
        read_photo(tmp_path / "a.tif")


def test_a_photo_is_what_pillow_decodes() -> None:
    pixels = read_photo(SAMPLE)
    assert pixels.shape == (320, 384, 3)
    assert np.array_equal(pixels, np.asarray(Image.open(SAMPLE)))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_formats_agree(tmp_path: Path, mode: str, suffix: str) -> None:
    with Image.open(SAMPLE) as image:
        expected = image.resize((9, 6)).convert(mode)
    expected.save(tmp_path / f"a.{suffix}")
    grey_or_rgb = expected.convert("L" if mode in ("L", "LA", "1") else "RGB")
    assert np.array_equal(read_photo(tmp_path / f"a.{suffix}"), to_rgb8(np.asarray(grey_or_rgb)))


def test_sixteen_bit_grey_png_and_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 300, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert read_photo(tmp_path / name)[..., 1].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RANDOM[..., :3]).save(path, exif=exif)
    assert exif_orientation(path) == orientation
    with Image.open(path) as image:
        assert np.array_equal(read_photo(path), np.asarray(ImageOps.exif_transpose(image)))


def test_orientations_that_are_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 42
    Image.fromarray(RANDOM[..., :3]).save(tmp_path / "a.png", exif=exif)
    assert exif_orientation(tmp_path / "a.png") == 1
    assert exif_orientation(tmp_path / "gone.png") == 1


def test_a_window_is_a_part_of_the_whole(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", RANDOM)
    with rasterio.open(tmp_path / "a.tif") as raster:
        window = rgb8_of(raster, rasterio.windows.Window(2, 1, 4, 3))
    assert np.array_equal(window, read_photo(tmp_path / "a.tif")[1:4, 2:6])


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_damaged_photos_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(InputError, match=rf"a\.{suffix}: "):
        read_photo(path)
    Image.open(SAMPLE).save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20], b"", b"no image at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"a\.{suffix}: "):
            read_photo(path)
