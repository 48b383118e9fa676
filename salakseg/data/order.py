"""Which patch comes when: an order that is a pure function of the seed.

Position p of a stream is epoch p // N, place p % N. An epoch's order is: blocks (16 MB of a tar)
permuted, cut into windows of some sixty (≤ 1 GB), samples permuted inside a window, all by
counter-based draws keyed (seed, stream, epoch). So a batch comes from all over the data, and reads
stay inside a window that the page cache holds. Patches with rare classes come more than once.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.data.random_numbers import draw_bits

BLOCK_BYTES = 16_000_000
WINDOW_BYTES = 1_000_000_000
# A class whose share of the labelled pixels is under this part of an even share is rare, and a
# patch counts for it where it covers at least this part of the patch.
RARE_SHARE = 0.5
RARE_COVER = 0.01
MOST_REPEATS = 4


class Order:
    """The endless order of one stream: position → row of the split's samples.

    Args:
        blocks: int64 (N,), the number of the block that each row lies in; see `blocks_of`.
        sizes: int64 (N,), bytes of each row.
        seed, stream: key of the draws.
        repeats: int64 (N,), how often each row stands in an epoch; None is once.

    Attributes:
        epoch: number of an epoch → its rows in their order, int64 (N,).
    """

    def __init__(
        self,
        blocks: NDArray[np.int64],
        sizes: NDArray[np.int64],
        seed: int,
        stream: str,
        repeats: NDArray[np.int64] | None = None,
    ) -> None:
        self.rows = np.repeat(np.arange(len(blocks)), 1 if repeats is None else repeats)
        self.blocks = blocks[self.rows]
        self.block_sizes = np.bincount(blocks, weights=sizes).astype(np.int64)
        self.seed, self.stream = seed, stream
        self.epoch = lru_cache(maxsize=2)(self._order_epoch)

    def __len__(self) -> int:
        """N, the entries of an epoch."""
        return len(self.rows)

    def _order_epoch(self, epoch: int) -> NDArray[np.int64]:
        key = (self.seed, f"{self.stream} order", epoch)
        blocks = len(self.block_sizes)
        bits = draw_bits(*key, blocks + len(self))
        turn = np.argsort(bits[:blocks], kind="stable")
        window = np.empty(blocks, np.int64)
        window[turn] = _cut(self.block_sizes[turn])
        return self.rows[np.lexsort((bits[blocks:], window[self.blocks]))]

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows at the given positions."""
        epochs, places = np.divmod(positions, len(self))
        return np.array(
            [self.epoch(int(e))[p] for e, p in zip(epochs, places, strict=True)], np.int64
        )


def blocks_of(samples: pd.DataFrame) -> NDArray[np.int64]:
    """int64 (N,), which block each sample lies in: 16 MB of a shard, numbered from 0."""
    block = samples.image_offset // BLOCK_BYTES
    return np.asarray(samples.groupby([samples.shard, block]).ngroup(), np.int64)


def _cut(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the window of each block: as many in turn as fit `WINDOW_BYTES`, at least one."""
    windows, window, filled = [], 0, 0
    for size in sizes.tolist():
        if filled and filled + size > WINDOW_BYTES:
            window, filled = window + 1, 0
        filled += size
        windows.append(window)
    return np.array(windows, np.int64)


def repeats_for_rare_classes(class_pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each labelled patch stands in an epoch: repeat factors of Gupta et al. 2019.

    "LVIS: A Dataset for Large Vocabulary Instance Segmentation", appendix B, on shares of pixels:
    class c with share f_c gets r_c = √(t / f_c), with t half of an even share; a patch takes the
    largest r_c of the classes that cover 1 % of it, rounded, from 1 to 4.

    Args:
        class_pixels: int64 (N, K).

    Returns:
        int64 (N,).
    """
    total = class_pixels.sum()
    if total == 0:
        return np.ones(len(class_pixels), np.int64)
    share = class_pixels.sum(0) / total
    wanted = RARE_SHARE / class_pixels.shape[1]
    factor = np.sqrt(wanted / np.maximum(share, 1e-12))
    cover = class_pixels / np.maximum(class_pixels.sum(1, keepdims=True), 1)
    largest = np.where(cover >= RARE_COVER, factor, 0).max(1)
    return np.clip(np.rint(largest), 1, MOST_REPEATS).astype(np.int64)
