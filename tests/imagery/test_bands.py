"""Which bands are the colours, and what 16-bit values become."""

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.imagery.bands import colour_bands, require_known_scale, to_rgb8, white_level_of

RANDOM = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


def test_one_band_is_repeated_and_of_many_the_first_three_are_taken() -> None:
    grey = RANDOM[..., 0]
    assert np.array_equal(to_rgb8(grey), np.dstack([grey] * 3))
    assert np.array_equal(to_rgb8(RANDOM[..., :2]), np.dstack([grey] * 3))
    assert np.array_equal(to_rgb8(RANDOM), RANDOM[..., :3])


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.arange(65536, dtype=np.uint16)[None]
    assert np.array_equal(to_rgb8(values)[..., 0], np.round(values / 257))
    assert to_rgb8(values[:, ::1000], 4095)[0, :6, 0].tolist() == [0, 62, 125, 187, 249, 255]
    # 4-bit grey.
    assert to_rgb8(np.array([[0, 1, 15]], np.uint8), 15)[..., 0].tolist() == [[0, 17, 255]]


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32", "complex_int16", "int8"])
def test_values_without_a_known_scale_are_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=f"its values are {dtype}; only 8-bit and 16-bit"):
        require_known_scale(dtype)


@pytest.mark.parametrize(
    ("top", "level"),
    [
        (255, 255),
        (256, 255),  # ArcGIS' nodata of 8 bits in 16
        (900, 1023),
        (4064, 4095),
        (4120, 4095),  # overshot in resampling
        (9906, 10_000),
        (16_000, 16_383),
        (20_000, 65_535),
        (65_535, 65_535),
    ],
)
def test_the_white_level_is_the_least_usual_one_that_the_values_keep_to(
    top: int, level: int
) -> None:
    values = np.linspace(0, top, 5000).astype(np.uint16)
    assert white_level_of(values) == level
    # Some glints are no reason for another level, a bright field is.
    values[:4] = 65_535
    assert white_level_of(values) == level
    values[:50] = 65_535
    assert white_level_of(values) == 65_535


def test_no_values_have_the_level_of_their_type() -> None:
    assert white_level_of(np.zeros(0, np.uint16)) == 65_535


@pytest.mark.parametrize(
    ("names", "alpha", "expected"),
    [
        ("gray", None, (1,)),
        ("gray alpha", 2, (1,)),
        ("gray undefined", None, (1,)),
        ("red green blue", None, (1, 2, 3)),
        ("blue green red", None, (3, 2, 1)),
        ("alpha red green blue", 1, (2, 3, 4)),
        ("blue green red nir rededge", None, (3, 2, 1)),
        ("alpha undefined undefined undefined", 1, (2, 3, 4)),
        ("gray undefined undefined undefined undefined", None, (1, 2, 3)),
        ("nir red green", None, (1, 2, 3)),
    ],
)
def test_colours_are_taken_by_their_names_and_else_in_their_order(
    names: str, alpha: int | None, expected: tuple[int, ...]
) -> None:
    assert colour_bands(names.split(), alpha) == expected
