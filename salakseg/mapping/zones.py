"""The zones that areas are given for: a layer of polygons, read, named and put on an image."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from salakseg.console import console
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.layers import Layer, brought_to_image, find_column, polygon_layers
from salakseg.imagery.raster import ImageSource

# Zones that have more than this share of their ground in common are said to overlap.
OVERLAP = 1e-3

Column = NDArray[Any]


@dataclass(frozen=True)
class Zones:
    """The polygons of a vector file.

    Attributes:
        path: the file.
        names: int64, float64 or text (Z,).
        fids: int64 (Z,), the feature's number in its layer.
        layers: text (Z,), or None where all are of one layer.
        geometries: multipolygons (Z,), flat.
        crs: that they are in.
    """

    path: Path
    names: Column
    fids: NDArray[np.int64]
    layers: Column | None
    geometries: NDArray[np.object_]
    crs: str

    @cached_property
    def sha256(self) -> str:
        """Of all of it but the path."""
        layers = None if self.layers is None else self.layers.tolist()
        told = json.dumps([self.names.tolist(), self.fids.tolist(), layers, self.crs])
        return sha256(told.encode() + b"".join(shapely.to_wkb(self.geometries))).hexdigest()


def read_zones(path: Path, field: str | None = None, layer: str | None = None) -> Zones:
    """Read the polygons of a file, and say by what they are called.

    Args:
        field: the column that names them. None: `name`; without it the first text column that is
            filled and different for each, then the first of whole numbers; else the feature's
            number (FID). A zone without a name has its number for one.
        layer: None: the only one with polygons, or all of a KML.

    Raises:
        InputError: no such file, layer or column; no vector file; no CRS or polygons; several
            layers with polygons.
    """
    layers = polygon_layers(path, layer, "--zones", "--zones-layer")
    names = ", ".join(one.name for one in layers)
    crs = str(layers[0].crs)
    fids = np.concatenate([one.fids for one in layers])
    geometries = np.concatenate([one.geometries for one in layers])
    called, by = _names(path, layers, fids, field)
    of_layers = [one.name for one in layers for _ in one.fids]
    zones = Zones(
        path,
        called,
        fids,
        None if len(layers) == 1 else np.array(of_layers, object),
        geometries,
        crs,
    )
    said = f"{path}: {plural(len(fids), 'zone')}"
    if len(layers) > 1:
        said += f" of {len(layers)} layers ({names})"
    console.print(f"{said}, called by {by}")
    _tell_oddities(zones, sum(len(one.without) for one in layers))
    return zones


def _names(
    path: Path, layers: list[Layer], fids: NDArray[np.int64], field: str | None
) -> tuple[Column, str]:
    """What the zones of all layers are called, and by what, in words."""
    columns: dict[str, tuple[str, list[Any]]] = {}
    for name in dict.fromkeys(name for one in layers for name in one.columns):
        parts = [one.columns.get(name, ("", [None] * len(one.fids))) for one in layers]
        letters = {letter for letter, _ in parts if letter}
        columns[name] = (
            letters.pop() if len(letters) == 1 else "O",
            [value for _, values in parts for value in values],
        )
    by = _choose(columns) if field is None else find_column(columns, field)
    if by is None and field is not None and field.lower() != "fid":
        raise InputError(
            f"{path}: has no column {field}; --zone-field takes one of: "
            + ", ".join([*columns, "fid"])
        )
    words = "their number (FID)" if by is None else f"their column {by}"
    filled = [name for name, (_, values) in columns.items() if any(v is not None for v in values)]
    others = [name for name in filled if name != by]
    if field is None and others:
        words += f" (--zone-field takes another: {', '.join(others)})"
    if by is None:
        return fids, words
    letter, values = columns[by]
    missing = sum(value is None for value in values)
    if missing:
        words += f", {missing} without a value by their number (FID)"
    called = [fid if value is None else value for fid, value in zip(fids, values, strict=True)]
    if letter in "iu":
        return np.array(called, np.int64), words
    if letter == "f":
        return np.array(called, np.float64), words
    return np.array([str(value) for value in called], object), words


def _choose(columns: dict[str, tuple[str, list[Any]]]) -> str | None:
    """The column that names zones, as `read_zones` says."""
    name = find_column(columns, "name")
    if name is not None and any(value is not None for value in columns[name][1]):
        return name
    for letters in ("O", "iu"):
        for column, (letter, values) in columns.items():
            if letter in letters and None not in values and len(set(values)) == len(values):
                return column
    return None


def _tell_oddities(zones: Zones, without: int) -> None:
    """Say what a reader of the tables must know: names that come twice, overlaps, what is out."""
    twice = [str(name) for name, times in Counter(zones.names.tolist()).items() if times > 1]
    if twice:
        console.print(
            f"{zones.path}: {plural(len(twice), 'name comes', 'names come')} more than once "
            f"({first_of(twice)}); zone_fid tells them apart"
        )
    if without:
        console.print(f"{zones.path}: {plural(without, 'feature')} without a polygon left out")
    shapes = as_valid(zones.geometries)
    areas = shapely.area(shapes).sum()
    if areas - shapely.area(shapely.union_all(shapes)) > OVERLAP * areas:
        console.print(
            f"{zones.path}: its zones overlap; what they share counts in each of them, and more "
            "than once in their total"
        )


def as_valid(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """The same ground as valid shapes, parts that overlap together."""
    return shapely.make_valid(geometries, method="structure", keep_collapsed=False)


def place_zones(zones: Zones, source: ImageSource) -> Zones:
    """The zones, their polygons in the CRS of an image; empty where it is not made for them.

    Raises:
        InputError: the image has no CRS, or no zone can be brought to it.
    """
    if source.crs is None or source.transform is None:
        raise InputError(f"{source.path}: has no CRS, so it cannot be divided by {zones.path}")
    crs = source.crs.to_wkt()
    placed = brought_to_image(
        zones.path,
        zones.geometries,
        zones.crs,
        source.path,
        crs,
        lambda count: (plural(count, "zone"), "nothing of them is measured"),
    )
    return replace(zones, geometries=placed, crs=crs)
