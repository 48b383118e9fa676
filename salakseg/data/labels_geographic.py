"""Labels on the ground: polygons of a vector file, each with its class in a column.

Any CRS is brought to that of each photograph, and on to its pixels.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from salakseg.console import console
from salakseg.data.labels_draw import Shape
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.alignment import Footprint, footprint
from salakseg.imagery.layers import Layer, brought_to_image, find_column, polygon_layers

# Columns that name the class where several are of text.
USUAL = ("class", "label", "name")

# Features lie in it as a spatial index wants them.
WITHOUT_ORDER = ("FlatGeobuf",)

# Of a pixel, at the rim of a photograph, where no centre lies.
EDGE = 0.25

Placed = tuple[NDArray[np.object_], shapely.STRtree]


@dataclass
class GroundPolygons:
    """Polygons of a file.

    Attributes:
        path: the file.
        geometries: multipolygons (N,), flat, in `crs`; later ones over earlier ones.
        names: of the class of each.
    """

    path: Path
    geometries: NDArray[np.object_]
    crs: str
    names: list[str]
    _placed: dict[str, Placed] = field(default_factory=dict)

    def on(self, photo: Path, place: Footprint) -> list[tuple[int, shapely.MultiPolygon]]:
        """Number and pixels of each that may touch a photograph.

        Raises:
            InputError: the CRS of one is not the other's, nor can it be.
        """
        if place.crs not in self._placed:
            there = brought_to_image(
                self.path,
                self.geometries,
                self.crs,
                photo,
                place.crs,
                lambda count: (plural(count, "polygon"), "left out"),
            )
            self._placed[place.crs] = there, shapely.STRtree(there)
        there, tree = self._placed[place.crs]
        to_ground = Affine(*place.transform)
        frame = shapely.transform(
            shapely.box(0, 0, place.width, place.height), lambda points: _applied(to_ground, points)
        )
        to_pixels = ~to_ground
        return [
            (int(number), shapely.transform(there[number], lambda at: _applied(to_pixels, at)))
            for number in np.sort(tree.query(frame))
        ]


def _applied(transform: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c, d, e, f = transform[:6]
    x, y = points.T
    return np.stack([a * x + b * y + c, d * x + e * y + f], 1)


def place_to_draw(photo: Path, wanted_by: Path) -> Footprint:
    """Where a photograph lies.

    Raises:
        InputError: it does not say that.
    """
    place = footprint(photo)
    if not place.crs or not place.transform:
        raise InputError(
            f"{photo}: has no place on the ground (CRS and geotransform), so {wanted_by} cannot be "
            "drawn on it; gdal_translate or QGIS gives it one, or label it in its own pixels"
        )
    return place


def read_ground_labels(path: Path, label_field: str | None, layer: str | None) -> GroundPolygons:
    """Polygons with their classes, and say by what they are called.

    Args:
        label_field: None: the only column of text, else the one called class, label or name; none
            where these are two.

    Raises:
        InputError: as `imagery.layers.polygon_layers`; points or lines among them; no such column,
            none that can be chosen, or one without a value somewhere.
    """
    layers = polygon_layers(path, layer, "--labels", "--label-layer")
    kinds = Counter(kind for one in layers for _, kind in one.without if kind)
    if kinds:
        fid, name = next((f, one.name) for one in layers for f, kind in one.without if kind)
        what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        raise InputError(
            f"{path}: its layer {name} holds {what} (first: feature {fid}), which have no area; "
            "draw around what they stand for, or delete them"
        )
    column = _column(path, layers, label_field)
    names: list[str] = []
    without: list[int] = []
    for one in layers:
        values = one.columns.get(column, ("", [None] * len(one.fids)))[1]
        without += [int(fid) for fid, value in zip(one.fids, values, strict=True) if value is None]
        names += [str(value) for value in values]
    if without:
        raise InputError(
            f"{path}: {plural(len(without), 'polygon')} without a value in the column {column} "
            f"(feature {first_of([str(fid) for fid in without])}); name the class, or delete them"
        )
    of = f" of {len(layers)} layers" if len(layers) > 1 else ""
    console.print(f"{path}: {plural(len(names), 'polygon')}{of}, the class by the column {column}")
    if layers[0].driver in WITHOUT_ORDER and len(set(names)) > 1:
        console.print(
            f"{path}: {layers[0].driver} does not keep the order in which polygons were drawn: "
            "where two classes overlap, either may hold; a GeoPackage keeps it"
        )
    empty = sum(len(one.without) for one in layers)
    if empty:
        console.print(f"{path}: {plural(empty, 'feature')} without a geometry left out")
    geometries = np.concatenate([one.geometries for one in layers])
    return GroundPolygons(path, geometries, str(layers[0].crs), names)


def _column(path: Path, layers: list[Layer], wanted: str | None) -> str:
    """The column that names the class."""
    filled: dict[str, str] = {}
    for one in layers:
        for name, (letter, values) in one.columns.items():
            if any(value is not None for value in values):
                filled[name] = letter
    if wanted is not None:
        found = find_column(filled, wanted)
        if found is None:
            raise InputError(
                f"{path}: has no column {wanted} with values; --label-field takes one of: "
                f"{', '.join(filled) or 'none'}"
            )
        return found
    texts = [name for name, letter in filled.items() if letter == "O"]
    usual = (find_column(filled, name) for name in USUAL)
    chosen = next((name for name in usual if name is not None), None)
    if len(texts) == 1:
        # Beside numbers in `class` words may be the class, as in `class_name`, or who drew it.
        called = chosen in (None, texts[0]) or texts[0].lower().startswith(USUAL)
        chosen = texts[0] if called else None
    if chosen is None:
        raise InputError(
            f"{path}: which column names the class? --label-field takes one of: "
            f"{', '.join(filled) or 'none, since there is none with values'}"
        )
    return chosen


def read_ground_area(path: Path) -> GroundPolygons:
    """Polygons without classes."""
    layers = polygon_layers(path, None, "--aoi", None)
    geometries = np.concatenate([one.geometries for one in layers])
    return GroundPolygons(path, geometries, str(layers[0].crs), [""] * len(geometries))


def shapes_on(polygons: GroundPolygons, photo: Path, place: Footprint) -> list[Shape]:
    """What of it lies on a photograph."""
    return [
        Shape(polygons.names[number], area)
        for number, area in polygons.on(photo, place)
        if touches(area, place)
    ]


def touches(area: shapely.MultiPolygon, place: Footprint) -> bool:
    """Whether a polygon may hold the centre of a pixel; its box may, and it not, and one along the
    edge belongs to the photograph beside this one."""
    area = area if area.is_valid else shapely.make_valid(area)
    centres = shapely.box(EDGE, EDGE, place.width - EDGE, place.height - EDGE)
    return bool(shapely.intersects(centres, area))
