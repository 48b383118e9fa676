"""The sieve: specks of a class map are given to the class around them, block by block.

The rule, as if for the whole image at once: of the areas below the size, the smallest takes the
class that most of its border touches, and is one with its neighbours of that class from then on;
again and again, until all are large enough or have nothing but nodata around them. Those stay.

An area that is smaller than all specks beside it cannot change before its turn, so all such turns
are taken at once, and a block takes those that depend on nothing beyond its seams. What is left, a
little along the seams, comes at the end, when all sizes are known. So the blocks do not show.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salakseg.classes import IGNORE_INDEX
from salakseg.mapping.components import Components, components, joined, meeting
from salakseg.mapping.scratch import make_raw, read_raw, write_raw

Ints = NDArray[np.int64]


@dataclass
class Graph:
    """n connected areas and the m borders between them.

    Attributes:
        label: uint8 (n,), their classes.
        size: int64 (n,), their pixels, as far as they are known.
        first: int64 (n,), the first pixel of each in the image, counted row by row.
        one, other, length: int64 (m,), two areas that meet, and the sides of pixels they share.
    """

    label: NDArray[np.uint8]
    size: Ints
    first: Ints
    one: Ints
    other: Ints
    length: Ints


def sieve(
    read: Callable[[int, int, int, int], NDArray[np.uint8]],
    path: Path,
    shape: tuple[int, int],
    smallest: int,
    block: int,
) -> Ints:
    """Write the labels without areas of fewer than `smallest` pixels to the raw file `path`.

    Args:
        read: (row, column, height, width), cut off at the image's edge → labels.
        block: side in pixels of what is in memory at a time.

    Returns:
        int64 (2, 256): how many pixels had each class before, and have it after.
    """
    height, width = shape
    smallest = min(smallest, height * width)
    make_raw(path, shape)
    pixels = np.zeros((2, 256), np.int64)
    seams = _Seams(width)
    for row in range(0, height, block):
        for column in range(0, width, block):
            labels = read(row, column, block, block)
            found = components(labels)
            size = _sizes(found)
            graph = Graph(
                found.labels.copy(),
                size.copy(),
                _in_image(found, labels.shape[1], row, column, width),
                *_borders(found.ids),
            )
            at_seam = np.zeros(len(size) + 1, bool)
            for there, line in (
                (row > 0, found.ids[0]),
                (column > 0, found.ids[:, 0]),
                (row + block < height, found.ids[-1]),
                (column + block < width, found.ids[:, -1]),
            ):
                at_seam[line] |= there
            at_seam = at_seam[:-1]
            is_open = at_seam.copy()
            root = settle(graph, smallest, is_open)
            after = graph.label[root]
            write_raw(path, shape, row, column, _labels(found.ids, after))
            for number, label in enumerate((found.labels, after)):
                pixels[number] += np.bincount(label, size, 256).astype(np.int64)
            seams.add(graph, root, at_seam, found.ids, column)
    first, after = seams.settle(smallest)
    for row, column, inside in _by_block(first, width, block):
        labels = read_raw(path, shape, row, column, block, block)
        found = components(labels)
        places = _in_image(found, labels.shape[1], row, column, width)
        changed = np.searchsorted(places, first[inside])
        size = _sizes(found)[changed]
        pixels[1] -= np.bincount(found.labels[changed], size, 256).astype(np.int64)
        pixels[1] += np.bincount(after[inside], size, 256).astype(np.int64)
        found.labels[changed] = after[inside]
        write_raw(path, shape, row, column, _labels(found.ids, found.labels))
    return pixels


def settle(graph: Graph, smallest: int, is_open: NDArray[np.bool_]) -> Ints:
    """Take all turns of specks that depend on nothing unknown.

    Args:
        graph: what is known of n areas; changed to what they are afterwards, each at its root, with
            the borders of specks that are still between them.
        is_open: bool (n,), areas that go on elsewhere: they take no turn. Changed likewise.

    Returns:
        int64 (n,), the root of each area: the one that stands for all it is joined with.
    """
    root = np.arange(len(graph.label))
    while True:
        speck = graph.size < smallest
        ends = root[graph.one], root[graph.other]
        left = (ends[0] != ends[1]) & (speck[ends[0]] | speck[ends[1]])
        graph.one, graph.other = ends[0][left], ends[1][left]
        graph.length = graph.length[left]
        one = np.concatenate([graph.one, graph.other])
        other = np.concatenate([graph.other, graph.one])
        turn = speck & ~is_open
        turn[one[speck[other] & _may_come_before(graph, is_open, other, one)]] = False
        now = turn[one]
        if not now.any():
            return root
        one, other = one[now], other[now]
        border = one << 8 | graph.label[other]
        border, inverse = np.unique(border, return_inverse=True)
        length = np.bincount(inverse, np.tile(graph.length, 2)[now])
        # The longest border of each area, of equal ones by lot: a class is not favoured.
        lot = _lot(graph.first[border >> 8] << 8 | border & 255)
        order = np.lexsort((lot, -length, border >> 8))
        longest = border[order][np.unique(border[order] >> 8, return_index=True)[1]]
        graph.label[longest >> 8] = longest & 255
        meet = graph.label[one] == graph.label[other]
        one, other = one[meet], other[meet]
        # To be one with a large area is to be large; which of them it is does not matter.
        graph.size[one[~speck[other]]] = smallest
        one, other = one[speck[other]], other[speck[other]]
        members, numbers = np.unique(np.concatenate([one, other]), return_inverse=True)
        group = joined(len(members), numbers[: len(one)], numbers[len(one) :])
        leader = members[np.unique(group, return_index=True)[1]]
        graph.size[leader] = np.bincount(group, graph.size[members])
        np.minimum.at(graph.first, leader[group], graph.first[members])
        np.logical_or.at(is_open, leader[group], is_open[members])
        into = np.arange(len(root))
        into[members] = leader[group]
        root = into[root]


def _may_come_before(
    graph: Graph, is_open: NDArray[np.bool_], this: Ints, that: Ints
) -> NDArray[np.bool_]:
    """Whether these areas are smaller than those, or may be; of equal ones by lot."""
    smaller = graph.size[this] < graph.size[that]
    equal = graph.size[this] == graph.size[that]
    return smaller | equal & (is_open[this] | (_lot(graph.first[this]) < _lot(graph.first[that])))


def _lot(first: Ints) -> NDArray[np.uint64]:
    """A different number for each; by the place itself, turns would be taken one by one in rows."""
    mixed = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)


def _sizes(found: Components) -> Ints:
    return np.bincount(found.ids.ravel() + 1, minlength=len(found.labels) + 1)[1:]


def _in_image(found: Components, across: int, row: int, column: int, width: int) -> Ints:
    """The first pixels of the areas of a block, `across` pixels wide, counted in the image."""
    rows, columns = np.divmod(found.first, across)
    return (row + rows) * width + column + columns


def _labels(ids: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The labels of a block, by the class of each of its areas."""
    # The last one is for pixels without an area, of number -1.
    return np.append(label, np.uint8(IGNORE_INDEX))[ids]


def _borders(ids: NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
    """Graph of a block that meet: one, other, and the sides of pixels that they share."""
    down, across = meeting(ids[:-1], ids[1:]), meeting(ids[:, :-1], ids[:, 1:])
    one, other, length = (np.concatenate(pair) for pair in zip(down, across, strict=True))
    return one, other, length


class _Seams:
    """What the blocks leave: the areas at the seams and those whose turn depends on them."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._parts: list[Graph] = []
        # The areas along the last seam above each column, and along the one to the left.
        self._above = np.full(width, -1)
        self._left = np.zeros(0, np.int64)

    def add(
        self,
        graph: Graph,
        root: Ints,
        at_seam: NDArray[np.bool_],
        ids: NDArray[np.int32],
        column: int,
    ) -> None:
        """Take a block as `settle` left it, row by row of them; `at_seam`: of its areas."""
        kept = np.unique(np.concatenate([root[at_seam], graph.one, graph.other]))
        number = np.full(len(graph.label), -1)
        number[kept] = np.arange(self._count, self._count + len(kept))
        by_area = np.append(number[root], -1)
        above = self._above[column : column + ids.shape[1]]
        seams = [meeting(above, by_area[ids[0]])]
        if column:
            seams.append(meeting(self._left, by_area[ids[:, 0]]))
        borders = [(number[graph.one], number[graph.other], graph.length), *seams]
        one, other, length = (np.concatenate(part) for part in zip(*borders, strict=True))
        self._parts.append(
            Graph(graph.label[kept], graph.size[kept], graph.first[kept], one, other, length)
        )
        above[:] = by_area[ids[-1]]
        self._left = by_area[ids[:, -1]]
        self._count += len(kept)

    def settle(self, smallest: int) -> tuple[Ints, NDArray[np.uint8]]:
        """The areas of the blocks whose class changes in the end: their first pixels, the class."""
        label, size, first, one, other, length = (
            np.concatenate([getattr(part, name) for part in self._parts])
            for name in ("label", "size", "first", "one", "other", "length")
        )
        # Across a seam an area meets its own other part.
        same = label[one] == label[other]
        whole = joined(len(label), one[same], other[same])
        leader = np.unique(whole, return_index=True)[1]
        start = first[leader]
        np.minimum.at(start, whole, first)
        sizes = np.bincount(whole, size, len(leader)).astype(np.int64)
        graph = Graph(
            label[leader],
            sizes,
            start,
            whole[one].astype(np.int64),
            whole[other].astype(np.int64),
            length,
        )
        root = settle(graph, smallest, np.zeros(len(leader), bool))
        after = graph.label[root][whole]
        changed = after != label
        return first[changed], after[changed]


def _by_block(first: Ints, width: int, block: int) -> Iterator[tuple[int, int, Ints]]:
    """Row and column of each block that holds some of these pixels, and which of them."""
    across = -(-width // block)
    blocks = first // width // block * across + first % width // block
    order = np.argsort(blocks)
    numbers, begin = np.unique(blocks[order], return_index=True)
    for number, inside in zip(numbers.tolist(), np.split(order, begin)[1:], strict=True):
        yield number // across * block, number % across * block, inside
