"""Allocation, and a draw that is the same however the map is read."""

import numpy as np
import pytest
from numpy.typing import NDArray

from salakseg.assessment.sampling import Draw, allocate
from tests.assessment.samples import labels_of

BIG = np.full(4, 10**6)


def test_allocation_is_proportional_with_a_minimum() -> None:
    weights = np.array([0.7, 0.2, 0.09, 0.01])
    assert allocate(weights, BIG, 300, 30).tolist() == [187, 53, 30, 30]
    assert allocate(weights, BIG, 1000, 0).tolist() == [700, 200, 90, 10]


@pytest.mark.parametrize("points", [8, 100, 119, 333])
def test_all_points_are_given_out(points: int) -> None:
    counts = allocate(np.array([0.61, 0.23, 0.11, 0.05]), BIG, points, 30)
    assert counts.sum() == points and counts.min() >= max(2, min(30, points // 8))


def test_no_stratum_gets_more_points_than_it_has_pixels() -> None:
    sizes = np.array([5, 1000, 40, 3])
    weights = sizes / sizes.sum()
    assert allocate(weights, sizes, 200, 30).tolist() == [5, 167, 25, 3]
    assert allocate(weights, sizes, 5000, 30).tolist() == sizes.tolist()


def sampled(
    labels: NDArray[np.uint8], step: int, seed: int = 0, areas: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Ten points of each class, read `step` rows at a time."""
    draw = Draw(seed, np.array([10, 10, 10]))
    for row in range(0, len(labels), step):
        part = None if areas is None else areas[row : row + step]
        draw.add(0, row, labels[row : row + step], part)
    return draw.points()


def test_the_points_do_not_depend_on_the_blocks() -> None:
    labels = labels_of()
    areas = np.linspace(1, 2, len(labels))[:, None].repeat(labels.shape[1], 1)
    for given in (None, areas):
        whole = sampled(labels, len(labels), areas=given)
        for step in (1, 7, 64):
            np.testing.assert_array_equal(sampled(labels, step, areas=given), whole)
    assert not np.array_equal(sampled(labels, 7), sampled(labels, 7, seed=1))


def test_points_are_of_their_stratum_each_once_and_in_no_order() -> None:
    labels = labels_of()
    found = sampled(labels, 32)
    np.testing.assert_array_equal(labels[found[:, 2], found[:, 3]], found[:, 0])
    assert np.bincount(found[:, 0]).tolist() == [10, 10, 10]
    assert len(np.unique(found[:, 1:], axis=0)) == 30
    assert (np.diff(found[:, 0]) < 0).any() and (np.diff(found[:, 2]) < 0).any()


def test_every_spot_is_as_likely_as_any_other() -> None:
    labels = np.zeros((40, 50), np.uint8)
    areas = np.where(np.arange(40)[:, None] < 20, 3.0, 1.0).repeat(50, 1)
    upper = []
    for seed in range(300):
        draw = Draw(seed, np.array([10]))
        draw.add(0, 0, labels, areas)
        upper += (draw.points()[:, 2] < 20).tolist()
    # Three quarters of the ground are in the upper half of the pixels.
    assert np.mean(upper) == pytest.approx(0.75, abs=0.025)
    plain = [row for seed in range(300) for row in sampled(labels, 40, seed)[:, 2].tolist()]
    assert np.mean(plain) == pytest.approx(19.5, abs=0.8)


def test_maps_are_drawn_from_as_one() -> None:
    draw = Draw(0, np.array([20, 20, 20]))
    for number in range(3):
        draw.add(number, 0, labels_of(seed=number), None)
    assert np.bincount(draw.points()[:, 1]).min() > 8
