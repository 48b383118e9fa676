"""All maps of a folder for programs: `catalog.csv`, a row a map, and `index.vrt`, one class map.

In: the folder. A GIS opens `index.vrt` as it opens one of the class maps that it shows: those of
one CRS and the same classes, the most there are, each in its place. Where they overlap the last one
by name is on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from rasterio.transform import array_bounds

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.console import console
from salakseg.errors import WorkError
from salakseg.files import write_text
from salakseg.imagery.place import Place, place_of
from salakseg.imagery.raster import quiet_gdal
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.mapping.outputs import (
    category_names,
    class_tags,
    classes_of,
    colours,
    csv_text,
    is_map,
    key_of,
    metadata,
    write_table,
)
from salakseg.mapping.polygon_files import FORMATS
from salakseg.mapping.styles import classes_qml
from salakseg.mapping.viewer import ENDINGS, Shown, maps_in

CATALOG, MOSAIC = "catalog.csv", "index.vrt"
# The files of a map that are for themselves, after its name.
FILES = (
    *ENDINGS,
    "_confidence.tif",
    "_confidence.png",
    "_probabilities.tif",
    "_preview.png",
    "_areas.csv",
    "_areas_by_zone.csv",
    "_zones.csv",
    "_zones.gpkg",
    *(f"_polygons.{name}" for name in FORMATS),
    "_errors.tif",
    "_errors.png",
    "_scores.csv",
    ".qlr",
)


@dataclass(frozen=True)
class _Map:
    """A class map: what the page knows of it, its file relative to the folder, and what that says;
    `bounds` are west, south, east and north."""

    shown: Shown
    file: str
    tags: dict[str, str]
    shape: tuple[int, int]
    place: Place
    mapping: ClassMapping

    @property
    def bounds(self) -> tuple[float, ...] | None:
        if self.place.transform is None:
            return None
        return tuple(array_bounds(*self.shape, self.place.transform))


def write_catalog(out: Path) -> None:
    """Write both for the maps in `out`; `index.vrt` where it shows two at least.

    Raises:
        WorkError: they cannot be written.
    """
    maps = [found for shown in maps_in(out) if (found := _read(out, shown)) is not None]
    if not maps:
        return
    try:
        # Names of files may hold bytes that are no text.
        write_table(out / CATALOG, _rows(out, maps).encode("utf-8", "replace").decode())
        _write_mosaic(out / MOSAIC, maps)
    except OSError as error:
        raise WorkError(f"{out}: its {CATALOG} could not be written ({error.strerror})") from error


def _read(out: Path, shown: Shown) -> _Map | None:
    """None where it cannot be read."""
    for ending in ENDINGS:
        try:
            with quiet_gdal(), open_raster(out / f"{shown.name}{ending}") as raster:
                tags = dict(raster.tags())
                size = raster.height, raster.width
                place, mapping = place_of(raster), classes_of(raster)
            return _Map(shown, f"{shown.name}{ending}", tags, size, place, mapping)
        except GDAL_ERRORS:
            continue
    return None


def _rows(out: Path, maps: Sequence[_Map]) -> str:
    names = list(dict.fromkeys(one["name"] for each in maps for one in each.shown.classes))
    header = ["map", "image", "model", "crs", "west", "south", "east", "north", "pixel_m", "far"]
    rows: list[Sequence[object]] = [[*header, *(f"{name}_m2" for name in names), "files"]]
    for one in maps:
        metres = {of_class["name"]: of_class["m2"] for of_class in one.shown.classes}
        files = [one.shown.name + ending for ending in FILES]
        rows.append(
            [
                one.file,
                one.tags.get("IMAGE", ""),
                one.tags.get("MODEL", ""),
                one.place.crs.to_string() if one.place.crs else "",
                *(one.bounds or [""] * 4),
                "" if one.shown.side is None else f"{one.shown.side:.6g}",
                one.tags.get("FAR", ""),
                *(metres.get(name) for name in names),
                "; ".join(file for file in files if (out / file).exists()),
            ]
        )
    return csv_text(rows)


def _write_mosaic(path: Path, maps: Sequence[_Map]) -> None:
    placed = [one for one in maps if one.place.crs is not None and one.place.transform is not None]
    groups: dict[Any, list[_Map]] = {}
    for one in placed:
        _, b, _, d, e, _ = one.place.transform[:6]
        # In a VRT are maps whose rows run from west to east and follow each other southwards.
        if b == d == 0 and e < 0 and one.file.isprintable():
            groups.setdefault((one.place.crs.to_wkt(), one.mapping.rows), []).append(one)
    shown = max(groups.values(), key=len, default=[])
    if len(shown) < 2:
        if is_map(path):
            path.unlink()
            path.with_suffix(".qml").unlink(missing_ok=True)
        return
    if len(shown) < len(placed):
        console.print(
            f"{path}: shows {len(shown)} of {len(placed)} class maps; the others have another CRS, "
            "other classes or turned rows"
        )
    write_text(path.with_suffix(".qml"), classes_qml(shown[0].mapping))
    write_text(path, _vrt(shown))


def _vrt(maps: Sequence[_Map]) -> str:
    """GDAL's description of one raster of all, of the pixel size of the finest."""
    wests, souths, easts, norths = zip(*(one.bounds or () for one in maps), strict=True)
    west, north = min(wests), max(norths)
    across = min(one.place.transform.a for one in maps)
    down = min(-one.place.transform.e for one in maps)
    # A sum of many steps is a little more than the whole.
    width = ceil((max(easts) - west) / across - 0.01)
    height = ceil((north - min(souths)) / down - 0.01)
    mapping = maps[0].mapping
    tags = {
        "TIFFTAG_SOFTWARE": maps[0].tags.get("TIFFTAG_SOFTWARE", ""),
        "KEY": key_of({"maps": [[one.file, one.tags.get("KEY")] for one in maps]}),
    }
    sources = "".join(
        '\n<ComplexSource><SourceFilename relativeToVRT="1">'
        f"{escape(one.file)}</SourceFilename><SourceBand>1</SourceBand>"
        f'<SourceProperties RasterXSize="{columns}" RasterYSize="{rows}" DataType="Byte" '
        'BlockXSize="512" BlockYSize="512"/>'
        f'<SrcRect xOff="0" yOff="0" xSize="{columns}" ySize="{rows}"/>'
        f'<DstRect xOff="{(left - west) / across!r}" yOff="{(north - top) / down!r}" '
        f'xSize="{(right - left) / across!r}" ySize="{(top - bottom) / down!r}"/>'
        f"<NODATA>{IGNORE_INDEX}</NODATA></ComplexSource>"
        for one, left, bottom, right, top in zip(maps, wests, souths, easts, norths, strict=True)
        for rows, columns in [one.shape]
    )
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
        f"<SRS>{escape(maps[0].place.crs.to_wkt())}</SRS>"
        f"<GeoTransform>{west!r}, {across!r}, 0.0, {north!r}, 0.0, {-down!r}</GeoTransform>"
        f"{metadata(tags | class_tags(mapping))}\n"
        f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>{IGNORE_INDEX}</NoDataValue>'
        f"{colours(mapping)}\n{category_names(mapping)}{sources}\n</VRTRasterBand></VRTDataset>\n"
    )
