"""Class map → GeoPackage of polygons, block by block, so that it works at any size.

In: finished labels and confidence, by window. Out: one polygon for each connected area of a class
(pixels that share a side), with class, area on the ground and mean confidence, in class colours.

Specks are sieved from the labels first, see `mapping.sieve`. Then each block gives the edges of its
areas, see `mapping.outlines`; areas that meet at a seam are one, and become polygons once no
further block can touch them. In memory are one block and the edges of the areas still open; where
they are to be simplified the edges of all, for then neighbours have to be there together.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.console import console
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.remote import ImagePath
from salakseg.mapping.areas import SQUARE_METRES_PER_HECTARE, Ground
from salakseg.mapping.components import components, joined, meeting
from salakseg.mapping.geopackage import write_layer, write_style
from salakseg.mapping.outlines import Edges, Ints, concatenated, edges, polygons
from salakseg.mapping.scratch import read_raw
from salakseg.mapping.sieve import sieve
from salakseg.mapping.styles import polygons_qml

LAYER = "classes"
BLOCK = 1024
MIN_PIXELS = 100
# A class that the sieve changes by less is not spoken of.
SPOKEN_CHANGE = 0.05
# Edges that are gathered before those of areas that are closed by then become polygons.
EDGES_AT_ONCE = 1_000_000
NONE = np.zeros(0, np.int64)

Read = Callable[[str, int, int, int, int], NDArray[np.uint8]]


def min_pixels(min_area: float | None, ground: Ground) -> int:
    """Pixels of the smallest polygon that stays; `min_area` in m², or pixels without `side`."""
    if min_area is None:
        return MIN_PIXELS
    return math.ceil(min_area / (ground.side**2 if ground.side is not None else 1))


def tolerance(simplify: float | None, ground: Ground) -> float:
    """Pixels that outlines may be off; `simplify` in metres, or pixels without `side`."""
    return (simplify or 0) / (ground.side or 1)


def write_polygons(
    path: Path,
    read: Read,
    sieved: Path,
    source: ImageSource,
    ground: Ground,
    mapping: ClassMapping,
    smallest: int,
    tags: dict[str, str],
    off: float = 0,
) -> None:
    """Write the polygons of a map, and say which classes the sieve changes much.

    Args:
        path: the GeoPackage; without CRS its coordinates are pixels, rows counted downwards from 0
            as negative numbers.
        read: (band, row, column, height, width), cut off at the image's edge → "labels" or
            "confidence".
        sieved: where the sieved labels may lie meanwhile, a byte a pixel.
        smallest: areas of fewer pixels are given to the class around them.
        off: pixels, see `tolerance`; 0: the outlines are the pixels' edges.
    """
    shape = source.height, source.width

    def labels_of(*window: int) -> NDArray[np.uint8]:
        return read_raw(sieved, shape, *window) if smallest > 1 else read("labels", *window)

    if smallest > 1:
        pixels = sieve(lambda *window: read("labels", *window), sieved, shape, smallest, BLOCK)
        before, after = pixels[:, : mapping.num_classes].tolist()
        _say_what_changes(source.path, smallest, ground, mapping, before, after)
        counts = dict(zip(mapping.names, zip(before, after, strict=True), strict=True))
        tags = tags | {"SIEVE": json.dumps({"smallest": smallest, "pixels": counts})}
    if off:
        tags = tags | {"SIMPLIFY": json.dumps({"pixels": off})}
    layer = _Layer(path, source, mapping, off, tags)
    areas = _OpenAreas()
    # The areas along the blocks that are done: below them, and to the right of the last one.
    front = np.full(source.width + 1, -1)
    # A row and a column of nothing at the end close all outlines.
    for row in range(0, source.height + 1, BLOCK):
        right = np.full(min(BLOCK, source.height + 1 - row), -1)
        for column in range(0, source.width + 1, BLOCK):
            labels = _framed(labels_of, shape, row, column)
            found = components(labels[1:, 1:])
            above = front[column : column + BLOCK]
            ids = np.full(labels.shape, -1)
            ids[0, 1:], ids[1:, 0] = above, right
            ids[1:, 1:] = np.where(found.ids < 0, -1, found.ids + len(areas.label))
            areas.add(
                found.labels,
                _sums(found.ids, len(found.labels), read, ground, row, column),
                edges(labels, ids, row, column, source.width + 1),
            )
            for one, other in ((np.s_[0, 1:], np.s_[1, 1:]), (np.s_[1:, 0], np.s_[1:, 1])):
                same = labels[one] == labels[other]
                areas.join(ids[one][same], ids[other][same])
            above[:], right[:] = ids[-1, 1:], ids[1:, -1]
            if areas.fresh >= EDGES_AT_ONCE and not off:
                layer.write(*areas.close(front, right))
    layer.write(*areas.close(front, right))
    layer.finish()


def _say_what_changes(
    path: ImagePath,
    smallest: int,
    ground: Ground,
    mapping: ClassMapping,
    before: list[int],
    after: list[int],
) -> None:
    changes = [
        f"{name} {now / was - 1:+.0%}"
        for name, was, now in zip(mapping.names, before, after, strict=True)
        if abs(now - was) > SPOKEN_CHANGE * was
    ]
    if changes:
        size = "" if ground.side is None else f" ({smallest * ground.side**2:.3g} m²)"
        console.print(
            f"{path}: the polygons leave out areas of fewer than {smallest} pixels{size}, which "
            f"changes {', '.join(changes)}; --min-area 0 keeps all"
        )


def _framed(
    labels_of: Callable[..., NDArray[np.uint8]], shape: tuple[int, int], row: int, column: int
) -> NDArray[np.uint8]:
    """uint8 (1 + height, 1 + width): a block with the pixels above it and to its left.

    A row and a column of 255 beyond the image count as part of it.
    """
    height = min(BLOCK, shape[0] + 1 - row)
    width = min(BLOCK, shape[1] + 1 - column)
    framed = np.full((1 + height, 1 + width), IGNORE_INDEX, np.uint8)
    top, left = max(0, row - 1), max(0, column - 1)
    inside = labels_of(top, left, row + height - top, column + width - left)
    place = framed[top - row + 1 :, left - column + 1 :]
    place[: inside.shape[0], : inside.shape[1]] = inside
    return framed


def _sums(
    ids: NDArray[np.int32], count: int, read: Read, ground: Ground, row: int, column: int
) -> NDArray[np.float64]:
    """float64 (3, count): pixels of the areas of a block, their square metres, their confidence."""
    confidence = read("confidence", row, column, BLOCK, BLOCK)
    height, width = confidence.shape
    of = ids[:height, :width].ravel() + 1
    sums = np.zeros((3, count + 1))
    sums[0] = np.bincount(of, minlength=count + 1)
    if ground.areas is not None and of.size:
        metres = ground.areas(column, row, width, height)
        sums[1] = np.bincount(of, metres.ravel(), count + 1)
    sums[2] = np.bincount(of, confidence.ravel(), count + 1)
    return sums[:, 1:]


class _OpenAreas:
    """The areas that further blocks may touch, numbered from 0.

    Attributes:
        label: uint8 (n,), their classes.
        fresh: edges since the last ones were closed.
    """

    def __init__(self) -> None:
        self.label = np.zeros(0, np.uint8)
        self.fresh = 0
        self._sums: NDArray[np.float64] = np.zeros((3, 0))
        self._edges: list[Edges] = []
        self._joins = [(NONE, NONE)]

    def add(self, label: NDArray[np.uint8], sums: NDArray[np.float64], found: Edges) -> None:
        """Take the areas of a block; the edges' owners have their numbers already."""
        self.label = np.append(self.label, label)
        self._sums = np.concatenate([self._sums, sums], axis=1)
        self._edges.append(found)
        self.fresh += len(found.owner)

    def join(self, one: Ints, other: Ints) -> None:
        """Areas that are one, pair by pair."""
        self._joins.append(meeting(one, other)[:2])

    def close(self, *touched: Ints) -> tuple[NDArray[np.uint8], NDArray[np.float64], Edges]:
        """Hand out all areas that are not in `touched`, where the others get their new numbers.

        Returns:
            Their label (m,) and sums (3, m), and the edges with owners from 0 to m - 1.
        """
        one, other = (np.concatenate(part) for part in zip(*self._joins, strict=True))
        whole = joined(len(self.label), one, other)
        count = int(whole.max(initial=-1)) + 1
        label = np.empty(count, np.uint8)
        label[whole] = self.label
        sums = np.stack([np.bincount(whole, row, count) for row in self._sums]).astype(np.float64)
        is_open = np.zeros(count, bool)
        for line in touched:
            is_open[whole[line[line >= 0]]] = True
        # Open and closed ones are numbered apart.
        number = np.where(is_open, np.cumsum(is_open), np.cumsum(~is_open))[whole] - 1
        found = concatenated(self._edges)
        stays = is_open[whole[found.owner]]
        found = replace(found, owner=number[found.owner])
        for line in touched:
            line[:] = np.append(number, -1)[line]
        self.label, self._sums = label[is_open], sums[:, is_open]
        self._edges, self._joins = [found[stays]], [(NONE, NONE)]
        self.fresh = 0
        return label[~is_open], sums[:, ~is_open], found[~stays]


class _Layer:
    """The layer `classes` of the GeoPackage."""

    def __init__(
        self,
        path: Path,
        source: ImageSource,
        mapping: ClassMapping,
        off: float,
        tags: dict[str, str],
    ) -> None:
        self._path, self._mapping, self._off, self._tags = path, mapping, off, tags
        self._crs = None if source.crs is None else source.crs.to_wkt()
        # QGIS shows an image without a place with its rows at -0.5, -1.5, …
        self._transform = source.transform or Affine.scale(1, -1)
        self._corners_across = source.width + 1
        self._begun = False

    def write(self, label: NDArray[np.uint8], sums: NDArray[np.float64], found: Edges) -> None:
        """Append areas; the file is there afterwards, with no polygon if there is none."""
        pixels, metres, confidence = sums
        metres = np.where(metres > 0, metres, np.nan)
        columns = {
            "class": np.array(self._mapping.names, object)[label],
            "class_index": label.astype(np.int32),
            "pixels": pixels.astype(np.int64),
            "m2": metres,
            "hectares": metres / SQUARE_METRES_PER_HECTARE,
            "confidence": confidence / pixels,
        }
        shapes = polygons(found, self._corners_across, self._transform, self._off)
        write_layer(
            self._path, LAYER, "Polygon", shapes, columns, self._crs, self._tags, self._begun
        )
        self._begun = True

    def finish(self) -> None:
        """Give the layer its style, in the table where QGIS looks for it."""
        write_style(self._path, LAYER, polygons_qml(self._mapping))
