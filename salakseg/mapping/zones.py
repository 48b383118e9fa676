"""The zones that areas are given for: a layer of polygons, read, named and put on an image."""

import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from salakseg.console import console
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.raster import ImageSource

# Google Earth's folders are layers, and one map together.
ONE_MAP_OF_LAYERS = ("KML", "LIBKML")
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


@dataclass(frozen=True)
class _Layer:
    """The features of a layer that have polygons, and how many have none.

    `columns` has numpy's letter of the type (`dtype.kind`), and the values or None.
    """

    name: str
    driver: str
    crs: str | None
    fids: NDArray[np.int64]
    geometries: NDArray[np.object_]
    columns: dict[str, tuple[str, list[Any]]]
    without: int


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
    if not path.exists():
        raise InputError(f"{path}: no such file; --zones takes a layer of polygons")
    with warnings.catch_warnings():
        # Measures are no part of an area; that a CRS is missing is said below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            layers = _read_layers(path, layer)
        except (RuntimeError, ValueError, TypeError, shapely.errors.ShapelyError) as error:
            raise InputError(f"{path}: no vector layer that can be read ({error})") from error
    names = ", ".join(one.name for one in layers)
    if not layers:
        raise InputError(f"{path}: no polygons in it" + (f"s layer {layer}" if layer else ""))
    if len(layers) > 1 and layers[0].driver not in ONE_MAP_OF_LAYERS:
        raise InputError(
            f"{path}: has several layers of polygons ({names}); say --zones-layer NAME"
        )
    crs = layers[0].crs
    if not crs:
        raise InputError(
            f"{path}: has no CRS, so its place in the image is not known; set it first"
        )
    fids = np.concatenate([one.fids for one in layers])
    geometries = np.concatenate([one.geometries for one in layers])
    _require_degrees(path, crs, geometries)
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
    _tell_oddities(zones, sum(one.without for one in layers))
    return zones


def _require_degrees(path: Path, crs: str, geometries: NDArray[np.object_]) -> None:
    """Raise `InputError` where a CRS is in degrees and no zone lies where there are any."""
    left, bottom, right, top = shapely.bounds(geometries).T
    beyond = (left > 360) | (right < -360) | (bottom > 90) | (top < -90)
    with suppress(CRSError):  # a CRS that is none, of which `place_zones` tells
        if beyond.all() and CRS.from_user_input(crs).is_geographic:
            x, y = shapely.get_coordinates(geometries)[0]
            raise InputError(
                f"{path}: its coordinates, such as {x:.10g}, {y:.10g}, are no longitudes and "
                "latitudes, which its CRS says they are; set its true CRS (a GeoJSON without one "
                "is in degrees)"
            )


def _read_layers(path: Path, wanted: str | None) -> list[_Layer]:
    """The layers with polygons, or of these the one that is wanted."""
    listed = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
    if wanted is not None and wanted not in [name for name, _ in listed]:
        there = ", ".join(name for name, _ in listed)
        raise InputError(f"{path}: has no layer {wanted}; --zones-layer takes one of: {there}")
    found = []
    for number, (name, kind) in enumerate(listed):
        if wanted not in (None, name):
            continue
        if kind is None or not any(word in kind for word in ("Polygon", "Collection", "Unknown")):
            continue
        info = pyogrio.read_info(path, layer=number)
        meta, fids, wkb, values = pyogrio.raw.read(
            path,
            layer=number,
            columns=_of_values(info),
            return_fids=True,
            force_2d=True,
        )
        geometries = np.array([_polygons(one) for one in shapely.from_wkb(wkb)], object)
        areal = ~shapely.is_missing(geometries)
        if not areal.any():
            continue
        columns = {}
        for column, dtype, part in zip(meta["fields"], meta["dtypes"], values, strict=True):
            # What is NULL somewhere is float in `part`, whatever the column is.
            letter = np.dtype(dtype).kind
            columns[column] = letter, [_plain(letter, value) for value in part[areal]]
        found.append(
            _Layer(
                name,
                info["driver"],
                meta["crs"],
                fids[areal],
                geometries[areal],
                columns,
                int((~areal).sum()),
            )
        )
    return found


def _of_values(info: dict[str, Any]) -> list[str]:
    """The columns of single values: lists name nothing, and not all of them can be read."""
    # Before 0.12 pyogrio knows no lists; later ones call a list of truth values "bool".
    types = info.get("ogr_types", info["dtypes"])
    return [name for name, kind in zip(info["fields"], types, strict=True) if "List" not in kind]


def _polygons(geometry: shapely.Geometry | None) -> shapely.MultiPolygon | None:
    """All polygons of a geometry, those of collections in it too; None where there is none."""
    if geometry is None:
        return None
    parts = shapely.get_parts(geometry)
    while (shapely.get_num_geometries(parts) > 1).any() or (shapely.get_type_id(parts) > 3).any():
        parts = shapely.get_parts(parts)
    areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    polygons = parts[areal & ~shapely.is_empty(parts)]
    return shapely.multipolygons(polygons) if len(polygons) else None


def _plain(letter: str, value: Any) -> int | float | str | None:
    """A value of a column of this type as a name, None where it has none."""
    if value is None or value != value:  # NaN, NaT
        return None
    if letter in "iu":
        return int(value)
    if letter == "f":
        return float(value)
    if letter == "b":
        return str(bool(value)).lower()
    return str(value).strip() or None


def _names(
    path: Path, layers: list[_Layer], fids: NDArray[np.int64], field: str | None
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
    by = _choose(columns) if field is None else _find(columns, field)
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


def _find(columns: dict[str, Any], field: str) -> str | None:
    """The column of that name, in any case where none is written so."""
    if field in columns:
        return field
    return next((name for name in columns if name.lower() == field.lower()), None)


def _choose(columns: dict[str, tuple[str, list[Any]]]) -> str | None:
    """The column that names zones, as `read_zones` says."""
    name = _find(columns, "name")
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
    try:
        to_image = Transformer.from_crs(
            CRS.from_user_input(zones.crs), CRS.from_wkt(source.crs.to_wkt()), always_xy=True
        )
        placed = shapely.transform(zones.geometries, to_image.transform, interleaved=False)
    except (CRSError, ProjError) as error:
        raise InputError(f"{zones.path}: cannot be brought to the CRS of the image") from error
    beyond = ~np.isfinite(shapely.bounds(placed)).all(axis=1)
    if beyond.all():
        raise InputError(
            f"{zones.path}: lies beyond what the CRS of {source.path} is for; set the true CRS of "
            "whichever has a wrong one"
        )
    if beyond.any():
        placed[beyond] = shapely.MultiPolygon()
        console.print(
            f"{zones.path}: {plural(int(beyond.sum()), 'zone')} beyond what the CRS of "
            f"{source.path} is for: nothing of them is measured"
        )
    return replace(zones, geometries=placed, crs=source.crs.to_wkt())
