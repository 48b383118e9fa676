"""Areas of the classes by zone: a layer of polygons in, two tables and a GeoPackage out.

A pixel is in a zone where its centre is; a centre on the side that two zones share is in one of
them. Zones may overlap: what they share counts in each.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.raster import ImageSource
from salakseg.mapping.areas import (
    HEADER,
    Areas,
    Ground,
    ReadLabels,
    Validation,
    class_rows,
    count_labels,
    csv_text,
    of_classes,
)
from salakseg.mapping.outputs import GPKG_VERSION, write_table

# Google Earth's folders are layers, and one map together.
ONE_MAP_OF_LAYERS = ("KML", "LIBKML")
# Zones are moved right and down by so much of a pixel. Then no side, straight or slanting, goes
# through the centres of pixels: GDAL counts those on a side along a row in both zones.
NUDGE = (1e-4, 0.618e-4)
# Zones that have more than this share of their ground in common are said to overlap.
OVERLAP = 1e-3

# From where on a zone is called mapped wholly.
WHOLE = 0.9995
# How numbers are written: as a name, and as an amount.
NAME, NUMBER = ".15g", ".4f"

Column = NDArray[Any]
Window = tuple[int, int, int, int]
Inside = Callable[[int, int, int, int], NDArray[np.bool_]]


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
    shapes = _valid(zones.geometries)
    areas = shapely.area(shapes).sum()
    if areas - shapely.area(shapely.union_all(shapes)) > OVERLAP * areas:
        console.print(
            f"{zones.path}: its zones overlap; what they share counts in each of them, and more "
            "than once in their total"
        )


def _valid(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
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


def measure_zones(
    zones: Zones,
    read: ReadLabels,
    source: ImageSource,
    ground: Ground,
    validation: Validation,
    mapping: ClassMapping,
) -> tuple[list[Areas], NDArray[np.float64]]:
    """The areas in each zone.

    Args:
        zones: in the image's CRS, from `place_zones`.

    Returns:
        The areas, and float64 (Z,): the share of each zone that is mapped, 0 to 1: less where it
        reaches beyond the image or holds nodata.
    """
    a, b, c, d, e, f = (~source.transform)[:6]
    in_pixels = shapely.transform(zones.geometries, lambda xy: xy @ [[a, d], [b, e]] + [c, f])
    image = shapely.box(0, 0, source.width, source.height)
    found, covered = [], np.zeros(len(in_pixels))
    for number, geometry in enumerate(in_pixels):
        window, inside = _raster(geometry, source)
        pixels, square_metres = count_labels(read, window, ground, inside)
        areas = of_classes(pixels, square_metres, mapping.num_classes)
        found.append(areas.corrected(validation))
        if pixels.any():
            shape = _valid(geometry)
            there = shapely.area(shapely.intersection(shape, image)) / shapely.area(shape)
            covered[number] = there * areas.pixels.sum() / pixels.sum()
    outside = sum(not areas.pixels.any() for areas in found)
    partly = int(((covered > 0) & (covered < WHOLE)).sum())
    if outside or partly:
        console.print(
            f"{zones.path}: of {plural(len(found), 'zone')} {outside} hold no pixel of "
            f"{source.path}, {partly} are mapped in part only (column covered)"
        )
    return found, covered


def _raster(geometry: shapely.Geometry, source: ImageSource) -> tuple[Window, Inside]:
    """Where a zone, in pixels, may lie in an image; and of a part of that, what is inside it."""
    window = 0, 0, 0, 0
    left, top, right, bottom = shapely.bounds(geometry)
    if np.isfinite([left, top, right, bottom]).all():
        row, column = max(0, int(top)), max(0, int(left))
        height = min(source.height, int(bottom) + 1) - row
        width = min(source.width, int(right) + 1) - column
        if height > 0 and width > 0:
            window = row, column, height, width
    moved = shapely.transform(geometry, lambda xy: xy + NUDGE)

    def inside(row: int, column: int, height: int, width: int) -> NDArray[np.bool_]:
        return rasterio.features.geometry_mask(
            [moved], (height, width), Affine.translation(column, row), invert=True
        )

    return window, inside


def zones_csv(
    zones: Zones, areas: list[Areas], mapping: ClassMapping, basis: str, made_by: str
) -> str:
    """A row for each class of each zone."""
    layers = [None] * len(areas) if zones.layers is None else zones.layers
    more = ["zone_fid"] if zones.layers is None else ["zone_fid", "layer"]
    rows: list[list[object]] = [["zone", *HEADER, *more]]
    names = _cells(zones.names, NAME)
    for name, fid, layer, one in zip(names, zones.fids, layers, areas, strict=True):
        of_zone = [fid] if layer is None else [fid, layer]
        rows += [[name, *row, *of_zone] for row in class_rows(one, mapping, basis, made_by)]
    return csv_text(rows)


def amount_columns(areas: list[Areas], mapping: ClassMapping) -> dict[str, Column]:
    """Pixels, m² where they are known, and of each class its m² (else pixels) and its percent of
    what is mapped, NaN where nothing is: a row for each area, and their sum in the last row."""
    pixels = np.stack([one.pixels for one in areas])
    known = [one.square_metres for one in areas if one.square_metres is not None]
    unit, amounts = ("m2", np.stack(known)) if known else ("pixels", pixels)
    pixels, amounts = (np.vstack([each, each.sum(0)]) for each in (pixels, amounts))
    whole = amounts.sum(1)
    columns = {"pixels": pixels.sum(1)} | ({"m2": whole} if known else {})
    percent = 100 * amounts / np.where(whole, whole, np.nan)[:, None]
    labels = _labels(mapping.names)
    for ending, table in ((unit, amounts), ("percent", percent)):
        columns |= {f"{label}_{ending}": table[:, n] for n, label in enumerate(labels)}
    return columns


def _labels(names: list[str]) -> list[str]:
    """The names, with a number where another differs by its case only: in SQLite it is the same."""
    folded = [name.casefold() for name in names]
    times = [folded[:place].count(name) for place, name in enumerate(folded)]
    return [f"{name}_{n + 1}" if n else name for name, n in zip(names, times, strict=True)]


def _cells(column: Column, form: str) -> list[object]:
    """The values as a CSV has them, '' for NaN."""
    if column.dtype.kind != "f":
        return column.tolist()
    return ["" if np.isnan(value) else format(value, form) for value in column.tolist()]


def write_zones(
    files: dict[str, Path],
    zones: Zones,
    areas: list[Areas],
    covered: NDArray[np.float64],
    mapping: ClassMapping,
    basis: str,
    tags: dict[str, str],
    made_by: str,
) -> None:
    """Write the tables and the layer.

    Args:
        files: `zones`, a row a class of each zone; `zone_table`, a row a zone and their total;
            `zone_layer`, the GeoPackage.
        zones: as `read_zones` gave them.
    """
    write_table(files["zones"], zones_csv(zones, areas, mapping, basis, made_by))
    own = {"zone": zones.names, "zone_fid": zones.fids}
    own |= {} if zones.layers is None else {"layer": zones.layers}
    own["covered"] = covered
    amounts = amount_columns(areas, mapping)
    table = [[*_cells(zones.names, NAME), "total"]]
    table += [[*_cells(column, NUMBER), ""] for column in list(own.values())[1:]]
    table += [_cells(column, NUMBER) for column in amounts.values()]
    heads = [*own, *amounts, "basis", "made_by"]
    rows = ([*row, basis, made_by] for row in zip(*table, strict=True))
    write_table(files["zone_table"], csv_text([heads, *rows]))
    columns = own | {name: column[:-1] for name, column in amounts.items()}  # without the total
    pyogrio.raw.write(
        files["zone_layer"],
        shapely.to_wkb(zones.geometries),
        list(columns.values()),
        list(columns),
        layer="zones",
        driver="GPKG",
        geometry_type="MultiPolygon",
        crs=zones.crs,
        layer_metadata=tags,
        dataset_options={"VERSION": GPKG_VERSION},
    )
