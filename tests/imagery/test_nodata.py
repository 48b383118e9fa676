"""What is not there: told from what is, and filled with the mean colour."""

import io

import numpy as np
import pytest
from PIL import Image

from salakseg.errors import InputError
from salakseg.imagery.nodata import (
    COLLAR,
    filled,
    is_alpha,
    near_solid,
    opaque_from,
    require_nodata,
)


def test_nodata_pixels_take_the_mean_colour_of_the_others() -> None:
    image = np.array([[[10, 0, 7], [20, 0, 7]], [[32, 9, 7], [250, 250, 250]]], np.uint8)
    before = image.copy()
    valid = np.array([[True, True], [True, False]])
    tile = filled(image, valid)
    np.testing.assert_array_equal(tile[1, 1], (21, 3, 7))
    np.testing.assert_array_equal(tile[valid], image[valid])
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(filled(image, np.ones((2, 2), bool)), image)


def test_where_nothing_is_valid_the_image_stays() -> None:
    image = np.full((2, 2, 3), 9, np.uint8)
    np.testing.assert_array_equal(filled(image, np.zeros((2, 2), bool)), image)


RNG = np.random.default_rng(0)
GROUND = RNG.integers(0, 256, (3, 1000))


@pytest.mark.parametrize(
    ("band", "alpha"),
    [
        (np.repeat([0, 255], 500), True),
        (np.full(1000, 255), True),
        (np.concatenate([np.zeros(300), np.linspace(0, 255, 200), np.full(500, 255)]), True),
        (np.concatenate([RNG.integers(0, 20, 500), RNG.integers(236, 256, 500)]), True),
        (RNG.integers(1, 200, 1000), False),  # infrared
        (np.where(np.arange(1000) < 950, 0, 120), False),  # of a lake and its shore
        (RNG.integers(0, 19, 1000), False),  # of a lake
    ],
)
def test_alpha_is_told_from_near_infrared(band: np.ndarray, alpha: bool) -> None:
    assert is_alpha(band, GROUND, 255) == alpha
    assert is_alpha(band * 257, GROUND, 65_535) == alpha


def test_an_empty_tile_is_transparent() -> None:
    assert is_alpha(np.zeros(9), np.zeros((3, 9)), 255)


def test_soft_edges_are_there_and_what_compression_left_is_not() -> None:
    soft = np.concatenate([np.zeros(300), np.linspace(0, 255, 200), np.full(500, 255)])
    assert opaque_from(soft, 255, lossy=False) == 1
    assert opaque_from(soft, 255, lossy=True) == 128
    # Copied into a file without loss.
    smeared = np.concatenate([RNG.integers(0, 20, 500), RNG.integers(236, 256, 500)])
    assert opaque_from(smeared, 255, lossy=False) == 128


@pytest.mark.parametrize("quality", [50, 70, 90])  # at 70, black comes back as 1
@pytest.mark.parametrize("mark", [0, 255])
def test_a_margin_is_found_again_after_jpeg(quality: int, mark: int) -> None:
    rows, columns = np.mgrid[:200, :240]
    margin = 2 * rows + columns < 160
    picture = RNG.integers(100, 140, (200, 240, 3)).astype(np.uint8)
    picture[150:154, 200:204] = mark  # a shadow, or a glint
    picture[margin] = mark
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    values = np.moveaxis(np.asarray(Image.open(buffer)), 2, 0)
    marks = np.full((3, 1, 1), mark, np.uint8)
    exact = (values == marks).all(axis=0)
    found = near_solid(values, marks)
    assert (margin & ~exact).sum() > 200
    assert (margin & ~found).sum() < 0.35 * (margin & ~exact).sum()
    assert not (found & ~margin)[rows + columns > 170].any()
    # A window sees the same, if it sees as far.
    part = near_solid(values[:, 20:120, 10:150], marks)
    inside = np.s_[COLLAR : 100 - COLLAR, COLLAR : 140 - COLLAR]
    np.testing.assert_array_equal(part[inside], found[20:120, 10:150][inside])


def test_without_a_solid_margin_nothing_is_near_it() -> None:
    dark = RNG.integers(0, 12, (3, 60, 60)).astype(np.uint8)
    assert not near_solid(dark, np.zeros((3, 1, 1), np.uint8)).any()


@pytest.mark.parametrize("value", [-1, 65_536, 1.5, float("nan"), float("inf")])
def test_a_value_that_no_pixel_can_hold_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"^--nodata \S+: no pixel can hold it"):
        require_nodata(value)
    for usual in (None, 0, 255, 65_535.0):
        require_nodata(usual)
