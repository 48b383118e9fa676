"""Every photo becomes upright 8-bit RGB by one rule, whatever its format."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from salakseg.errors import InputError
from salakseg.imagery.photo import exif_orientation, ground_sampling, read_photo, rgb8_of, to_rgb8

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


# Ground sampling distance


XMP = "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description {}/></x:xmpmeta>"  # as DJI writes it
DJI = {
    "RelativeAltitude": "+61.10",
    "GimbalPitchDegree": "-88.00",
    "CalibratedFocalLength": "3666.666504",
    "CalibratedOpticalCenterX": "2736.000000",
    "CalibratedOpticalCenterY": "1539.000000",
}


def drone_photo(path: Path, width: int, height: int, exif: dict[int, float], **dji: str) -> Path:
    """A JPEG with a drone's metadata."""
    tags = Image.Exif()
    tags.get_ifd(0x8769).update(exif)
    block = " ".join(f'drone-dji:{name}="{value}"' for name, value in dji.items())
    picture = Image.fromarray(np.zeros((height, width, 3), np.uint8))
    picture.save(path, exif=tags, xmp=XMP.format(block).encode())
    return path


@pytest.mark.parametrize("size", [(5472, 3078), (1368, 770), (770, 1368)])
def test_ground_sampling_of_a_whole_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    path = drone_photo(tmp_path / "a.jpg", 8, 6, {}, **DJI)
    metres, basis = ground_sampling(path, *size)
    assert metres == pytest.approx(61.1 / 3666.67 * 5472 / max(size), rel=1e-5)
    assert basis.startswith("approximate")


def test_ground_sampling_by_exif_alone(tmp_path: Path) -> None:
    # A 13.2 mm wide sensor: 8.8 mm of focal length are 3648 pixels.
    frame = {0xA002: 5472, 0xA003: 3648, 0x920A: 8.8}
    by_sensor = frame | {0xA20E: 5472 / 13.2, 0xA210: 4}
    by_35mm = frame | {0xA405: 24}
    angle = {"RelativeAltitude": "100", "GimbalPitchDegree": "-90"}
    for exif in (by_sensor, by_35mm):
        path = drone_photo(tmp_path / "a.jpg", 8, 6, exif, **angle)
        metres, _ = ground_sampling(path, 5472, 3648)
        assert metres == pytest.approx(100 / 3648, rel=0.02)
    assert ground_sampling(drone_photo(tmp_path / "a.jpg", 8, 6, {}, **angle), 8, 6)[0] is None


@pytest.mark.parametrize(
    ("change", "size", "reason"),
    [
        ({"GimbalPitchDegree": "-45"}, (5472, 3078), "not looking down"),
        ({"RelativeAltitude": "-3"}, (5472, 3078), "height of -3 m"),
        ({}, (1058, 997), "cropped or squashed"),
        ({}, (5472, 3648), "cropped or squashed"),
    ],
)
def test_ground_sampling_is_left_out_with_the_reason(
    tmp_path: Path, change: dict[str, str], size: tuple[int, int], reason: str
) -> None:
    path = drone_photo(tmp_path / "a.jpg", 8, 6, {}, **DJI | change)
    metres, why = ground_sampling(path, *size)
    assert metres is None
    assert reason in why


def test_ground_sampling_of_other_pictures() -> None:
    metres, why = ground_sampling(SAMPLE, 384, 320)
    assert metres is None
    assert "does not tell the height" in why


GEO = Path(__file__).parents[2] / "../shared/geo"


@pytest.mark.skipif(not GEO.is_dir(), reason="needs ../shared/geo")
def test_ground_sampling_of_a_real_cropped_photograph() -> None:
    metres, why = ground_sampling(GEO / "DJI_0005.JPG", 1058, 997)
    assert metres is None
    assert "1058 × 997 pixels, the camera's frame 5472 × 3078" in why
