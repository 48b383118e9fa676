"""open_image: the same pixels in any layout of the file, valid only where something was seen."""

import ctypes
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp

from salakseg.errors import InputError
from salakseg.imagery.photo import read_photo
from salakseg.imagery.raster import (
    GDAL_CACHE_BYTES,
    Header,
    has_place,
    header_of,
    image_size,
    open_image,
    quiet_gdal,
    write_cog,
)
from tests.rasters import GRID, write_tiff

HEIGHT, WIDTH = 70, 90
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def random_bands(count: int, dtype: str = "uint8") -> NDArray[Any]:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(1, top, (count, HEIGHT, WIDTH)).astype(dtype)


def read_whole(path: Path, nodata: float | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    with open_image(path, nodata) as source:
        image, valid = source.read(0, 0, source.height, source.width)
    assert image.dtype == np.uint8
    assert valid.dtype == np.bool_
    return image, valid


@pytest.mark.parametrize(
    "layout",
    [
        {"blockysize": 3, "compress": "lzw"},
        {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"},
        {"interleave": "band"},
        {"bigtiff": "YES"},
    ],
)
def test_a_window_is_the_same_pixels_in_any_block_layout(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    bands = random_bands(3)
    with open_image(write_tiff(tmp_path / "field.tif", bands, **layout)) as source:
        assert (source.height, source.width) == (HEIGHT, WIDTH)
        assert source.crs == rasterio.CRS.from_epsg(32748)
        assert source.transform == GRID["transform"]
        image, valid = source.read(11, 20, 40, 33)
    np.testing.assert_array_equal(image, np.moveaxis(bands, 0, 2)[11:51, 20:53])
    assert valid.all()


def test_nodata_is_only_where_all_bands_are(tmp_path: Path) -> None:
    bands = random_bands(3)
    bands[:, 5:20, :30] = 255
    bands[0, 40:] = 255  # sunlit sand
    path = write_tiff(tmp_path / "field.tif", bands, nodata=255)
    _, valid = read_whole(path)
    np.testing.assert_array_equal(valid, (bands != 255).any(axis=0))
    assert (~valid).sum() >= 15 * 30


def test_nodata_can_be_said_where_the_file_does_not(tmp_path: Path) -> None:
    bands = random_bands(3)
    bands[:, :, :10] = 0
    path = write_tiff(tmp_path / "field.tif", bands)
    assert read_whole(path)[1].all()
    np.testing.assert_array_equal(read_whole(path, nodata=0)[1], (bands != 0).any(axis=0))


def test_nodata_of_16_bit_values_is_in_their_own_scale(tmp_path: Path) -> None:
    bands = random_bands(3, "uint16")
    bands[:, :9] = 65535
    image, valid = read_whole(write_tiff(tmp_path / "field.tif", bands, nodata=65535))
    np.testing.assert_array_equal(valid, (bands != 65535).any(axis=0))
    np.testing.assert_array_equal(image, np.moveaxis(np.round(bands / 257), 0, 2))


def test_a_nodata_value_that_no_pixel_can_have_marks_none(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "field.tif", random_bands(3))
    assert read_whole(path, nodata=-9999)[1].all()


def test_alpha_is_no_colour_and_zero_in_it_is_nodata(tmp_path: Path) -> None:
    bands = random_bands(4)
    bands[3] = 255
    bands[3, :, 50:] = 0
    bands[3, :, 45:50] = (1, 60, 120, 180, 240)  # a soft edge
    path = write_tiff(tmp_path / "field.tif", bands, photometric="RGB", alpha="YES")
    image, valid = read_whole(path)
    np.testing.assert_array_equal(image, np.moveaxis(bands[:3], 0, 2))
    np.testing.assert_array_equal(valid, bands[3] > 0)


def test_an_internal_mask_is_obeyed(tmp_path: Path) -> None:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:20] = 0
    path = tmp_path / "field.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tiff(path, random_bands(3))
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(mask)
    np.testing.assert_array_equal(read_whole(path)[1], mask > 0)


def write_masked(path: Path, bands: NDArray[Any], mask: NDArray[Any], internal: bool) -> None:
    write_tiff(path, bands)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "r+") as raster,
    ):
        raster.write_mask(mask)


def test_alpha_counts_beside_a_mask_and_beside_a_nodata_tag(tmp_path: Path) -> None:
    bands = random_bands(4)
    bands[3] = 255
    bands[3, :, 50:] = 0
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:20] = 0
    for internal in (True, False):
        path = tmp_path / f"{internal}.tif"
        write_masked(path, bands, mask, internal)
        np.testing.assert_array_equal(read_whole(path)[1], (mask > 0) & (bands[3] > 0))
    bands[:3, 60:] = 9
    for nodata in (0, 255, 9):
        path = write_tiff(tmp_path / f"{nodata}.tif", bands, nodata=nodata)
        there = (bands[:3] != nodata).any(axis=0) & (bands[3] > 0)
        np.testing.assert_array_equal(read_whole(path)[1], there)


@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("kind", ["jpeg", "copied without loss", "vrt"])
def test_alpha_that_was_compressed_with_loss(tmp_path: Path, quality: int, kind: str) -> None:
    rows, columns = np.mgrid[:300, :400]
    there = (rows - 150) ** 2 + (columns - 200) ** 2 < 120**2
    bands = np.kron(random_bands(3)[:, :50, :50], np.ones((6, 8)))[:, :300] * there
    bands = np.concatenate([bands, there[None] * 255]).astype(np.uint8)
    path = write_tiff(tmp_path / "a.tif", bands, compress="jpeg", jpeg_quality=quality)
    with rasterio.open(path) as raster:
        assert raster.read(4)[~there].max() > 0
    if kind != "jpeg":
        driver = "VRT" if kind == "vrt" else "GTiff"
        rasterio.shutil.copy(path, tmp_path / "b", driver=driver)
        path = tmp_path / "b"
    np.testing.assert_array_equal(read_whole(path)[1], there)


@pytest.mark.parametrize("labelled", [True, False])
def test_near_infrared_is_no_transparency(tmp_path: Path, labelled: bool) -> None:
    bands = random_bands(4)
    bands[3] //= 2
    bands[3, 20:40, 20:60] = 0  # a lake
    path = write_tiff(tmp_path / "rgbn.tif", bands)
    with rasterio.open(path) as raster:
        assert raster.colorinterp[3] == ColorInterp.alpha  # GDAL's guess
    if labelled:
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = [*raster.colorinterp[:3], ColorInterp.nir]
    with open_image(path) as source:
        image, valid = source.read(0, 0, HEIGHT, WIDTH)
        assert any("calls its band 4 alpha" in note for note in source.notes) != labelled
    np.testing.assert_array_equal(image, np.moveaxis(bands[:3], 0, 2))
    assert valid.all()
    # Of a nodata value all four have to be.
    bands[:3, 20:30, 20:60] = 0
    path = write_tiff(tmp_path / "nodata.tif", bands, nodata=0)
    np.testing.assert_array_equal(read_whole(path)[1], (bands != 0).any(axis=0))


@pytest.mark.parametrize(("dtype", "opaque"), [("uint8", 1), ("uint16", 1), ("uint16", 4095)])
def test_alpha_need_not_be_255_where_it_is_opaque(tmp_path: Path, dtype: str, opaque: int) -> None:
    bands = random_bands(4).astype(dtype)
    bands[3] = opaque
    bands[3, :, 50:] = 0
    path = write_tiff(tmp_path / "field.tif", bands, photometric="RGB", alpha="YES")
    np.testing.assert_array_equal(read_whole(path)[1], bands[3] > 0)


def test_a_band_that_is_asked_for_is_no_alpha(tmp_path: Path) -> None:
    bands = random_bands(4)
    bands[3] = np.where(bands[3] > 99, 255, 0)
    path = write_tiff(tmp_path / "field.tif", bands)
    with open_image(path, bands=(4, 3, 2)) as source:
        image, valid = source.read(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image, np.moveaxis(bands[[3, 2, 1]], 0, 2))
    assert valid.all()


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize(("suffix", "driver"), [("tif", ""), ("jpg", "JPEG"), ("png", "PNG")])
def test_masks_in_a_file_and_beside_it(
    tmp_path: Path, internal: bool, suffix: str, driver: str
) -> None:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:20, 9:] = 0
    path = tmp_path / f"field.{suffix}"
    write_masked(tmp_path / "field.tif", random_bands(3), mask, internal)
    if driver:
        rasterio.shutil.copy(tmp_path / "field.tif", path, driver=driver)
    if suffix == "png":  # has no masks in itself
        write_masked(tmp_path / "other.tif", random_bands(3), mask, False)
        (tmp_path / "other.tif.msk").rename(tmp_path / "field.png.msk")
    np.testing.assert_array_equal(read_whole(path)[1], mask > 0)


def test_nodata_of_each_band_its_own(tmp_path: Path) -> None:
    bands = random_bands(3)
    bands[:, 10:30, 20:60] = np.array([9, 8, 7])[:, None, None]
    there = (bands != np.array([9, 8, 7])[:, None, None]).any(axis=0)
    path = write_tiff(tmp_path / "a.tif", bands)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(NODATA_VALUES="9 8 7")
    np.testing.assert_array_equal(read_whole(path)[1], there)
    write_tiff(tmp_path / "b.tif", bands)
    of_bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{10 - band}</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">b.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "b.vrt").write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{of_bands}</VRTDataset>',
        encoding="utf-8",
    )
    np.testing.assert_array_equal(read_whole(tmp_path / "b.vrt")[1], there)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nodata", [-9999, 70_000, 0.5, float("nan")])
def test_a_value_that_no_pixel_can_hold_marks_none(
    tmp_path: Path, dtype: str, nodata: float
) -> None:
    path = write_tiff(tmp_path / "field.tif", random_bands(3, dtype))
    assert read_whole(path, nodata=nodata)[1].all()


@pytest.mark.parametrize("kind", ["GeoTIFF", "photograph", "placed photograph", "vrt"])
def test_nodata_of_a_file_compressed_with_loss(tmp_path: Path, kind: str) -> None:
    rows, columns = np.mgrid[:300, :400]
    margin = 2 * rows + columns < 240
    picture = np.random.default_rng(0).integers(90, 160, (300, 400, 3)).astype(np.uint8)
    picture[margin] = 0
    path = tmp_path / ("field.tif" if kind in ("GeoTIFF", "vrt") else "field.jpg")
    if path.suffix == ".tif":
        bands = np.moveaxis(picture, 2, 0)
        write_tiff(path, bands, compress="jpeg", photometric="ycbcr", blockysize=16)
    else:
        Image.fromarray(picture).save(path, quality=75)
    if kind == "placed photograph":
        (tmp_path / "field.jgw").write_text("0.1\n0\n0\n-0.1\n4\n3\n", encoding="ascii")
    if kind == "vrt":
        rasterio.shutil.copy(path, tmp_path / "field.vrt", driver="VRT")
        path = tmp_path / "field.vrt"
    with open_image(path, nodata=0) as source:
        image, valid = source.read(0, 0, 300, 400)
        part = source.read(31, 47, 60, 100)
    noise = margin & image.any(axis=2)
    assert noise.sum() > 400
    assert (valid & margin).sum() < 0.1 * noise.sum()
    assert valid[~margin].all()
    # What a pixel is does not depend on the window that it is seen in.
    np.testing.assert_array_equal(part[0], image[31:91, 47:147])
    np.testing.assert_array_equal(part[1], valid[31:91, 47:147])


@pytest.mark.parametrize(("count", "used"), [(1, (0, 0, 0)), (2, (0, 0, 0)), (5, (0, 1, 2))])
def test_one_band_is_repeated_and_of_many_the_first_three_are_taken(
    tmp_path: Path, count: int, used: tuple[int, ...]
) -> None:
    bands = random_bands(count)
    image, _ = read_whole(write_tiff(tmp_path / "field.tif", bands, photometric="MINISBLACK"))
    np.testing.assert_array_equal(image, np.moveaxis(bands[list(used)], 0, 2))


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    bands = random_bands(1) % 3
    path = tmp_path / "field.tif"
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=HEIGHT, width=WIDTH, **GRID
    ) as raster:
        raster.write_colormap(1, {0: (1, 2, 3), 1: (40, 50, 60), 2: (255, 0, 9)})
        raster.write(bands)
        assert raster.colorinterp[0] == ColorInterp.palette
    table = np.array([(1, 2, 3), (40, 50, 60), (255, 0, 9)])
    np.testing.assert_array_equal(read_whole(path)[0], table[bands[0]])


def test_transparent_entries_of_a_palette_are_not_valid(tmp_path: Path) -> None:
    picture = Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).quantize(16)
    picture.save(tmp_path / "a.png", transparency=bytes([0, 255, 0, 128] + [255] * 12))
    there = ~np.isin(np.asarray(picture), (0, 2))
    image, valid = read_whole(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, there)
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    (tmp_path / "a.pgw").write_text("0.1\n0\n0\n-0.1\n4\n3\n", encoding="ascii")
    placed, valid = read_whole(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, there)
    np.testing.assert_array_equal(placed, image)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_is_not_valid(tmp_path: Path, mode: str) -> None:
    pixels = np.asarray(Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).convert(mode)).copy()
    key = 7 if mode == "L" else (7, 8, 9)
    pixels[pixels == 7] = 6
    pixels[10:30, 20:60] = key
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=key)
    there = np.ones((HEIGHT, WIDTH), bool)
    there[10:30, 20:60] = False
    np.testing.assert_array_equal(read_whole(tmp_path / "a.png")[1], there)


def test_a_palette_without_colours_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "classes.tif", random_bands(1))
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [ColorInterp.palette]
    with pytest.raises(InputError, match=r"classes\.tif: a palette .* colour"), open_image(path):
        pass


def test_a_photo_is_upright_and_has_no_place(tmp_path: Path) -> None:
    pixels = np.moveaxis(random_bands(3), 0, 2)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    with open_image(tmp_path / "photo.png") as source:
        assert (source.height, source.width) == (WIDTH, HEIGHT)
        assert source.crs is None
        assert source.transform is None
        image, _ = source.read(3, 4, 20, 30)
    np.testing.assert_array_equal(image, np.rot90(pixels, -1)[3:23, 4:34])


def test_transparent_pixels_of_a_photo_are_not_valid(tmp_path: Path) -> None:
    pixels = np.moveaxis(random_bands(4), 0, 2).copy()
    pixels[10:20, 10:20, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "photo.png")
    image, valid = read_whole(tmp_path / "photo.png")
    np.testing.assert_array_equal(image, pixels[..., :3])
    np.testing.assert_array_equal(valid, pixels[..., 3] > 0)


def test_a_tiff_without_place_has_neither_crs_nor_transform(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).save(path)
    with open_image(path) as source:
        assert source.crs is None
        assert source.transform is None


@pytest.mark.parametrize("dtype", ["float32", "int16", "complex64", "complex_int16"])
def test_values_without_a_known_scale_are_refused(tmp_path: Path, dtype: str) -> None:
    shape = {"count": 1, "height": HEIGHT, "width": WIDTH}
    path = tmp_path / "heights.tif"
    rasterio.open(path, "w", driver="GTiff", dtype=dtype, **shape, **GRID).close()
    with (
        pytest.raises(InputError, match=rf"heights\.tif: its values are {dtype}"),
        open_image(path),
    ):
        pass


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.tif").write_text("not an image", encoding="utf-8")
    for name, reason in (("notes.tif", "cannot be read"), ("missing.tif", "no such file")):
        with pytest.raises(InputError, match=f"{name}: .*{reason}"), open_image(tmp_path / name):
            pass


def test_a_container_of_images_is_no_image(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", random_bands(3))
    path = tmp_path / "maps.gpkg"
    for name in "ab":
        more = {} if name == "a" else {"APPEND_SUBDATASET": "YES"}
        rasterio.shutil.copy(tmp_path / "a.tif", path, driver="GPKG", raster_table=name, **more)
    with pytest.raises(InputError, match=r"maps\.gpkg: holds no image itself"), open_image(path):
        pass


# Place


def world_file(path: Path) -> None:
    path.write_text("0.1\n0\n0\n-0.1\n434000.05\n8999999.95\n", encoding="ascii")


@pytest.mark.parametrize(("suffix", "world"), [("jpg", "jgw"), ("png", "pgw"), ("png", "wld")])
def test_a_world_file_places_a_photo(tmp_path: Path, suffix: str, world: str) -> None:
    path = tmp_path / f"field.{suffix}"
    Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).save(path)
    assert not has_place(path)
    world_file(tmp_path / f"field.{world}")
    assert has_place(path)
    with open_image(path) as source:
        assert source.crs is None
        assert source.transform.almost_equals(GRID["transform"])
        image, _ = source.read(3, 4, 20, 30)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(image, np.moveaxis(raster.read(), 0, 2)[3:23, 4:34])


def test_what_lies_beside_a_photo_gives_it_a_crs(tmp_path: Path) -> None:
    path = tmp_path / "field.jpg"
    rasterio.shutil.copy(
        write_tiff(tmp_path / "a.tif", random_bands(3)), path, driver="JPEG", worldfile="YES"
    )
    with open_image(path) as source:
        assert source.crs == rasterio.CRS.from_epsg(32748)
        assert source.transform.almost_equals(GRID["transform"])


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_what_has_a_place_is_not_turned(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"field.{suffix}"
    Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).save(path, exif=exif)
    assert image_size(path) == (WIDTH, HEIGHT)
    with open_image(path) as source:
        assert (source.height, source.width, source.turned) == (WIDTH, HEIGHT, True)
    world_file(path.with_suffix({"tif": ".tfw", "jpg": ".jgw"}[suffix]))
    assert image_size(path) == (HEIGHT, WIDTH)
    with open_image(path) as source:
        assert (source.height, source.width, source.turned) == (HEIGHT, WIDTH, False)
        assert any("orientation tag is not obeyed" in note for note in source.notes)
        image, _ = source.read(0, 0, HEIGHT, WIDTH)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(image, np.moveaxis(raster.read(), 0, 2))


def test_a_header_tells_what_opening_will_do(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    picture = Image.fromarray(np.moveaxis(random_bands(3), 0, 2))
    picture.save(tmp_path / "a.jpg", exif=exif)
    picture.save(tmp_path / "a.tif", exif=exif)
    write_tiff(tmp_path / "b.tif", random_bands(3))
    write_tiff(tmp_path / "c.tif", random_bands(3).astype(np.uint16))
    turned = Header(WIDTH, HEIGHT, turned=True, whole=True)
    assert header_of(tmp_path / "a.jpg") == header_of(tmp_path / "a.tif") == turned
    assert header_of(tmp_path / "b.tif") == Header(HEIGHT, WIDTH, whole=False)
    assert header_of(tmp_path / "c.tif") == Header(HEIGHT, WIDTH, whole=False, eight_bits=False)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_tiff_without_a_place_is_turned_with_what_is_there(
    tmp_path: Path, orientation: int
) -> None:
    bands = random_bands(3)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.moveaxis(bands, 0, 2)).save(tmp_path / "a.tif", exif=exif)
    image, valid = read_whole(tmp_path / "a.tif", nodata=int(bands[0, 0, 0]))
    with Image.open(tmp_path / "a.tif") as upright:
        np.testing.assert_array_equal(image, np.asarray(ImageOps.exif_transpose(upright)))
    there = (image != bands[0, 0, 0]).any(axis=2)
    np.testing.assert_array_equal(valid, there)


def test_a_png_that_claims_to_be_vast_takes_no_memory(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
    path = tmp_path / "vast.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    with (
        open_image(path) as source,
        pytest.raises(InputError, match=r"vast\.png: rows 0 to 99 cannot be read"),
    ):
        source.read(0, 0, 100, 100)


# Bands and depth


def test_colours_are_taken_as_the_file_names_them(tmp_path: Path) -> None:
    bands = random_bands(4)
    names = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.nir]
    path = write_tiff(tmp_path / "field.tif", bands, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = names
    with open_image(path) as source:
        image, _ = source.read(0, 0, HEIGHT, WIDTH)
        assert source.notes == ("its bands 3, 2, 1 are taken for red, green and blue",)
    np.testing.assert_array_equal(image, np.moveaxis(bands[2::-1], 0, 2))
    with open_image(path, bands=(1, 2, 3)) as source:
        assert source.notes == ()
        image, _ = source.read(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image, np.moveaxis(bands[:3], 0, 2))
    np.testing.assert_array_equal(read_photo(path), np.moveaxis(bands[2::-1], 0, 2))


def test_many_bands_without_names_are_spoken_of(tmp_path: Path) -> None:
    with open_image(write_tiff(tmp_path / "field.tif", random_bands(5))) as source:
        assert "--bands takes others" in source.notes[0]


@pytest.mark.parametrize(
    ("factor", "nodata", "level"),
    [(1, 256, 255), (16, None, 4095), (39, 0, 10_000), (257, None, 65_535)],
)
def test_the_white_level_is_found_in_what_is_there(
    tmp_path: Path, factor: int, nodata: int | None, level: int
) -> None:
    bands = random_bands(3).astype(np.uint16) * factor
    if nodata is not None:
        bands[:, :40] = nodata
    path = write_tiff(tmp_path / "field.tif", bands, nodata=nodata)
    with open_image(path) as source:
        assert source.white_level == level
        assert f"16-bit values, of which {level} is full brightness" in source.notes[0]
        image, valid = source.read(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(valid, True if nodata is None else (bands != nodata).any(axis=0))
    scaled = np.moveaxis(np.floor(bands * 255.0 / level + 0.5).clip(0, 255), 0, 2)
    np.testing.assert_array_equal(image[valid], scaled[valid])
    with open_image(path, white_level=2 * level) as source:
        half, _ = source.read(0, 0, HEIGHT, WIDTH)
        assert f"they keep to {level}" in source.notes[0]
    assert np.abs(half[valid] - image[valid] / 2).max() <= 1


def test_bits_that_the_file_names_are_the_white_level(tmp_path: Path) -> None:
    dark = random_bands(3).astype(np.uint16)
    with open_image(write_tiff(tmp_path / "a.tif", dark, nbits=12)) as source:
        assert source.white_level == 4095
    four_bits = random_bands(1) // 16
    image, _ = read_whole(write_tiff(tmp_path / "b.tif", four_bits, nbits=4))
    np.testing.assert_array_equal(image[..., 0], four_bits[0] * 17)


def test_a_16_bit_png_is_not_cut_down_to_its_upper_bytes(tmp_path: Path) -> None:
    bands = random_bands(3).astype(np.uint16) * 16
    tiff = write_tiff(tmp_path / "a.tif", bands, crs=None, transform=None)
    rasterio.shutil.copy(tiff, tmp_path / "a.png", driver="PNG")
    with open_image(tmp_path / "a.png") as source:
        assert source.white_level == 4095
        image, _ = source.read(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image, np.moveaxis(np.round(bands * 255.0 / 4095), 0, 2))


@pytest.mark.skipif(sys.platform == "win32", reason="finds no symbols of other libraries")
def test_gdal_keeps_megabytes_of_blocks() -> None:
    # rasterio has no word for it: ask the library that it has loaded.
    cache = ctypes.CDLL(rasterio._base.__file__).GDALGetCacheMax64
    cache.restype = ctypes.c_longlong
    with quiet_gdal():
        assert cache() == GDAL_CACHE_BYTES == 128 << 20


def test_a_cog_has_the_same_pixels_and_overviews(tmp_path: Path) -> None:
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (1, 40, 40)), np.ones((30, 30)))
    scratch = write_tiff(tmp_path / "scratch.tif", labels.astype("uint8"), nodata=255)
    write_cog(scratch, tmp_path / "map.tif", classes=True)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.transform == GRID["transform"]
        assert raster.nodata == 255
        assert raster.overviews(1) == [2, 4]
        np.testing.assert_array_equal(raster.read(), labels)


def test_bands_are_taken_as_asked(tmp_path: Path) -> None:
    bands = random_bands(5)
    path = write_tiff(tmp_path / "field.tif", bands)
    for wanted, expected in (((5, 1, 3), bands[[4, 0, 2]]), ((4,), bands[[3, 3, 3]])):
        with open_image(path, bands=wanted) as source:
            image, _ = source.read(3, 4, 20, 30)
        np.testing.assert_array_equal(image, np.moveaxis(expected, 0, 2)[3:23, 4:34])
    photo = tmp_path / "photo.png"
    Image.fromarray(np.moveaxis(bands[:3], 0, 2)).save(photo)
    with open_image(photo, bands=(3, 2, 1)) as source:
        image, _ = source.read(0, 0, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image, np.moveaxis(bands[2::-1], 0, 2))


@pytest.mark.parametrize(
    ("bands", "message"),
    [((1, 2, 6), "has no band 6, only 5"), ((1, 2), "one or three"), ((0,), "one")],
)
def test_bands_that_are_not_there(tmp_path: Path, bands: tuple[int, ...], message: str) -> None:
    path = write_tiff(tmp_path / "field.tif", random_bands(5))
    with pytest.raises(InputError, match=message), open_image(path, bands=bands):
        pass


@pytest.mark.parametrize("placed", [False, True])
def test_a_jpeg_whose_second_half_is_zeros_is_refused(tmp_path: Path, placed: bool) -> None:
    """Decoders make up the rest: Pillow in silence, GDAL with a warning."""
    path = tmp_path / "p.jpg"
    Image.fromarray(np.moveaxis(random_bands(3), 0, 2)).save(path)
    content = path.read_bytes()
    if placed:
        (tmp_path / "p.jgw").write_text("0.1\n0\n0\n-0.1\n434000\n9000000\n")
    read_whole(path)
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))
    with pytest.raises(InputError, match=r"p\.jpg: the image cannot be read \(the file is cut off"):
        read_whole(path)
