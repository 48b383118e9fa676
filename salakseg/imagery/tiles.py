"""Tiles over an image, on one grid, and the weights that blend them without seams; pasting.

The grid is a function of the image's size, the tile and the overlap alone, so a prediction does
not depend on the order or the grouping in which tiles are computed. Each side of the image is an
`Axis`. Neighbouring tiles overlap; there the weight of one falls linearly while that of the next
rises, so that the weights of all tiles at a pixel sum to 1. What the tiles reach beyond the image,
less than a stride, is divided between both ends and filled by reflection.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError


@dataclass(frozen=True)
class Axis:
    """The tiles along one side of an image.

    Attributes:
        size: pixels of the image along this side.
        tile: pixels of a tile.
        stride: from one tile to the next.
        count: number of tiles, at least 1.
        start: where the first tile begins, 0 or negative.
    """

    size: int
    tile: int
    stride: int
    count: int
    start: int

    def begin(self, index: int) -> int:
        """First pixel of tile `index`; may lie outside the image."""
        return self.start + index * self.stride

    def own_begin(self, index: int) -> int:
        """First pixel that tiles before `index` do not finish: 0 for the first, `size` after all.

        Pixels from `own_begin(a)` to `own_begin(b)` need the tiles a-1 to b-1.
        """
        if index <= 0:
            return 0
        return self.size if index >= self.count else self.begin(index)

    def weight(self, index: int) -> NDArray[np.float32]:
        """float32 (tile,): the weight of tile `index`, without a ramp at the image's ends."""
        ramp_length = self.tile - self.stride
        ramp = (np.arange(ramp_length, dtype=np.float32) + 0.5) / max(1, ramp_length)
        weight = np.ones(self.tile, np.float32)
        if index > 0:
            weight[:ramp_length] = ramp
        if index < self.count - 1:
            # 1 - ramp, not its mirror: the two then sum to 1 in floats as well.
            weight[self.stride :] = 1 - ramp
        return weight

    def reflected(self, begin: int, end: int) -> NDArray[np.intp]:
        """Pixels of the image that stand for `begin` … `end`-1, reflected where outside."""
        positions = np.arange(begin, end)
        if self.size == 1:
            return np.zeros_like(positions)
        period = 2 * (self.size - 1)
        positions = positions % period
        return np.minimum(positions, period - positions)


def plan_axis(size: int, tile: int, overlap: float) -> Axis:
    """The tiles that cover `size` pixels.

    Args:
        tile: side of a tile in pixels.
        overlap: share of a tile that the next one covers too, 0 to 0.5.

    Raises:
        InputError: overlap or tile out of range.
    """
    if not 0 <= overlap <= 0.5:
        raise InputError(f"--overlap {overlap}: must be from 0 to 0.5")
    if tile < 1:
        raise InputError(f"--tile {tile}: must be a number of pixels")
    shared = round(tile * overlap)
    stride = tile - shared
    count = max(1, ceil((size - shared) / stride))
    spare = count * stride + shared - size
    return Axis(size, tile, stride, count, -(spare // 2))


def paste(onto: NDArray[np.generic], what: NDArray[np.generic], top: int, left: int) -> None:
    """Put `what` into `onto` with its corner there, as far as it is inside."""
    height, width = onto.shape[:2]
    part = what[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    top, left = max(0, top), max(0, left)
    onto[top : top + part.shape[0], left : left + part.shape[1]] = part
