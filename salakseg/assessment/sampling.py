"""Which pixels are checked: how many of each stratum, and a draw of them in one pass over the maps.

Each pixel has a number of its own, a pure function of the seed and its place; of each stratum those
with the smallest numbers are the sample. So the same points come out whatever is read at a time, in
memory for the points alone.
"""

import numpy as np
from numpy.typing import NDArray

from salakseg.data.random_numbers import draw_bits

PURPOSE = "assess map"
ORDER = "assess order"
BISECTIONS = 100
PIXELS_AT_A_TIME = 250_000


def lowest_of(points: int, strata: int, least: int) -> int:
    """The points that each stratum has: `least`, or less where half of all do not suffice."""
    return max(min(least, points // (2 * strata)), min(least, 2, points // strata))


def allocate(
    weights: NDArray[np.float64], sizes: NDArray[np.int64], points: int, least: int
) -> NDArray[np.int64]:
    """Points of each stratum, int64 (H,), by its share of the population, but `least` in each.

    What the rare ones get beyond their share the others give by theirs, so the minima together are
    no more than half of the points: where the common classes have too few, what the map leaves out
    of the rare ones is not found. A stratum of fewer pixels has all of them checked.

    Args:
        weights: float64 (H,), positive.
        sizes: int64 (H,), pixels, positive.
        points: in all; at most all pixels are.
    """
    total = min(points, int(sizes.sum()))
    lowest = np.minimum(sizes, lowest_of(total, len(sizes), least))

    def shared(scale: float) -> NDArray[np.float64]:
        return np.clip(scale * weights, lowest, sizes)

    low, high = 0.0, float((sizes / weights).max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if shared(middle).sum() < total else (low, middle)
    exact = shared(high)
    counts = np.floor(exact + 1e-6).astype(np.int64)
    # The largest remainders are rounded up.
    for stratum in np.argsort(counts - exact, kind="stable"):
        if counts.sum() < total and counts[stratum] < sizes[stratum]:
            counts[stratum] += 1
    return counts


class Draw:
    """A sample in the drawing: of each stratum the pixels with the smallest numbers so far.

    A pixel's number is exponential with its ground's area as the rate (Efraimidis and Spirakis
    2006), so that each spot of ground is as likely as any other, in degrees and between maps of
    different pixels too; with pixels of one area it is a simple random sample of them.
    """

    def __init__(self, seed: int, counts: NDArray[np.int64]) -> None:
        self._seed, self._counts = seed, counts
        self._limit = np.where(counts > 0, np.inf, -np.inf)
        # A row a pixel: stratum, map, row, column.
        self._pixels = np.zeros((0, 4), np.int64)
        self._numbers = np.zeros(0)

    def add(
        self,
        number: int,
        row: int,
        strata: NDArray[np.uint8],
        areas: NDArray[np.float64] | None,
    ) -> None:
        """Look at whole rows of a map.

        Args:
            number: of the map.
            row: the first.
            strata: (height, width), H and more for pixels that are not of the population.
            areas: float64 (height, width), of the pixels; None: all the same, in all maps.
        """
        step = max(1, PIXELS_AT_A_TIME // max(1, strata.shape[1]))
        for first in range(0, len(strata), step):
            rows = np.s_[first : first + step]
            self._look(number, row + first, strata[rows], None if areas is None else areas[rows])

    def _look(
        self, number: int, row: int, strata: NDArray[np.uint8], areas: NDArray[np.float64] | None
    ) -> None:
        height, width = strata.shape
        bits = np.stack(
            [draw_bits(self._seed, f"{PURPOSE} {number}", row + n, width) for n in range(height)]
        )
        numbers = -np.log(((bits >> np.uint64(11)) + 0.5) * 2.0**-53)
        if areas is not None:
            numbers /= areas
        limit = np.full(256, -np.inf)
        limit[: len(self._limit)] = self._limit
        rows, columns = np.nonzero(numbers <= limit[strata])
        found = strata[rows, columns].astype(np.int64)
        pixels = np.column_stack([found, np.full_like(found, number), rows + row, columns])
        self._keep(
            np.concatenate([self._pixels, pixels]),
            np.concatenate([self._numbers, numbers[rows, columns]]),
        )

    def _keep(self, pixels: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        order = np.lexsort((pixels[:, 3], pixels[:, 2], pixels[:, 1], numbers, pixels[:, 0]))
        pixels, numbers = pixels[order], numbers[order]
        first = np.searchsorted(pixels[:, 0], np.arange(len(self._counts)))
        rank = np.arange(len(pixels)) - first[pixels[:, 0]]
        kept = rank < self._counts[pixels[:, 0]]
        last = (rank == self._counts[pixels[:, 0]] - 1).nonzero()[0]
        self._limit[pixels[last, 0]] = numbers[last]
        self._pixels, self._numbers = pixels[kept], numbers[kept]

    def points(self) -> NDArray[np.int64]:
        """int64 (n, 4): stratum, map, row and column, in random order, so that whoever stops early
        has checked a random sample too."""
        by_place = np.lexsort(self._pixels[:, [3, 2, 1]].T)
        order = np.argsort(draw_bits(self._seed, ORDER, 0, len(by_place)), kind="stable")
        return self._pixels[by_place][order]
