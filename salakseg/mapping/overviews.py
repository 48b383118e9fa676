"""Overviews of a finished map: each pixel of them stands for a square of pixels of the map.

Of classes the commonest one, of confidence the mean, both in whole squares. GDAL's own take three
times as long, on one core, and its "mode" lets each pixel that a square touches vote in full: where
the size is odd it touches nine in place of four, and scattered things are lost.
"""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.classes import IGNORE_INDEX
from salakseg.mapping.areas import STRIP_PIXELS
from salakseg.mapping.scratch import Scratch, make_raw, write_raw

# The smallest overview is no larger.
OVERVIEW_SIDE = 512
# Of four bytes.
SUM = np.dtype(np.uint16)

Labels = NDArray[np.uint8]
Shrink = Callable[[Labels, Sequence[int]], list[Labels]]


def make_overviews(
    scratch: Scratch, band: str, shrink: Shrink
) -> list[tuple[Path, tuple[int, int]]]:
    """Make the overviews of a band, largest first: their raw files beside it, and their shapes."""
    height, width = scratch.shape
    steps: list[int] = []
    while max(height, width) > OVERVIEW_SIDE << len(steps):
        steps.append(2 << len(steps))
    shapes = [(ceil(height / step), ceil(width / step)) for step in steps]
    paths = [scratch.folder / f"{band}-{step}.raw" for step in steps]
    for path, shape in zip(paths, shapes, strict=True):
        make_raw(path, shape)
    rows = max([1, *steps])
    rows *= max(1, STRIP_PIXELS // (rows * width))
    for row in range(0, height if steps else 0, rows):
        found = shrink(scratch.window(band, row, 0, rows, width), steps)
        for path, shape, step, values in zip(paths, shapes, steps, found, strict=True):
            write_raw(path, shape, row // step, 0, values)
    return list(zip(paths, shapes, strict=True))


def commonest(labels: Labels, steps: Sequence[int]) -> list[Labels]:
    """For each of `steps` the commonest label of each step × step pixels.

    Of equally common ones that of the first pixel, which favours none as the lowest would.

    Args:
        labels: (height, width); of the last squares less may be there.
        steps: each a multiple of the one before.
    """
    firsts = [np.ascontiguousarray(labels[::step, ::step]) for step in steps]
    # Votes, up to twice the pixels of a square and one for its first, and below them the label, so
    # that the largest number of a square tells the winner: of equal ones the lowest.
    kinds = [np.min_scalar_type(2 * step**2 + 1) for step in steps]
    sizes = [np.min_scalar_type((2 * step**2 + 2) << 8) for step in steps]
    most = [np.zeros(first.shape, kind) for first, kind in zip(firsts, sizes, strict=True)]
    classes = int((labels + np.uint8(1)).max(initial=0))  # 255 becomes 0
    for value in (*range(classes), IGNORE_INDEX):
        here = labels == value
        if not here.any():
            continue
        counts: NDArray[Any] = here.view(np.uint8)
        before = 1
        for number, step in enumerate(steps):
            counts = _summed(counts, step // before, kinds[number])
            votes = (counts + counts + (firsts[number] == value)).astype(sizes[number])
            votes <<= 8
            votes |= 255 - value
            np.maximum(most[number], votes, out=most[number])
            before = step
    return [(255 - (votes & 255)).astype(np.uint8) for votes in most]


def averages(values: Labels, steps: Sequence[int]) -> list[Labels]:
    """For each of `steps`, 2, 4, 8, …, the mean of each step × step pixels that are not 255.

    Each of the one before, rounded, as GDAL has it; 255 where there are none.
    """
    found = []
    for _ in steps:
        there = values != IGNORE_INDEX
        whole = there.all() and not any(side % 2 for side in values.shape)
        sums = _summed(values if whole else values * there, 2, SUM)
        if whole:
            values = (sums + 2 >> 2).astype(np.uint8)
        else:
            counts = _summed(there.view(np.uint8), 2, SUM)
            values = ((sums + counts // 2) // np.maximum(counts, 1)).astype(np.uint8)
            values[counts == 0] = IGNORE_INDEX
        found.append(values)
    return found


def _summed(values: NDArray[Any], step: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Sums over step × step values; of the last ones less may be there."""
    total = values[::step].astype(dtype)
    for first in range(1, step):
        part = values[first::step]
        total[: len(part)] += part
    if step == 2 and total.shape[1] % 2 == 0 and dtype.itemsize < 4:
        # Two neighbours as one number of twice the size: strides are slow.
        bits = 8 * dtype.itemsize
        pairs = total.view(f"u{2 * dtype.itemsize}")
        return (pairs + (pairs >> bits)).astype(dtype)
    values, total = total, total[:, ::step].copy()
    for first in range(1, step):
        part = values[:, first::step]
        total[:, : part.shape[1]] += part
    return total
