"""Outlines of connected areas along the pixels' edges: from blocks of labels to edges to polygons.

A corner of pixels is a vertex unless the four around it are two equal halves. That depends on the
corner alone, so either all areas that touch it have it or none has: together they are a valid
coverage. An edge runs along a line of the grid from one vertex to the next, or to the seam of a
block, where two are put together again. Each is there for either area beside it, which lies to the
left of it as seen with the rows counted upwards.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

Ints = NDArray[np.int64]

EAST, NORTH, WEST, SOUTH = range(4)


@dataclass(frozen=True)
class Edges:
    """n directed edges.

    Attributes:
        owner: int64 (n,), the area beside the edge.
        start, end: int64 (n,), twice the number of a corner, counted row by row; and 1 more on the
            second of the two ways in which an area may pass a corner at which it touches itself.
        side: int16 (n,), the direction and the label beyond the edge.
    """

    owner: Ints
    start: Ints
    end: Ints
    side: NDArray[np.int16]

    def __getitem__(self, which: NDArray[np.bool_]) -> "Edges":
        return Edges(*(getattr(self, name.name)[which] for name in fields(self)))


def concatenated(parts: list[Edges]) -> Edges:
    """The edges of one part or more."""
    return Edges(
        *(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(Edges))
    )


def edges(
    labels: NDArray[np.uint8], ids: Ints, row: int, column: int, corners_across: int
) -> Edges:
    """The edges along the upper and the left sides of the pixels of a block.

    Args:
        labels, ids: (1 + height, 1 + width), class and area of each pixel, 255 and -1 where there
            is none; with those above the block and to the left of it.
        row, column: of the block in the image.
        corners_across: corners of pixels in a row of the image.
    """
    upper_left, upper = labels[:-1, :-1], labels[:-1, 1:]
    left, this = labels[1:, :-1], labels[1:, 1:]
    vertex = ((upper_left != upper) | (left != this)) & ((upper_left != left) | (upper != this))

    def corner(y: Ints, x: Ints) -> Ints:
        return 2 * ((row + y) * corners_across + column + x)

    y, x, end = _runs(vertex, upper != this)
    above, below = (y, x + 1), (y + 1, x + 1)
    parts = [
        (below, above, WEST, corner(y, end), corner(y, x)),
        (above, below, EAST, corner(y, x) + 1, corner(y, end) + 1),
    ]
    x, y, end = _runs(vertex.T, (left != this).T)
    before, after = (y + 1, x), (y + 1, x + 1)
    parts += [
        (after, before, SOUTH, corner(y, x) + 1, corner(end, x)),
        (before, after, NORTH, corner(end, x), corner(y, x) + 1),
    ]
    found = [
        Edges(ids[owner], start, end, way << 8 | labels[beyond].astype(np.int16))
        for owner, beyond, way, start, end in parts
    ]
    return concatenated([part[part.owner >= 0] for part in found])


def _runs(vertex: NDArray[np.bool_], side: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Where areas meet along the rows: the row, the first corner, and the one where it ends."""
    begins = vertex.copy()
    begins[:, 0] = True
    first = np.flatnonzero(begins)
    length = np.diff(first, append=begins.size)
    found = side.ravel()[first]
    row, column = np.divmod(first[found], begins.shape[1])
    return row, column, column + length[found]


def polygons(
    edges: Edges, corners_across: int, transform: Affine, tolerance: float = 0
) -> NDArray[np.object_]:
    """The polygons of areas 0 … n-1, by all of their edges; the outer rings anticlockwise.

    Args:
        transform: (column, row) → coordinates of the polygons.
        tolerance: corners that cut off a triangle of less than its square, in pixels, go; of
            neighbours the same ones, provided that all areas are there.
    """
    if not len(edges.owner):
        return np.zeros(0, object)
    following = np.empty(len(edges.owner), np.int64)
    following[np.lexsort((edges.end, edges.owner))] = np.lexsort((edges.start, edges.owner))
    order, length = _cycles(following)
    begin = np.cumsum(length) - length
    ring = np.repeat(np.arange(len(length)), length)
    side = edges.side[order]
    turns = side != side[_neighbours(begin, length, -1)]
    owner, ring = edges.owner[order[begin]], ring[turns]
    y, x = np.divmod(edges.start[order[turns]] >> 1, corners_across)
    length = np.bincount(ring)
    begin = np.cumsum(length) - length
    following = _neighbours(begin, length, 1)
    hole = np.add.reduceat(x * y[following] - x[following] * y, begin) > 0
    # By area, its outer ring first.
    rank = np.lexsort((hole, owner))
    place = np.empty_like(rank)
    place[rank] = np.arange(len(rank))
    ring = place[ring]
    sort = np.argsort(ring, kind="stable")
    corners = np.column_stack([x[sort], y[sort]])
    points = corners if tolerance else _placed(corners, transform)
    found = shapely.polygons(shapely.linearrings(points, indices=ring[sort]), indices=owner[rank])
    if not tolerance:
        return found
    # In pixels: on the ground, and in degrees, their two sides may differ.
    found = shapely.coverage_simplify(found, tolerance)
    # An island comes back in the direction of the hole that it lies in, or the hole in its.
    return shapely.orient_polygons(shapely.transform(found, lambda xy: _placed(xy, transform)))


def _placed(points: NDArray[Any], transform: Affine) -> NDArray[Any]:
    """(n, 2) → (n, 2)."""
    a, b, c, d, e, f = transform[:6]
    x, y = points.T
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])


def _cycles(following: Ints) -> tuple[Ints, Ints]:
    """A permutation's members cycle by cycle, and the cycles' lengths; uses it up."""
    order = np.empty(len(following), np.int64)
    lengths = []
    left, put = following.data, order.data
    place = 0
    for first in range(len(left)):
        begin, member = place, first
        while (then := left[member]) >= 0:
            put[place], left[member] = member, -1
            place += 1
            member = then
        if place > begin:
            lengths.append(place - begin)
    return order, np.array(lengths, np.int64)


def _neighbours(begin: Ints, length: Ints, step: int) -> Ints:
    """For each member of rings that lie one after the other, the place of the one a step on."""
    start, size = np.repeat(begin, length), np.repeat(length, length)
    return start + (np.arange(len(start)) - start + step) % size
