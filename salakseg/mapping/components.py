"""Connected areas of one class, pixels that share a side: numbered, and which of them meet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from salakseg.classes import IGNORE_INDEX


@dataclass(frozen=True)
class Components:
    """The n connected areas of a block of labels.

    Attributes:
        ids: int32 (height, width): the area of each pixel, -1 where it has no class.
        labels: uint8 (n,): their classes.
        first: int64 (n,): their first pixels, row by row, rising.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.uint8]
    first: NDArray[np.int64]


def components(labels: NDArray[np.uint8]) -> Components:
    """Number the connected areas of `labels`, uint8 (height, width), 255 where there is none."""
    # Runs of equal pixels along the rows, and which of them meet one of the next row.
    starts = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    runs = (np.cumsum(starts, dtype=np.int32) - 1).reshape(labels.shape)
    first = np.flatnonzero(starts)
    known = labels.ravel()[first] != IGNORE_INDEX
    meet = (labels[1:] == labels[:-1]) & (labels[1:] != IGNORE_INDEX) & (starts[1:] | starts[:-1])
    area = joined(len(first), runs[:-1][meet], runs[1:][meet])
    _, leaders, numbers = np.unique(area[known], return_index=True, return_inverse=True)
    of_run = np.full(len(first), -1, np.int32)
    of_run[known] = numbers
    first = first[known][leaders]
    return Components(of_run[runs], labels.ravel()[first], first)


def joined(count: int, one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.int32]:
    """int32 (count,): one number for all that are joined by pairs, in the order of the first."""
    pairs = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(count, count))
    numbers: NDArray[np.int32] = connected_components(pairs, directed=False)[1]
    return numbers


def meeting(
    one: NDArray[np.integer], other: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of different numbers ≥ 0 in two arrays of one shape, each once, and how often."""
    differ = (one != other) & (one >= 0) & (other >= 0)
    pairs = one[differ].astype(np.int64) << 32 | other[differ]
    pairs, counts = np.unique(pairs, return_counts=True)
    return pairs >> 32, pairs & 0xFFFFFFFF, counts
