"""Rasters of more than three bands: which band is which, what is there, and patches of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from salakseg.band_set import Band, BandSet
from salakseg.errors import InputError
from salakseg.imagery.multiband import band_set_of, decoded_bands, encoded
from salakseg.imagery.raster import ImageSource, open_image
from tests.multispectral import CAMERA, ground, write_bands

SET = BandSet(
    (
        Band("red", 3, 0, 2550),
        Band("green", 2, 0, 2550),
        Band("blue", 1, 0, 1275),
        Band("nir", 5, 0, 5100),
    ),
    5,
)
FACTORS = np.array([10, 10, 5, 20])


def read_all(source: ImageSource) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    return source.read(0, 0, source.height, source.width)


def expected(values: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.moveaxis(values[[2, 1, 0, 4]], 0, 2) / FACTORS
    return found.clip(0, 255)


def test_bands_come_in_the_order_of_the_set_by_its_scale(tmp_path: Path) -> None:
    values, _ = ground(0, 80)
    path = write_bands(tmp_path / "field.tif", values.astype(np.uint16))
    with open_image(path, band_set=SET) as source:
        pixels, valid = read_all(source)
        part, _ = source.read(11, 7, 20, 30)
        shown = source.shown(pixels)
    assert pixels.dtype == np.uint8 and pixels.shape == (80, 80, 4) and valid.all()
    assert np.abs(pixels - expected(np.trunc(values))).max() <= 0.501
    np.testing.assert_array_equal(part, pixels[11:31, 7:37])
    np.testing.assert_array_equal(shown, pixels[..., :3])
    assert source.notes == () and source.crs is not None


def test_the_same_ground_is_the_same_whatever_the_order_type_and_unit(tmp_path: Path) -> None:
    values, _ = ground(0, 80)
    with open_image(
        write_bands(tmp_path / "a.tif", values.astype(np.uint16)), band_set=SET
    ) as source:
        pixels, _ = read_all(source)
    turned = write_bands(tmp_path / "b.tif", np.trunc(values[::-1]) / 10_000, CAMERA[::-1])
    with rasterio.open(turned, "r+") as raster:
        raster.scales = (10_000,) * 5
    with open_image(turned, band_set=SET) as source:
        others, _ = read_all(source)
        assert source.notes == (
            "its bands 3,4,5,1 are taken for red, green, blue, nir, by their names",
        )
    assert np.abs(pixels.astype(int) - others).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "mark"),
    [
        ("uint16", 0),
        ("uint16", 65535),
        ("float32", -10_000),
        ("float32", np.nan),
        ("int16", -32_767),
    ],
)
def test_nodata_of_each_type(tmp_path: Path, dtype: str, mark: float) -> None:
    values = ground(0, 64)[0].astype(dtype)
    values[:, :10] = mark
    path = write_bands(tmp_path / "field.tif", values, nodata=mark)
    with open_image(path, band_set=SET) as source:
        assert read_all(source)[1].tolist() == [[row >= 10] * 64 for row in range(64)]


def test_one_taken_band_without_a_value_is_enough_where_none_is_like_it(tmp_path: Path) -> None:
    values = ground(0, 64)[0]
    values[4, :10] = -10_000  # no height
    values[3, 10:20] = -10_000  # of a band that is not taken
    values[2, 30] = np.nan
    path = write_bands(tmp_path / "a.tif", values, nodata=-10_000)
    with open_image(path, band_set=SET) as source:
        valid = read_all(source)[1]
    assert np.flatnonzero(~valid.all(1)).tolist() == [*range(10), 30]
    dark = ground(0, 64)[0].astype(np.uint16)
    dark[4, :10] = 0  # deep water
    with open_image(write_bands(tmp_path / "b.tif", dark, nodata=0), band_set=SET) as source:
        assert read_all(source)[1].all()


def test_nodata_that_the_user_says(tmp_path: Path) -> None:
    values = ground(0, 64)[0]
    values[:, :10] = -32_767
    path = write_bands(tmp_path / "field.tif", values)
    with open_image(path, nodata=-32_767, band_set=SET) as source:
        assert (~read_all(source)[1]).sum() == 640


def test_alpha_is_no_band(tmp_path: Path) -> None:
    values, _ = ground(0, 64)
    there = np.ones((64, 64), bool)
    there[:10] = False
    for dtype in (np.uint16, np.float32):
        path = write_bands(tmp_path / "field.tif", values.astype(dtype), None, there)
        with open_image(path, band_set=SET) as source:  # five bands, as in training
            np.testing.assert_array_equal(read_all(source)[1], there)


def test_near_infrared_that_is_called_alpha_is_a_band_where_the_user_says_so(
    tmp_path: Path,
) -> None:
    bands = np.random.default_rng(0).integers(1, 255, (4, 64, 64)).astype(np.uint8)
    bands[3, :10] = 0
    path = write_bands(tmp_path / "field.tif", bands, None, photometric="RGB", alpha="YES")
    plain = BandSet(tuple(Band(f"band {n}", n, 0, 255) for n in (1, 2, 3, 4)), 4)
    with open_image(path, bands=(1, 2, 3, 4), band_set=plain) as source:
        pixels, valid = read_all(source)
    np.testing.assert_array_equal(pixels, np.moveaxis(bands, 0, 2))
    assert valid.all()
    # It need not be said again: by its values it is none.
    with open_image(path, band_set=plain) as source:
        np.testing.assert_array_equal(read_all(source)[0], pixels)
        assert source.notes[0].endswith("by their numbers, as in training")


def test_bands_of_a_vrt_may_be_of_different_types(tmp_path: Path) -> None:
    values, _ = ground(0, 64)
    height = np.linspace(100, 120, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    write_bands(tmp_path / "colours.tif", values[:3].astype(np.uint16), CAMERA[:3])
    write_bands(tmp_path / "height.tif", height, ("height",))
    sources = [("colours", n, "UInt16") for n in (1, 2, 3)] + [("height", 1, "Float32")]
    text = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{place}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>{band}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for place, (name, band, kind) in enumerate(sources, 1)
    )
    path = tmp_path / "stack.vrt"
    path.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="64">{text}</VRTDataset>')
    scales = ((0, 2550), (0, 2550), (0, 2550), (100, 120))
    bands = BandSet(tuple(Band(f"band {n}", n, *scale) for n, scale in enumerate(scales, 1)), 4)
    with open_image(path, band_set=bands) as source:
        pixels, valid = read_all(source)
    assert valid.all() and pixels[0, 0, 3] == 0 and pixels[-1, -1, 3] == 255
    assert np.abs(pixels[..., 0] - (values[0] / 10).clip(0, 255)).max() <= 0.55


def test_which_band_is_which_must_be_known(tmp_path: Path) -> None:
    values, _ = ground(0, 64)
    path = write_bands(tmp_path / "field.tif", values[:4], None)
    with (
        pytest.raises(
            InputError, match=r"field.tif: does not say which of its bands is red, green"
        ),
        open_image(path, band_set=SET),
    ):
        pass
    with open_image(path, bands=(4, 3, 2, 1), band_set=SET) as source:
        pixels, _ = read_all(source)
    assert np.abs(pixels[..., 3] - (values[0] / 20).clip(0, 255)).max() <= 0.55


def test_a_patch_comes_back_as_it_went_and_says_what_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 4)).astype(np.uint8)
    valid = np.ones((50, 60), bool)
    whole = decoded_bands(encoded(pixels, valid, SET))
    np.testing.assert_array_equal(np.moveaxis(whole, 0, 2), pixels)
    valid[:9] = False
    content = encoded(pixels, valid, SET)
    assert content == encoded(pixels, valid, SET)
    (tmp_path / "patch.tif").write_bytes(content)
    with rasterio.open(tmp_path / "patch.tif") as raster:
        assert band_set_of(raster) == SET
        assert raster.descriptions == ("red", "green", "blue", "nir", "alpha")
        assert raster.scales[3] * 255 + raster.offsets[3] == 5100
    with open_image(tmp_path / "patch.tif", band_set=SET) as source:
        again, there = read_all(source)
        assert source.notes == ()
    np.testing.assert_array_equal(there, valid)
    np.testing.assert_array_equal(again[valid], pixels[valid])
    assert not decoded_bands(content)[:, :9].any()


def test_a_patch_is_seen_by_another_scale_in_its_true_values(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 4)).astype(np.uint8)
    (tmp_path / "patch.tif").write_bytes(encoded(pixels, np.ones((50, 60), bool), SET))
    double = BandSet(tuple(Band(b.name, b.number, b.low, 2 * b.high) for b in SET.bands), 5)
    with open_image(tmp_path / "patch.tif", band_set=double) as source:
        assert np.abs(read_all(source)[0] - pixels / 2).max() <= 0.5


def test_blocks_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    values = ground(0, 128)[0].astype(np.uint16)
    path = write_bands(tmp_path / "field.tif", values, tiled=True, blockxsize=64, blockysize=64)
    path.write_bytes(path.read_bytes()[:-20_000])
    with (
        pytest.raises(InputError, match="cannot be read"),
        open_image(path, band_set=SET) as source,
    ):
        read_all(source)
    with open_image(path, skip_unreadable=True, band_set=SET) as source:
        pixels, valid = read_all(source)
    assert 0 < valid.mean() < 1 and pixels.shape == (128, 128, 4)
