"""Mask files of every kind: what they store, and which pixels hold nothing."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from salakseg import masks
from salakseg.errors import InputError
from salakseg.masks import StoredMask, as_image, open_mask, packed, unpacked

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

ROWS = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
TABLE = np.array([[0, 0, 200], [100, 100, 100], [200, 0, 0], [0, 200, 0]], np.uint8)
COLORS = TABLE[ROWS]
Made = Callable[[Path], None]


def pillow(pixels: np.ndarray, palette: np.ndarray | None = None, **options: Any) -> Made:
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(bytes(palette.astype(np.uint8)))
    return lambda path: image.save(path, "PNG", **options)


def gdal(bands: np.ndarray, interpretation: tuple[str, ...] = (), **options: Any) -> Made:
    bands = bands if bands.ndim == 3 else bands[None]
    driver, table = options.pop("driver", "GTiff"), options.pop("colormap", None)

    def write(path: Path) -> None:
        count, height, width = bands.shape
        shape = (width, height, count)
        with rasterio.open(path, "w", driver, *shape, dtype=bands.dtype, **options) as raster:
            if interpretation:
                raster.colorinterp = [ColorInterp[name] for name in interpretation]
            raster.write(bands)
            if table:
                raster.write_colormap(1, table)

    return write


def read(path: Path) -> tuple[np.ndarray, np.ndarray, StoredMask]:
    """All of a mask: what it stores and where, read by single rows and as a whole."""
    with open_mask(path) as stored:
        values, valid = stored.read(0, stored.height)
        valid = np.ones(values.shape, bool) if valid is None else valid
        for row in range(stored.height):
            again, there = stored.read(row, row + 1)
            assert (again[0] == values[row]).all()
            assert (valid[row] if there is None else there[0]).tolist() == valid[row].tolist()
        return values, valid, stored


ALL = np.ones((2, 4), bool)
NOT_0, NOT_2 = ROWS != 0, ROWS != 2
FIRST_ROW = np.array([[True] * 4, [False] * 4])
ALPHA = np.where(FIRST_ROW, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("make", "kind", "valid"),
    [
        (pillow(ROWS), "grey", ALL),
        (pillow(ROWS, transparency=2), "grey", NOT_2),
        (pillow(ROWS, np.repeat(np.arange(256), 3)), "grey", ALL),
        (gdal(ROWS, colormap={n: (n, n, n, 255) for n in range(256)}), "grey", ALL),
        (pillow(np.dstack([ROWS, ALPHA])), "grey", FIRST_ROW),
        (pillow(ROWS.astype(np.uint16), transparency=2), "grey", NOT_2),
        (pillow(ROWS, TABLE), "palette", ALL),
        (pillow(ROWS, TABLE, transparency=0), "palette", NOT_0),
        (pillow(ROWS, TABLE, transparency=bytes([255, 255, 0, 9])), "palette", NOT_2),
        (gdal(ROWS, driver="PNG", nbits=2), "grey", ALL),
        (gdal(ROWS, driver="PNG", nbits=4, nodata=2), "grey", NOT_2),
        (gdal(np.stack([ROWS.astype(np.uint16), ALPHA.astype(np.uint16)]), driver="PNG"), "grey",
         FIRST_ROW),
        (gdal(ROWS, nbits=2), "grey", ALL),
        (gdal(ROWS.astype(np.int64)), "grey", ALL),
        (gdal(ROWS.astype(np.uint32), nodata=2), "grey", NOT_2),
        (gdal(np.where(NOT_2, ROWS, np.nan)), "grey", NOT_2),
        (gdal(np.where(NOT_0, ROWS.astype(np.float32), -9999), nodata=-9999), "grey", NOT_0),
        (gdal(ROWS, compress="lerc"), "grey", ALL),
        (gdal(ROWS, tiled=True, blockxsize=16, blockysize=16, nodata=0), "grey", NOT_0),
        (gdal(np.stack([ROWS, ALPHA]), ("gray", "alpha"), alpha="unspecified"), "grey", FIRST_ROW),
    ],
)  # fmt: skip
def test_numbers(tmp_path: Path, make: Made, kind: str, valid: np.ndarray) -> None:
    make(tmp_path / "m")
    values, there, stored = read(tmp_path / "m")
    assert (stored.kind, stored.width, stored.height, stored.lossy) == (kind, 4, 2, False)
    np.testing.assert_array_equal(there, valid)
    np.testing.assert_array_equal(values[valid], ROWS[valid])
    if kind == "palette":
        assert stored.palette is not None
        np.testing.assert_array_equal(unpacked(stored.palette[:4]), TABLE)


BANDS = np.moveaxis(COLORS, 2, 0)
BLUE_FIRST = ("blue", "green", "red")
NOT_BLUE = ROWS != 0


@pytest.mark.parametrize(
    ("make", "valid"),
    [
        (pillow(COLORS), ALL),
        (pillow(COLORS, transparency=(0, 0, 200)), NOT_BLUE),
        (pillow(np.dstack([COLORS, ALPHA])), FIRST_ROW),
        (gdal(BANDS), ALL),
        (gdal(BANDS.astype(np.int64)), ALL),
        (gdal(BANDS.astype(np.uint16) * 257, driver="PNG"), ALL),
        (gdal(BANDS[::-1], BLUE_FIRST), ALL),
        (gdal(np.stack([*BANDS, ALPHA])), FIRST_ROW),
        (gdal(np.stack([*BANDS, ALPHA]), photometric="RGB", alpha="no"), ALL),
        (gdal(np.stack([*BANDS, ALPHA]), nodata=0), FIRST_ROW),
        (gdal(np.where(NOT_BLUE, BANDS, 7).astype(np.uint8), nodata=7), NOT_BLUE),
    ],
)
def test_colours(tmp_path: Path, make: Made, valid: np.ndarray) -> None:
    make(tmp_path / "m")
    values, there, stored = read(tmp_path / "m")
    assert stored.has_colors and not stored.lossy
    np.testing.assert_array_equal(there, valid)
    np.testing.assert_array_equal(unpacked(values[valid]), COLORS[valid])


@pytest.mark.parametrize(
    "make",
    [
        pillow(ROWS % 2 == 1),
        pillow(ROWS % 2, np.array([[0, 0, 0], [255, 255, 255]])),
        pillow(1 - ROWS % 2, np.array([[255, 255, 255], [0, 0, 0]])),
        gdal(ROWS % 2, nbits=1),
        gdal(ROWS % 2, nbits=1, driver="PNG"),
        gdal(1 - ROWS % 2, nbits=1, photometric="miniswhite"),
    ],
)
def test_black_and_white_alone_are_0_and_1(tmp_path: Path, make: Made) -> None:
    make(tmp_path / "m")
    values, _, stored = read(tmp_path / "m")
    assert (stored.kind, stored.palette) == ("1-bit", None)
    np.testing.assert_array_equal(values, ROWS % 2)


def test_compression_that_smears_is_told(tmp_path: Path) -> None:
    large = np.kron(ROWS, np.ones((16, 16), np.uint8))
    Image.fromarray(large).save(tmp_path / "a.jpg")
    gdal(np.stack([large] * 3), photometric="YCBCR", compress="jpeg")(tmp_path / "b.tif")
    for name in ("a.jpg", "b.tif"):
        with open_mask(tmp_path / name) as stored:
            assert stored.lossy


def test_gdals_own_mask_and_a_palette_without_colours(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", "GTiff", 4, 2, 1, dtype="uint8") as raster,
    ):
        raster.colorinterp = [ColorInterp.palette]
        raster.write(ROWS, 1)
        raster.write_mask(FIRST_ROW)
    values, valid, stored = read(path)
    assert (stored.kind, stored.palette) == ("grey", None)
    np.testing.assert_array_equal(valid, FIRST_ROW)
    np.testing.assert_array_equal(values, ROWS)


def claims(path: Path, width: int, height: int) -> None:
    """A PNG whose header claims a size, and whose pixels are none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    path.write_bytes(masks.PNG_START + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: claims(path, 90_000, 90_000), "cannot be read .*8100000000 pixels"),
        (lambda path: claims(path, 60_000, 60_000), "60000×60000 pixels are too many to decode"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"II*\0" + b"\xff" * 60), "cannot be read"),
        (gdal(np.full((2, 4), 0.5)), "numbers that are not whole hold no class colours"),
        (gdal(ROWS.astype(np.complex64)), "complex64 values hold no class colours or numbers"),
        (gdal(np.stack([ROWS] * 2)), "2 bands of uint8 hold no class colours or numbers"),
        (gdal(np.stack([ROWS] * 4), photometric="CMYK"), "CMYK images hold no class colours"),
        (lambda path: Image.new("CMYK", (4, 2)).save(path, "JPEG"), "'CMYK' hold no class colours"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_holds_no_classes_is_one_line(tmp_path: Path, make: Made, message: str) -> None:
    make(tmp_path / "m")
    with (
        pytest.raises(InputError, match=f"m: .*{message}") as caught,
        open_mask(tmp_path / "m") as m,
    ):
        m.read(0, m.height)
    assert "\n" not in str(caught.value)


def test_damage_behind_the_header_is_told_by_its_cause(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    gdal(noise, compress="deflate")(tmp_path / "whole.tif")
    (tmp_path / "m.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:2000])
    with open_mask(tmp_path / "m.tif") as stored, pytest.raises(InputError) as caught:
        stored.read(0, 64)
    assert str(caught.value).startswith(f"{tmp_path / 'm.tif'}: the mask cannot be read")
    assert "previous exception" not in str(caught.value)


def test_an_orientation_tag_is_not_obeyed_but_told(tmp_path: Path) -> None:
    image = Image.fromarray(ROWS)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "m.png", exif=exif)
    values, _, stored = read(tmp_path / "m.png")
    assert stored.turned
    np.testing.assert_array_equal(values, ROWS)


@pytest.mark.parametrize("valid", [None, NOT_2, FIRST_ROW])
@pytest.mark.parametrize(
    ("values", "kind", "palette"),
    [
        (ROWS, "grey", None),
        (ROWS.astype(np.int32) + 300, "grey", None),
        (ROWS, "palette", packed(TABLE)),
        (ROWS % 2, "1-bit", None),
        (packed(COLORS), "RGB", None),
        (np.arange(256, dtype=np.uint8).reshape(2, 128), "palette", packed(np.eye(256, 3) * 9)),
    ],
)
def test_a_part_of_a_mask_as_png_stores_the_same(
    tmp_path: Path, values: np.ndarray, kind: str, palette: Any, valid: np.ndarray | None
) -> None:
    if valid is not None:
        valid = np.resize(valid, values.shape)
    of = StoredMask(values.shape[1], 2, kind, lambda top, bottom: (values, valid), palette)
    image, options = as_image(values, valid, of)
    image.save(tmp_path / "m.png", **options)
    again, there, stored = read(tmp_path / "m.png")
    np.testing.assert_array_equal(there, np.ones(values.shape, bool) if valid is None else valid)
    np.testing.assert_array_equal(again[there], values[there])
    assert stored.has_colors == of.has_colors
    if kind == "palette" and values.max() < 200:
        assert stored.palette is not None and palette is not None
        np.testing.assert_array_equal(stored.palette[:4], palette[:4])


def test_where_all_small_numbers_are_in_use_nothing_gets_a_larger_one(tmp_path: Path) -> None:
    values = np.arange(512, dtype=np.uint8).reshape(2, 256)
    valid = np.array([[True] * 256, [False] * 256])
    of = StoredMask(256, 2, "grey", lambda top, bottom: (values, valid))
    image, options = as_image(values, valid, of)
    image.save(tmp_path / "m.png", **options)
    again, there, _ = read(tmp_path / "m.png")
    np.testing.assert_array_equal(there, valid)
    np.testing.assert_array_equal(again[0], values[0])


def test_what_other_programs_leave_out_is_what_holds_nothing(tmp_path: Path) -> None:
    """255 where it is free; and beside nothing a bit stays one."""
    valid = np.resize([True, False], ROWS.shape)
    for kind, values in (("grey", ROWS), ("1-bit", ROWS % 2)):
        of = StoredMask(4, 2, kind, lambda top, bottom, values=values: (values, valid))
        image, options = as_image(values, valid, of)
        image.save(tmp_path / "m.png", **options)
        again, there, stored = read(tmp_path / "m.png")
        np.testing.assert_array_equal(there, valid)
        np.testing.assert_array_equal(again[there], values[there])
        assert stored.kind == kind
        if kind == "grey":
            assert (np.asarray(Image.open(tmp_path / "m.png"))[~valid] == 255).all()


def test_a_transparent_level_of_one_bit_holds_nothing(tmp_path: Path) -> None:
    for level in (0, 1):
        Image.fromarray(ROWS % 2 == 1).save(tmp_path / "m.png", transparency=level)
        values, valid, stored = read(tmp_path / "m.png")
        assert stored.kind == "1-bit"
        np.testing.assert_array_equal(values, ROWS % 2)
        np.testing.assert_array_equal(valid, level != ROWS % 2)


def test_the_number_that_stands_for_nothing_is_told(tmp_path: Path) -> None:
    made: list[tuple[Made, float | None]] = [
        (pillow(ROWS), None),
        (pillow(ROWS, transparency=2), 2),
        (gdal(ROWS, nodata=0), 0),
        (gdal(ROWS), None),
    ]
    for make, nothing in made:
        make(tmp_path / "m")
        assert read(tmp_path / "m")[2].nothing == nothing


def test_a_jpeg_mask_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8) * 255
    Image.fromarray(noise).save(tmp_path / "m.jpg")
    content = (tmp_path / "m.jpg").read_bytes()
    (tmp_path / "m.jpg").write_bytes(content[:-900] + bytes(900))
    with pytest.raises(InputError, match=r"m\.jpg: the mask cannot be read .*cut off"):
        read(tmp_path / "m.jpg")


def test_what_is_no_image_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    with pytest.raises(InputError) as raised, open_mask(path):
        pass
    assert str(raised.value) == (
        f"{path}: the mask cannot be read (cannot identify image file {str(path)!r})"
    )
