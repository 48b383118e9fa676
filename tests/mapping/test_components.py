"""Connected areas: numbered as a walk from pixel to pixel finds them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from salakseg.mapping.components import components, joined, meeting


def walked(labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The number of each pixel's area, by a walk from pixel to pixel."""
    ids = np.full(labels.shape, -1, np.int32)
    for start in np.ndindex(*labels.shape):
        if labels[start] == 255 or ids[start] >= 0:
            continue
        ids[start] = ids.max() + 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= near[0] < labels.shape[0] and 0 <= near[1] < labels.shape[1]
                if inside and ids[near] < 0 and labels[near] == labels[start]:
                    ids[near] = ids[start]
                    stack.append(near)
    return ids


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (23, 31)])
@pytest.mark.parametrize("nodata", [0.0, 0.3, 1.0])
def test_they_are_those_of_a_walk(shape: tuple[int, int], nodata: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    labels[rng.random(shape) < nodata] = 255
    found = components(labels)
    np.testing.assert_array_equal(found.ids, walked(labels))
    np.testing.assert_array_equal(found.labels[found.ids[labels < 255]], labels[labels < 255])
    first = [np.flatnonzero(found.ids == number)[0] for number in range(len(found.labels))]
    assert found.first.tolist() == first


def test_what_is_joined_has_one_number() -> None:
    assert joined(5, np.array([4, 1]), np.array([0, 2])).tolist() == [0, 1, 1, 2, 0]
    assert joined(2, np.zeros(0, int), np.zeros(0, int)).tolist() == [0, 1]


def test_pairs_that_meet_are_counted() -> None:
    one, other = np.array([3, 3, -1, 4, 5]), np.array([4, 4, 4, -1, 5])
    assert [part.tolist() for part in meeting(one, other)] == [[3], [4], [2]]
