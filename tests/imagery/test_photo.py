"""Every photo becomes upright 8-bit RGB by one rule, whatever its format."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image, ImageOps

from salakseg.errors import InputError
from salakseg.imagery.bands import to_rgb8
from salakseg.imagery.photo import ground_sampling, read_photo

SAMPLE = Path(__file__).parents[1] / "samples" / "dubai" / "images" / "tile1_part001.jpg"
RANDOM = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    height, width, bands = pixels.shape
    with rasterio.open(path, "w", "GTiff", width, height, bands, dtype=pixels.dtype) as raster:
        raster.write(np.moveaxis(pixels, 2, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_values_without_a_known_scale_are_refused(dtype: type, tmp_path: Path) -> None:
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
        assert read_photo(tmp_path / name, 65535)[..., 1].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RANDOM[..., :3]).save(path, exif=exif)
    with Image.open(path) as image:
        assert np.array_equal(read_photo(path), np.asarray(ImageOps.exif_transpose(image)))


def test_sixteen_bit_patches_of_a_set_are_read_alike(tmp_path: Path) -> None:
    for name, top in (("dark.png", 900), ("bright.png", 4000)):
        Image.fromarray(np.array([[0, 450, top]], np.uint16)).save(tmp_path / name)
    assert [
        read_photo(tmp_path / name, white_level=4095)[0, 1, 0]
        for name in ("dark.png", "bright.png")
    ] == [28, 28]


def test_what_no_memory_could_hold_is_one_line(tmp_path: Path) -> None:
    size = {"width": 40_000, "height": 40_000, "count": 3, "dtype": "uint8"}
    sparse = {"tiled": True, "sparse_ok": True, "bigtiff": "YES", "compress": "deflate"}
    rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **size, **sparse).close()
    with pytest.raises(InputError, match=r"a\.tif: 40000 × 40000 pixels are too many"):
        read_photo(tmp_path / "a.tif")


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
        (
            {"GimbalPitchDegree": "0.00", "GimbalRollDegree": "+0.00", "GimbalYawDegree": "-0.00"},
            (5472, 3078),
            "does not tell the camera's angle: all of the gimbal's are 0",
        ),
        (
            {"GimbalPitchDegree": "0.00", "GimbalYawDegree": "12.3"},
            (5472, 3078),
            "not looking down",
        ),
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


@pytest.mark.parametrize("way", ["calibrated", "sensor", "35 mm"])
@pytest.mark.parametrize(("zoom", "known"), [(0, True), (1, True), (2, False), (1.5, False)])
def test_digital_zoom_is_not_guessed_at(tmp_path: Path, way: str, zoom: float, known: bool) -> None:
    frame = {0xA002: 5472, 0xA003: 3078, 0x920A: 8.8, 0xA404: zoom}
    exif = frame | {"sensor": {0xA20E: 5472 / 13.2, 0xA210: 4}, "35 mm": {0xA405: 24}}.get(way, {})
    dji = {name: DJI[name] for name in ("RelativeAltitude", "GimbalPitchDegree")}
    path = drone_photo(tmp_path / "a.jpg", 8, 6, exif, **(DJI if way == "calibrated" else dji))
    metres, why = ground_sampling(path, 5472, 3078)
    assert (metres is not None) == known
    assert known or f"digital zoom ({zoom:g} ×)" in why


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
