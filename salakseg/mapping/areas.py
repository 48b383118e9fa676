"""Areas of the classes of a map, for the whole of it and by zone, with intervals.

In: the finished labels, read in strips; how large the image's pixels are on the ground; the model's
confusion matrix on its validation patches. Out: pixels and square metres a class, and the
error-adjusted areas with 95 % intervals of Olofsson et al. 2014 ("Good practices for estimating
area and assessing accuracy of land change", equations 9 to 11).
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from rich.table import Table

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.area import ground_pixel_size, pixel_areas, unknown_area
from salakseg.imagery.photo import ground_sampling
from salakseg.imagery.raster import ImageSource

SQUARE_METRES_PER_HECTARE = 10_000
Z_95 = 1.96
STRIP_PIXELS = 4_000_000
ASSUMPTION = (
    "The 95 % intervals are for areas corrected by the errors on the validation patches, as if "
    "their pixels were an independent random sample of this map's classes. Neighbouring pixels "
    "share their errors and other ground has others: the true uncertainty is much larger."
)

ReadLabels = Callable[[int, int, int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Ground:
    """How large an image's pixels are on the ground.

    Attributes:
        basis: how that is known, or "pixels only: …" and why it is not.
        side: side of the middle pixel in metres, None where not known.
        areas: (column, row, width, height) of a window → float64 (height, width) in m², or None.
    """

    basis: str
    side: float | None = None
    areas: Callable[[int, int, int, int], NDArray[np.float64]] | None = None


def ground_of(source: ImageSource, gsd: float | None, is_photo: bool) -> Ground:
    """By the CRS; without one by `gsd` (metres a pixel); else by a drone photograph's metadata."""
    unknown = unknown_area(source.crs, source.transform, source.width, source.height)
    if unknown is None:
        return Ground(
            "on the ellipsoid",
            ground_pixel_size(source.crs, source.transform, source.width, source.height),
            lambda *window: pixel_areas(source.crs, source.transform, *window),
        )
    if gsd is not None:
        side, basis = gsd, f"by --gsd {gsd:g}"
    elif is_photo:
        found, why = ground_sampling(source.path, source.width, source.height)
        if found is None:
            return Ground(f"pixels only: {unknown}, and {why}")
        side, basis = found, why
    else:
        return Ground(f"pixels only: {unknown}")
    return Ground(
        basis, side, lambda column, row, width, height: np.full((height, width), side * side)
    )


@dataclass(frozen=True)
class Areas:
    """The classes' share of a map or a zone.

    Attributes:
        pixels: int64 (K,).
        square_metres: float64 (K,), or None where not known.
        adjusted: float64 (K, 3): error-adjusted share of each class, low and high end of its 95 %
            interval; or None.
    """

    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    adjusted: NDArray[np.float64] | None = None

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 (K,): of the ground where its area is known, else of the pixels."""
        amounts = self.pixels if self.square_metres is None else self.square_metres
        return amounts / (amounts.sum() or 1)


def error_adjusted(
    shares: NDArray[np.float64], confusion: NDArray[np.int64] | None
) -> NDArray[np.float64] | None:
    """Error-adjusted share of each class, low and high end of its 95 % interval, float64 (K, 3).

    p_j = Σ_i W_i n_ij / n_i and S²(p_j) = Σ_i W_i² (n_ij / n_i) (1 - n_ij / n_i) / (n_i - 1), where
    W_i is the mapped share of class i and n_ij counts validation pixels mapped as i that are j.

    Args:
        shares: float64 (K,): mapped shares.
        confusion: int64 (K, K): rows the truth, columns the prediction; or None.

    Returns:
        None where the matrix is missing, the map is empty, or a class of the map was predicted for
        fewer than two validation pixels, so that nothing is known of its errors.
    """
    if confusion is None or not shares.sum():
        return None
    counts = confusion.T.astype(float)
    samples = counts.sum(axis=1, keepdims=True)
    mapped = shares > 0
    if (samples[mapped] < 2).any():
        return None
    weights = shares[mapped, None]
    rates = counts[mapped] / samples[mapped]
    adjusted = (weights * rates).sum(axis=0)
    variance = (weights**2 * rates * (1 - rates) / (samples[mapped] - 1)).sum(axis=0)
    half = Z_95 * np.sqrt(variance)
    return np.column_stack(
        [adjusted, np.maximum(0, adjusted - half), np.minimum(1, adjusted + half)]
    )


def strips(row: int, column: int, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """A window cut into strips (row, column, height, width) of bounded size."""
    step = max(1, STRIP_PIXELS // max(1, width))
    for first in range(row, row + height, step):
        yield first, column, min(step, row + height - first), width


def measure(
    read: ReadLabels,
    window: tuple[int, int, int, int],
    ground: Ground,
    confusion: NDArray[np.int64] | None,
    num_classes: int,
    inside: Callable[[int, int, int, int], NDArray[np.bool_]] | None = None,
) -> Areas:
    """Pixels and areas of the classes in a window (row, column, height, width).

    Args:
        read: (row, column, height, width) → labels.
        inside: the same → bool, the pixels that count; None: all.
    """
    pixels, square_metres = np.zeros(256, np.int64), np.zeros(256)
    for row, column, height, width in strips(*window):
        labels = read(row, column, height, width)
        if inside is not None:
            labels = np.where(inside(row, column, height, width), labels, IGNORE_INDEX)
        pixels += np.bincount(labels.ravel(), minlength=256)
        if ground.areas is not None:
            areas = ground.areas(column, row, width, height)
            square_metres += np.bincount(labels.ravel(), areas.ravel(), minlength=256)
    learnt = slice(num_classes)
    found = Areas(pixels[learnt], square_metres[learnt] if ground.areas is not None else None)
    return Areas(found.pixels, found.square_metres, error_adjusted(found.shares, confusion))


@dataclass(frozen=True)
class Zones:
    """The polygons of a vector layer: a name each, and where they lie."""

    path: Path
    names: list[str]
    geometries: NDArray[np.object_]
    crs: str


def read_zones(path: Path) -> Zones:
    """Read the polygons of a file's first layer; their names are its first text column.

    Raises:
        InputError: missing, no vector file, without CRS or polygons.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; --zones takes a layer of polygons")
    try:
        meta, _, wkb, columns = pyogrio.raw.read(path)
        geometries = shapely.from_wkb(wkb)
    except (DataSourceError, shapely.errors.ShapelyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no vector layer that can be read ({error})") from error
    areal = np.isin(
        shapely.get_type_id(geometries),
        [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON],
    )
    if not areal.any():
        raise InputError(f"{path}: no polygons in its first layer")
    if not meta["crs"]:
        raise InputError(
            f"{path}: has no CRS, so its place in the image is not known; set it first"
        )
    text = [column for column in columns if column.dtype == object]
    names = [str(number) for number in range(1, len(geometries) + 1)]
    if text:
        names = [
            number if name in (None, "") else str(name)
            for number, name in zip(names, text[0], strict=True)
        ]
    return Zones(
        path,
        [name for name, keep in zip(names, areal, strict=True) if keep],
        geometries[areal],
        meta["crs"],
    )


def place_zones(zones: Zones, source: ImageSource) -> Zones:
    """The zones, their polygons in the CRS of an image.

    Raises:
        InputError: the image has no CRS, or the zones cannot be brought to it.
    """
    if source.crs is None or source.transform is None:
        raise InputError(f"{source.path}: has no CRS, so it cannot be divided by {zones.path}")
    try:
        to_image = Transformer.from_crs(
            CRS.from_user_input(zones.crs), CRS.from_wkt(source.crs.to_wkt()), always_xy=True
        )
        placed = shapely.transform(
            zones.geometries, lambda x, y: to_image.transform(x, y), interleaved=False
        )
        return Zones(zones.path, zones.names, placed, source.crs.to_wkt())
    except (CRSError, ProjError) as error:
        raise InputError(f"{zones.path}: cannot be brought to the CRS of the image") from error


def measure_zones(
    zones: Zones,
    read: ReadLabels,
    source: ImageSource,
    ground: Ground,
    confusion: NDArray[np.int64] | None,
    num_classes: int,
) -> list[Areas]:
    """The areas in each zone; a pixel is in it where its centre is. Zones may overlap.

    Args:
        zones: in the image's CRS, from `place_zones`.
    """
    a, b, c, d, e, f = (~source.transform)[:6]
    found = []
    for geometry in zones.geometries:
        corners = shapely.get_coordinates(geometry)
        window = (0, 0, 0, 0)
        if len(corners) and np.isfinite(corners).all():
            columns, rows = (corners @ [[a, d], [b, e]] + [c, f]).T
            top, left = max(0, int(rows.min())), max(0, int(columns.min()))
            bottom = min(source.height, int(rows.max()) + 1)
            right = min(source.width, int(columns.max()) + 1)
            window = (top, left, max(0, bottom - top), max(0, right - left))

        def inside(
            row: int, column: int, height: int, width: int, geometry: Any = geometry
        ) -> NDArray[np.bool_]:
            return rasterio.features.geometry_mask(
                [geometry],
                (height, width),
                window_transform(Window(column, row, width, height), source.transform),
                invert=True,
            )

        if not window[2] * window[3]:
            window = (0, 0, 0, 0)
        found.append(measure(read, window, ground, confusion, num_classes, inside))
    outside = sum(not areas.pixels.any() for areas in found)
    if outside:
        console.print(
            f"{zones.path}: {outside} of {len(found)} zones hold no pixel of {source.path}"
        )
    return found


HEADER = [
    "class", "pixels", "share", "m2", "hectares",
    "adjusted_share", "adjusted_share_low", "adjusted_share_high",
    "adjusted_hectares", "adjusted_hectares_low", "adjusted_hectares_high",
    "basis", "made_by",
]  # fmt: skip


def areas_csv(
    rows: Sequence[tuple[str | None, Areas]], mapping: ClassMapping, basis: str, made_by: str
) -> str:
    """One line a class; with the zone's name before it where it has one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER if rows and rows[0][0] is None else ["zone", *HEADER])
    for zone, areas in rows:
        shares = areas.shares
        metres = areas.square_metres
        for index, name in enumerate(mapping.names):
            line = [name, areas.pixels[index], f"{shares[index]:.6f}"]
            line += _metres_and_hectares(None if metres is None else metres[index])
            adjusted = None if areas.adjusted is None else areas.adjusted[index]
            line += [""] * 3 if adjusted is None else [f"{share:.6f}" for share in adjusted]
            if adjusted is None or metres is None:
                line += [""] * 3
            else:
                hectares = adjusted * metres.sum() / SQUARE_METRES_PER_HECTARE
                line += [f"{value:.6f}" for value in hectares]
            writer.writerow([*([] if zone is None else [zone]), *line, basis, made_by])
    return text.getvalue()


def _metres_and_hectares(metres: float | None) -> list[str]:
    if metres is None:
        return ["", ""]
    return [f"{metres:.3f}", f"{metres / SQUARE_METRES_PER_HECTARE:.6f}"]


def read_areas(path: Path) -> tuple[Areas, str]:
    """Pixels and square metres that `areas_csv` wrote for a whole map, and their basis.

    Raises:
        OSError, KeyError, ValueError, IndexError: missing, or another file.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = np.array([int(row["pixels"]) for row in rows], np.int64)
    known = all(row["m2"] for row in rows)
    square_metres = np.array([float(row["m2"]) for row in rows]) if known else None
    return Areas(pixels, square_metres), rows[0]["basis"]


def print_areas(
    title: str,
    maps: list[Areas],
    bases: list[str],
    mapping: ClassMapping,
    confusion: NDArray[np.int64] | None,
) -> None:
    """The table of all maps together, how the areas are known, and what the interval means."""
    pixels = np.sum([areas.pixels for areas in maps], axis=0)
    known = [areas.square_metres for areas in maps if areas.square_metres is not None]
    # A sum over some of the images only would be taken for all of them.
    total = Areas(pixels, np.sum(known, axis=0) if len(known) == len(maps) else None)
    adjusted = error_adjusted(total.shares, confusion)
    columns = {"pixels": [f"{count:,}" for count in (*pixels, pixels.sum())]}
    hectares = None
    if total.square_metres is not None:
        metres = total.square_metres
        hectares = metres.sum() / SQUARE_METRES_PER_HECTARE
        columns["m²"] = [f"{area:,.1f}" for area in (*metres, metres.sum())]
        columns["ha"] = [
            f"{area / SQUARE_METRES_PER_HECTARE:,.4f}" for area in (*metres, metres.sum())
        ]
    columns["%"] = [f"{100 * share:.1f}" for share in (*total.shares, total.shares.sum())]
    if adjusted is not None and hectares is not None:
        columns["adjusted ha (95 %)"] = [*(_interval(row * hectares, 4) for row in adjusted), ""]
    elif adjusted is not None:
        columns["adjusted % (95 %)"] = [*(_interval(row * 100, 1) for row in adjusted), ""]
    table = Table(title=title)
    table.add_column("class")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in zip([*mapping.names, "total"], *columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    for basis in sorted(set(bases)):
        console.print(f"Areas: {basis}")
    if adjusted is not None:
        console.print(ASSUMPTION)
    elif confusion is None:
        console.print("No intervals: the model file holds no validation scores")
    elif pixels.any():
        console.print(
            "No intervals: the map holds a class that the model never predicted in validation"
        )


def _interval(values: NDArray[np.float64], digits: int) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"
