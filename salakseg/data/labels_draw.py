"""Labelled areas of one photograph → the rows of its mask, one rule for all formats.

Areas are in pixels from the photograph's left upper corner. A pixel belongs to a polygon by its
centre; of several areas the later one holds. Rows are drawn when they are asked for, so that no
mask is in memory as a whole. Worker processes import this: nothing of pandas.
"""

import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from salakseg.mask_meaning import NO_CLASS, Row
from salakseg.masks import StoredMask, packed


class Bitmap(NamedTuple):
    """Pixels, as a box in the photograph; `data` are its packed bits, compressed."""

    left: int
    top: int
    width: int
    height: int
    data: bytes

    @property
    def inside(self) -> NDArray[np.bool_]:
        """bool (height, width)."""
        bits = np.frombuffer(zlib.decompress(self.data), np.uint8)
        count = self.width * self.height
        return np.unpackbits(bits, count=count).view(bool).reshape(self.height, self.width)


Area: TypeAlias = Bitmap | shapely.MultiPolygon


class Shape(NamedTuple):
    """What a person drew: the name of the class as it is written there, and where."""

    name: str
    area: Area


def bitmap(inside: NDArray[np.bool_], left: int = 0, top: int = 0) -> Bitmap:
    """Pixels (H, W) at a place, cropped to those that are inside."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return Bitmap(left, top, 0, 0, zlib.compress(b""))
    part = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = part.shape
    data = zlib.compress(np.packbits(part).tobytes(), 1)
    return Bitmap(left + int(columns[0]), top + int(rows[0]), width, height, data)


def polygon(points: Any, holes: Any = ()) -> shapely.MultiPolygon:
    """Of points (N, 2), and holes of such.

    Raises:
        ValueError: fewer than three points, or no numbers.
    """
    rings = [np.array(ring, float) for ring in (points, *holes)]
    for ring in rings:
        if ring.ndim != 2 or len(ring) < 3 or ring.shape[1] != 2 or not np.isfinite(ring).all():
            raise ValueError("a polygon has three points or more, each of two numbers")
    return shapely.multipolygons([shapely.Polygon(rings[0], rings[1:])])


def rectangle(left: float, top: float, right: float, bottom: float) -> shapely.MultiPolygon:
    """Between two corners."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def ellipse(x: float, y: float, across: float, down: float) -> shapely.MultiPolygon:
    """Of a centre and two radii."""
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return polygon(np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], 1))


def turned(area: shapely.MultiPolygon, degrees: float, x: float, y: float) -> shapely.MultiPolygon:
    """Turned clockwise, as one sees it on the photograph, about a point."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])  # y goes down
    return shapely.transform(area, lambda points: (points - (x, y)) @ turn + (x, y))


@dataclass
class Tally:
    """What was drawn: pixels by row of the mapping (255: none), and how many of them lie in areas
    of several classes."""

    pixels: Counter[int] = field(default_factory=Counter)
    overlapping: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.pixels + other.pixels, self.overlapping + other.overlapping)


@dataclass(frozen=True)
class Drawing:
    """The labels of a photograph.

    Attributes:
        width, height: of the photograph, in pixels.
        areas: row of the mapping and area, later ones over earlier ones.
        rows: of the mapping.
        outside: the row of what no area holds; None: no class.
        complete: where the labels are complete: what lies outside of it has no class. None: all
            over.
    """

    width: int
    height: int
    areas: tuple[tuple[int, Area], ...]
    rows: tuple[Row, ...]
    outside: int | None = None
    complete: shapely.MultiPolygon | None = None

    @property
    def fingerprint(self) -> int:
        """Another number for labels that draw another mask."""
        outside = None if self.outside is None else self.rows[self.outside][1]
        told = hashlib.sha256(repr((outside, self.width, self.height)).encode())
        areas = [(self.rows[row][1], area) for row, area in self.areas]
        for color, area in [*areas, (None, self.complete)]:
            told.update(repr(color).encode())
            told.update(area.wkb if isinstance(area, shapely.MultiPolygon) else repr(area).encode())
        return int.from_bytes(told.digest()[:6], "big")

    @cached_property
    def _spans(self) -> NDArray[np.float64]:
        """(areas, 2): first and last row of pixels of each."""
        spans = [
            (area.top, area.top + area.height)
            if isinstance(area, Bitmap)
            else (area.bounds[1], area.bounds[3])
            for _, area in self.areas
        ]
        return np.array(spans, float).reshape(-1, 2)

    def draw(self, top: int, bottom: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Rows of pixels (H, W): row of the mapping, 255 for none; and where areas of several
        classes lie over one another."""
        shape = bottom - top, self.width
        drawn = np.full(shape, NO_CLASS, np.uint8)
        near = np.flatnonzero((self._spans[:, 0] < bottom) & (self._spans[:, 1] > top))
        areas = [self.areas[number] for number in near]
        _burn(drawn, areas, top)
        several = np.zeros(shape, bool)
        classes = {row for row, _ in areas}
        if len(classes) > 1:
            seen = np.zeros(shape, bool)
            for one in classes:
                here = np.zeros(shape, np.uint8)
                _burn(here, [(1, area) for row, area in areas if row == one], top)
                several |= seen & (here > 0)
                seen |= here > 0
        if self.outside is not None:
            drawn[drawn == NO_CLASS] = self.outside
        if self.complete is not None:
            inside = np.zeros(shape, np.uint8)
            _burn(inside, [(1, self.complete)], top)
            drawn[inside == 0] = NO_CLASS
            several &= inside > 0
        return drawn, several

    def as_mask(self, size: int, tally: Tally) -> StoredMask:
        """In the classes' colours, transparent where there is no class.

        Args:
            size: of patches, which begin at its multiples, but for the last one, which ends at the
                edge: what that shares with the one above is tallied once.
            tally: is told what is drawn.
        """
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(self.rows)] = [color for _, color, _ in self.rows]
        table = packed(colors)

        def read(top: int, bottom: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            drawn, several = self.draw(top, bottom)
            fresh = -(-top // size) * size - top
            counts = np.bincount(drawn[fresh:].ravel(), minlength=256)
            tally.pixels.update({int(row): int(counts[row]) for row in np.flatnonzero(counts)})
            tally.overlapping += int(several[fresh:].sum())
            return table[drawn], drawn != NO_CLASS

        return StoredMask(self.width, self.height, "RGBA", read)


def _burn(rows: NDArray[np.uint8], areas: list[tuple[int, Area]], top: int) -> None:
    """Draw areas into rows of pixels (H, W), the first of which is `top`, with their numbers."""
    height, width = rows.shape
    for drawn, group in groupby(areas, lambda one: isinstance(one[1], shapely.MultiPolygon)):
        if drawn:
            # Part by part: of one geometry GDAL fills what two parts share with nothing.
            polygons = [(part, row) for row, area in group for part in shapely.get_parts(area)]
            if polygons:
                rasterize(polygons, out=rows, transform=Affine.translation(0, top))
            continue
        for row, area in group:
            assert isinstance(area, Bitmap)
            first, last = max(area.top, top), min(area.top + area.height, top + height)
            left, right = max(area.left, 0), min(area.left + area.width, width)
            if first < last and left < right:
                inside = area.inside[first - area.top : last - area.top]
                inside = inside[:, left - area.left : right - area.left]
                rows[first - top : last - top, left:right][inside] = row
