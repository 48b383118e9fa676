"""Areas of the classes by zone: counted on a map, in two tables and a GeoPackage.

A pixel is in a zone where its centre is; a centre on the side that two zones share is in one of
them. Zones may overlap: what they share counts in each.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.data.problems import plural
from salakseg.imagery.raster import ImageSource
from salakseg.mapping.area_tables import HEADER, class_rows
from salakseg.mapping.areas import Areas, Ground, ReadLabels, Validation, count_labels, of_classes
from salakseg.mapping.geopackage import write_layer
from salakseg.mapping.outputs import csv_text, write_table
from salakseg.mapping.zones import Column, Zones, as_valid

# Zones are moved right and down by so much of a pixel. Then no side, straight or slanting, goes
# through the centres of pixels: GDAL counts those on a side along a row in both zones.
NUDGE = (1e-4, 0.618e-4)
# From where on a zone is called mapped wholly.
WHOLE = 0.9995
# How numbers are written: as a name, and as an amount.
NAME, NUMBER = ".15g", ".4f"

Window = tuple[int, int, int, int]
Inside = Callable[[int, int, int, int], NDArray[np.bool_]]


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
    in_pixels = in_pixels_of(zones, source)
    image = shapely.box(0, 0, source.width, source.height)
    found, covered = [], np.zeros(len(in_pixels))
    for number, geometry in enumerate(in_pixels):
        window, inside = rasterised(geometry, source)
        pixels, square_metres = count_labels(read, window, ground, inside)
        areas = of_classes(pixels, square_metres, mapping.num_classes)
        found.append(areas.corrected(validation))
        if pixels.any():
            shape = as_valid(geometry)
            there = shapely.area(shapely.intersection(shape, image)) / shapely.area(shape)
            covered[number] = there * areas.pixels.sum() / pixels.sum()
    outside = sum(not areas.pixels.any() for areas in found)
    partly = int(((covered > 0) & (covered < WHOLE)).sum())
    if outside or partly:
        console.print(
            f"{zones.path}: of {plural(len(found), 'zone')} {plural(outside, 'holds', 'hold')} no "
            f"pixel of {source.path}, {plural(partly, 'is', 'are')} mapped in part only (column "
            "covered)"
        )
    return found, covered


def in_pixels_of(zones: Zones, source: ImageSource) -> NDArray[np.object_]:
    """The polygons of zones that are in the image's CRS, in its pixels."""
    a, b, c, d, e, f = (~source.transform)[:6]
    moved: NDArray[np.object_] = shapely.transform(
        zones.geometries, lambda xy: xy @ [[a, d], [b, e]] + [c, f]
    )
    return moved


def rasterised(geometry: shapely.Geometry, source: ImageSource) -> tuple[Window, Inside]:
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


def zones_at(
    zones: Zones, source: ImageSource, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which zones, in the image's CRS, each of n pixels is in: bool (n, Z)."""
    moved = shapely.transform(in_pixels_of(zones, source), lambda xy: xy + NUDGE)
    shapely.prepare(moved)
    inside = [shapely.contains_xy(one, columns + 0.5, rows + 0.5) for one in moved]
    return np.array(inside, bool).reshape(len(moved), len(rows)).T


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
    write_layer(
        files["zone_layer"], "zones", "MultiPolygon", zones.geometries, columns, zones.crs, tags
    )
