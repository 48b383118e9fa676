"""open_image: the same pixels in any layout of the file, valid only where something was seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp

from salakseg.errors import InputError
from salakseg.imagery.raster import open_image, write_cog
from tests.rasters import GRID, write_tiff

HEIGHT, WIDTH = 70, 90


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
    bands[3, :, 50:] = 0
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


def test_values_without_a_known_scale_are_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "heights.tif", random_bands(1).astype("float32"))
    with pytest.raises(InputError, match=r"heights\.tif: its values are float32"), open_image(path):
        pass


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.tif").write_text("not an image", encoding="utf-8")
    for name, reason in (("notes.tif", "cannot be read"), ("missing.tif", "no such file")):
        with pytest.raises(InputError, match=f"{name}: .*{reason}"), open_image(tmp_path / name):
            pass


def test_a_tiff_that_was_cut_short_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "field.tif", random_bands(3), blockysize=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_image(path) as source:
        source.read(0, 0, 10, WIDTH)
        with pytest.raises(InputError, match=r"field\.tif: rows 60 to 69 cannot be read"):
            source.read(60, 0, 10, WIDTH)


def test_a_cog_has_the_same_pixels_and_overviews(tmp_path: Path) -> None:
    labels = np.kron(np.random.default_rng(0).integers(0, 3, (1, 40, 40)), np.ones((30, 30)))
    scratch = write_tiff(tmp_path / "scratch.tif", labels.astype("uint8"), nodata=255)
    write_cog(scratch, tmp_path / "map.tif", "mode")
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


def test_unreadable_blocks_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bands = random_bands(3)
    path = write_tiff(
        tmp_path / "field.tif", bands, tiled=True, blockxsize=32, blockysize=16, compress="deflate",
        interleave="pixel",
    )  # fmt: skip
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with open_image(path) as source, pytest.raises(InputError, match="--skip-unreadable"):
        source.read(0, 0, HEIGHT, WIDTH)
    with open_image(path, skip_unreadable=True) as source:
        image, valid = source.read(0, 0, HEIGHT, WIDTH)
        part, part_valid = source.read(20, 10, 45, 60)
    assert 0.4 < valid.mean() < 0.8
    np.testing.assert_array_equal(image, np.moveaxis(bands, 0, 2) * valid[..., None])
    np.testing.assert_array_equal(part, image[20:65, 10:70])
    np.testing.assert_array_equal(part_valid, valid[20:65, 10:70])
    # Each block once, whatever window met it.
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) > 1
    assert "cannot be read and is left out" in lines[0]
