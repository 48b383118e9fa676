"""The tile grid: every pixel covered, weights that sum to one, reflection at the edges."""

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.imagery.tiles import paste, plan_axis

SIZES = [1, 2, 31, 64, 65, 100, 127, 500, 1009]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5])
def test_the_weights_of_all_tiles_sum_to_one_at_every_pixel(size: int, overlap: float) -> None:
    axis = plan_axis(size, 64, overlap)
    total = np.zeros(size)
    for index in range(axis.count):
        pixels = np.arange(axis.begin(index), axis.begin(index) + 64)
        inside = (pixels >= 0) & (pixels < size)
        total[pixels[inside]] += axis.weight(index)[inside]
    np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_tiles_reach_beyond_the_image_by_less_than_half_a_stride_at_each_end(size: int) -> None:
    axis = plan_axis(size, 64, 0.25)
    before = -axis.begin(0)
    behind = axis.begin(axis.count - 1) + 64 - size
    if size >= 64:
        assert 0 <= before <= behind <= before + 1 <= axis.stride / 2 + 1


def test_an_image_as_large_as_a_tile_is_one_tile() -> None:
    axis = plan_axis(256, 256, 0.25)
    assert (axis.count, axis.start) == (1, 0)
    assert (axis.weight(0) == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_what_tiles_own_covers_the_side_once_and_in_order(size: int) -> None:
    axis = plan_axis(size, 64, 0.25)
    ends = [axis.own_begin(index) for index in range(axis.count + 1)]
    assert ends[0] == 0
    assert ends[-1] == size
    assert ends == sorted(set(ends))


def test_pixels_outside_are_reflected_without_repeating_the_edge() -> None:
    axis = plan_axis(4, 10, 0.25)
    assert axis.reflected(-3, 7).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert plan_axis(1, 4, 0).reflected(-2, 3).tolist() == [0] * 5


def test_an_overlap_of_more_than_half_is_refused() -> None:
    with pytest.raises(InputError, match="--overlap"):
        plan_axis(100, 64, 0.6)
    with pytest.raises(InputError, match="--tile"):
        plan_axis(100, 0, 0.25)


def test_what_lies_outside_is_not_pasted() -> None:
    what = np.arange(1, 10).reshape(3, 3)
    for top, left, expected in (
        (-1, -2, [[6, 0, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]]),
        (1, 2, [[0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 4, 5]]),
        (3, 0, np.zeros((3, 4))),
        (0, -3, np.zeros((3, 4))),
    ):
        onto = np.zeros((3, 4), int)
        paste(onto, what, top, left)
        np.testing.assert_array_equal(onto, expected)
