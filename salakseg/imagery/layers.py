"""The polygons of vector files (GeoPackage, Shapefile, GeoJSON, KML, FlatGeobuf, …), by layer."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.remote import ImagePath

# Google Earth's folders are layers, and one map together.
ONE_MAP_OF_LAYERS = ("KML", "LIBKML")


@dataclass(frozen=True)
class Layer:
    """The features of a layer that have polygons, and what the others are.

    Attributes:
        name, driver, crs: as GDAL has them; no CRS is None.
        fids: int64 (N,), the features' numbers.
        geometries: multipolygons (N,), flat.
        columns: name → numpy's letter of the type (`dtype.kind`), and the values or None.
        without: number and kind of geometry of each feature without a polygon; "" for none.
    """

    name: str
    driver: str
    crs: str | None
    fids: NDArray[np.int64]
    geometries: NDArray[np.object_]
    columns: dict[str, tuple[str, list[Any]]]
    without: list[tuple[int, str]]


def polygon_layers(
    path: Path, layer: str | None, option: str, layer_option: str | None
) -> list[Layer]:
    """The layer with polygons, all of one CRS; several only of a KML.

    Args:
        layer: None: the only one with polygons, or all of a KML.
        option: that gave the file, for what is said; `layer_option` takes a layer, None: none does.

    Raises:
        InputError: no such file or layer; no vector file; no CRS or polygons; several layers with
            polygons; degrees that are none.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; {option} takes a layer of polygons")
    with warnings.catch_warnings():
        # Measures are no part of an area; that a CRS is missing is said below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            layers = _read_layers(path, layer, layer_option)
        except (RuntimeError, ValueError, TypeError, shapely.errors.ShapelyError) as error:
            raise InputError(f"{path}: no vector layer that can be read ({error})") from error
    names = ", ".join(one.name for one in layers)
    if not layers:
        raise InputError(f"{path}: no polygons in it" + (f"s layer {layer}" if layer else ""))
    if len(layers) > 1 and layers[0].driver not in ONE_MAP_OF_LAYERS:
        way = f"say {layer_option} NAME" if layer_option else "save the one alone"
        raise InputError(f"{path}: has several layers of polygons ({names}); {way}")
    crs = layers[0].crs
    if not crs:
        raise InputError(
            f"{path}: has no CRS, so its place in the image is not known; set it first"
        )
    _require_degrees(path, crs, np.concatenate([one.geometries for one in layers]))
    return layers


def _require_degrees(path: Path, crs: str, geometries: NDArray[np.object_]) -> None:
    """Raise `InputError` where a CRS is in degrees and no polygon lies where there are any."""
    left, bottom, right, top = shapely.bounds(geometries).T
    beyond = (left > 360) | (right < -360) | (bottom > 90) | (top < -90)
    with suppress(CRSError):  # a CRS that is none, of which `brought` tells
        if beyond.all() and CRS.from_user_input(crs).is_geographic:
            x, y = shapely.get_coordinates(geometries)[0]
            raise InputError(
                f"{path}: its coordinates, such as {x:.10g}, {y:.10g}, are no longitudes and "
                "latitudes, which its CRS says they are; set its true CRS (a GeoJSON without one "
                "is in degrees)"
            )


def _read_layers(path: Path, wanted: str | None, layer_option: str | None) -> list[Layer]:
    """The layers with polygons, or of these the one that is wanted."""
    listed = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
    if wanted is not None and wanted not in [name for name, _ in listed]:
        there = ", ".join(name for name, _ in listed)
        raise InputError(f"{path}: has no layer {wanted}; {layer_option} takes one of: {there}")
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
        read = shapely.from_wkb(wkb)
        geometries = np.array([_polygons(one) for one in read], object)
        areal = ~shapely.is_missing(geometries)
        if not areal.any():
            continue
        columns = {}
        for column, dtype, part in zip(meta["fields"], meta["dtypes"], values, strict=True):
            # What is NULL somewhere is float in `part`, whatever the column is.
            letter = np.dtype(dtype).kind
            columns[column] = letter, [_plain(letter, value) for value in part[areal]]
        without = [
            (int(fid), "" if one is None or one.is_empty else one.geom_type)
            for fid, one in zip(fids[~areal], read[~areal], strict=True)
        ]
        found.append(
            Layer(
                name,
                info["driver"],
                meta["crs"],
                fids[areal],
                geometries[areal],
                columns,
                without,
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


def find_column(columns: Mapping[str, Any], field: str) -> str | None:
    """The column of that name, in any case where none is written so."""
    if field in columns:
        return field
    return next((name for name in columns if name.lower() == field.lower()), None)


def brought(
    geometries: NDArray[np.object_], crs: str, to: str
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Multipolygons (N,) from one CRS to another (WKT); empty, and True in the second, which are
    beyond what that is for.

    Raises:
        ValueError: one of them is no CRS, or there is no way between them.
    """
    try:
        way = Transformer.from_crs(CRS.from_user_input(crs), CRS.from_wkt(to), always_xy=True)
        placed = shapely.transform(geometries, way.transform, interleaved=False)
    except (CRSError, ProjError) as error:
        raise ValueError(str(error)) from error
    # Of bounds a corner that is no number is no part.
    corners, owners = shapely.get_coordinates(placed, return_index=True)
    beyond = np.zeros(len(placed), bool)
    beyond[owners[~np.isfinite(corners).all(1)]] = True
    placed[beyond] = shapely.MultiPolygon()
    return placed, beyond


def brought_to_image(
    path: Path,
    geometries: NDArray[np.object_],
    crs: str,
    image: ImagePath,
    to: str,
    left_out: Callable[[int], tuple[str, str]],
) -> NDArray[np.object_]:
    """As `brought`, for the polygons of a file and an image, with a line on those that are beyond.

    Args:
        left_out: how many these are → how they are called, and what becomes of them.

    Raises:
        InputError: naming both: there is no way between their CRS, or all are beyond.
    """
    try:
        placed, beyond = brought(geometries, crs, to)
    except ValueError as error:
        raise InputError(f"{path}: cannot be brought to the CRS of {image}") from error
    if beyond.all():
        raise InputError(
            f"{path}: lies beyond what the CRS of {image} is for; set the true CRS of whichever "
            "has a wrong one"
        )
    if beyond.any():
        what, fate = left_out(int(beyond.sum()))
        console.print(f"{path}: {what} beyond what the CRS of {image} is for: {fate}")
    return placed
