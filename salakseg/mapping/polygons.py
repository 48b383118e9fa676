"""Class map → GeoPackage of polygons, block by block, so that it works at any size.

In: finished labels and confidence, by window. Out: one polygon for each connected area of a class
(pixels that share a side), with class, area on the ground and mean confidence.

Specks are sieved from the labels first: each block with a margin as wide as a speck may be long, so
the seams of the blocks do not show. Each block is then turned into polygons along the pixels'
edges; pieces of one area that meet at a seam are merged as soon as no further block can touch them.
In memory are one block and the areas that are still open; the polygons have whole pixel numbers
until they are written, so neighbours share their edges exactly.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyogrio
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from numpy.typing import NDArray

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.imagery.raster import ImageSource
from salakseg.mapping.areas import SQUARE_METRES_PER_HECTARE, Ground
from salakseg.mapping.scratch import read_raw

BLOCK = 2048
MIN_PIXELS = 100
# The margin of a block for the sieve; a speck that is longer may be left standing at a seam.
MAX_MARGIN = 512
WRITE_AT_ONCE = 10_000

Read = Callable[[str, int, int, int, int], NDArray[np.uint8]]


@dataclass
class Piece:
    """A connected area of one class in one block, or several of them that meet.

    Attributes:
        label: the class index.
        geometries: in whole pixels, (column, row).
        pixels, square_metres, confidence: sums over its pixels.
    """

    label: int
    geometries: list[shapely.Geometry]
    pixels: int
    square_metres: float
    confidence: float
    merged: "Piece | None" = field(default=None, repr=False)

    def root(self) -> "Piece":
        """The piece that this one was merged into."""
        piece = self
        while piece.merged is not None:
            piece = piece.merged
        return piece

    def merge(self, other: "Piece") -> None:
        """Make one of two pieces that meet."""
        into, gone = self.root(), other.root()
        if into is gone:
            return
        if len(into.geometries) < len(gone.geometries):
            into, gone = gone, into
        into.geometries += gone.geometries
        into.pixels += gone.pixels
        into.square_metres += gone.square_metres
        into.confidence += gone.confidence
        gone.geometries = []
        gone.merged = into


def min_pixels(min_area: float | None, ground: Ground) -> int:
    """Pixels of the smallest polygon that stays; `min_area` in m², or pixels without `side`."""
    if min_area is None:
        return MIN_PIXELS
    return math.ceil(min_area / (ground.side**2 if ground.side is not None else 1))


def write_polygons(
    path: Path,
    read: Read,
    sieved: Path,
    source: ImageSource,
    ground: Ground,
    mapping: ClassMapping,
    smallest: int,
    tags: dict[str, str],
) -> None:
    """Write the polygons of a map.

    Args:
        path: the GeoPackage; without CRS its coordinates are pixels, rows counted downwards from 0
            as negative numbers.
        read: (band, row, column, height, width) → "labels" or "confidence".
        sieved: where the sieved labels may lie meanwhile, a byte a pixel.
        smallest: areas of fewer pixels are given to their largest neighbour.
    """
    shape = source.height, source.width
    _sieve(read, sieved, shape, smallest)
    layer = _Layer(path, source, mapping, tags)
    open_areas: list[Piece] = []
    above: _Edge | None = None
    for row in range(0, source.height, BLOCK):
        found: list[Piece] = []
        bottom = _Edge([], [])
        left: _Edge | None = None
        for column in range(0, source.width, BLOCK):
            labels = read_raw(sieved, shape, row, column, BLOCK, BLOCK)
            height, width = labels.shape
            areas = None if ground.areas is None else ground.areas(column, row, width, height)
            confidence = read("confidence", row, column, height, width)
            pieces, ids = _pieces(labels, confidence, areas, row, column)
            found += pieces
            if above is not None:
                _join(above.part(column, width), _edge(labels[0], ids[0], pieces))
            if left is not None:
                _join(left, _edge(labels[:, 0], ids[:, 0], pieces))
            left = _edge(labels[:, -1], ids[:, -1], pieces)
            last = _edge(labels[-1], ids[-1], pieces)
            bottom = _Edge(bottom.labels + last.labels, bottom.pieces + last.pieces)
        above = bottom
        more = row + BLOCK < source.height
        touching = {id(piece.root()) for piece in bottom.pieces if piece is not None and more}
        areas_now = {id(piece.root()): piece.root() for piece in open_areas + found}
        open_areas = [piece for name, piece in areas_now.items() if name in touching]
        for name, piece in areas_now.items():
            if name not in touching:
                layer.add(piece)
    layer.flush()


def _sieve(read: Read, path: Path, shape: tuple[int, int], smallest: int) -> None:
    """Write the labels without their specks to the raw file `path`."""
    margin = min(smallest, MAX_MARGIN) if smallest > 1 else 0
    with path.open("wb") as file:
        file.truncate(shape[0] * shape[1])
    for row in range(0, shape[0], BLOCK):
        for column in range(0, shape[1], BLOCK):
            top, left = max(0, row - margin), max(0, column - margin)
            labels = read(
                "labels", top, left, row - top + BLOCK + margin, column - left + BLOCK + margin
            )
            if smallest > 1:
                known = labels != IGNORE_INDEX
                clean = rasterio.features.sieve(labels, smallest, mask=known, connectivity=4)
                labels = np.where(known, clean, IGNORE_INDEX)
            inner = labels[row - top :, column - left :][:BLOCK, :BLOCK]
            # Mapped anew each time: pages of a mapping count as memory for as long as it lasts.
            sieved = np.memmap(path, np.uint8, "r+", shape=shape)
            sieved[row : row + BLOCK, column : column + BLOCK] = inner
            del sieved


def _pieces(
    labels: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    areas: NDArray[np.float64] | None,
    row: int,
    column: int,
) -> tuple[list[Piece], NDArray[np.int32]]:
    """The connected areas of a block, and for each pixel the number of its own, or -1."""
    known = labels != IGNORE_INDEX
    found = list(rasterio.features.shapes(labels, mask=known, connectivity=4))
    if not found:
        return [], np.full(labels.shape, -1, np.int32)
    ids = rasterio.features.rasterize(
        [(shape, number) for number, (shape, _) in enumerate(found)],
        labels.shape,
        fill=-1,
        dtype=np.int32,
    )
    geometries = np.array([shapely.geometry.shape(shape) for shape, _ in found])
    # An area that touches itself at a corner has a ring that does.
    bad = ~shapely.is_valid(geometries)
    geometries[bad] = shapely.make_valid(geometries[bad], method="structure")
    geometries = shapely.transform(geometries, lambda xy: xy + np.array([column, row]))
    of = ids.ravel() + 1
    pixels = np.bincount(of, minlength=len(found) + 1)[1:]
    ground = np.zeros(labels.shape) if areas is None else areas
    metres = np.bincount(of, ground.ravel(), minlength=len(found) + 1)[1:]
    sure = np.bincount(of, confidence.ravel(), minlength=len(found) + 1)[1:]
    return [
        Piece(int(label), [geometry], int(pixels[i]), float(metres[i]), float(sure[i]))
        for i, (geometry, (_, label)) in enumerate(zip(geometries, found, strict=True))
    ], ids


@dataclass
class _Edge:
    """A line of pixels along a seam: their labels, and the piece of each (None: nodata)."""

    labels: list[int]
    pieces: list[Piece | None]

    def part(self, first: int, count: int) -> "_Edge":
        inside = slice(first, first + count)
        return _Edge(self.labels[inside], self.pieces[inside])


def _edge(labels: NDArray[np.uint8], ids: NDArray[np.int32], pieces: list[Piece]) -> _Edge:
    return _Edge(labels.tolist(), [pieces[i] if i >= 0 else None for i in ids.tolist()])


def _join(one: _Edge, other: _Edge) -> None:
    """Merge what meets across a seam."""
    for label, a, other_label, b in zip(
        one.labels, one.pieces, other.labels, other.pieces, strict=True
    ):
        if label == other_label and a is not None and b is not None:
            a.merge(b)


class _Layer:
    """The layer `classes` of the GeoPackage, written some thousand polygons at a time."""

    def __init__(
        self, path: Path, source: ImageSource, mapping: ClassMapping, tags: dict[str, str]
    ) -> None:
        self._path, self._mapping, self._tags = path, mapping, tags
        self._crs = None if source.crs is None else source.crs.to_wkt()
        # QGIS shows an image without a place with its rows at -0.5, -1.5, …
        self._transform = source.transform or Affine.scale(1, -1)
        self._waiting: list[Piece] = []
        self._begun = False

    def add(self, piece: Piece) -> None:
        """Take a finished polygon."""
        self._waiting.append(piece)
        if len(self._waiting) >= WRITE_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits; the file is there afterwards, with no polygon if there is none."""
        pieces, self._waiting = self._waiting, []
        if self._begun and not pieces:
            return
        geometries = np.array(
            [
                piece.geometries[0]
                if len(piece.geometries) == 1
                else shapely.unary_union(piece.geometries)
                for piece in pieces
            ],
            object,
        )
        a, b, c, d, e, f = self._transform[:6]
        placed = shapely.transform(geometries, lambda xy: xy @ [[a, d], [b, e]] + [c, f])
        pixels = np.array([piece.pixels for piece in pieces], np.int64)
        metres = np.array([piece.square_metres for piece in pieces])
        known = metres > 0
        columns = {
            "class": np.array([self._mapping.names[piece.label] for piece in pieces], object),
            "class_index": np.array([piece.label for piece in pieces], np.int32),
            "pixels": pixels,
            "m2": np.where(known, metres, np.nan),
            "hectares": np.where(known, metres / SQUARE_METRES_PER_HECTARE, np.nan),
            "confidence": np.array([piece.confidence for piece in pieces]) / np.maximum(1, pixels),
        }
        with warnings.catch_warnings():
            # A photograph has no CRS, and need not be told so.
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            pyogrio.raw.write(
                self._path,
                shapely.to_wkb(placed),
                list(columns.values()),
                list(columns),
                layer="classes",
                driver="GPKG",
                geometry_type="Polygon",
                crs=self._crs,
                append=self._begun,
                dataset_metadata=None if self._begun else self._tags,
            )
        self._begun = True
