"""Pixels → square metres on the ground, on the ellipsoid, whatever the CRS.

A pixel of a Mercator map is not its nominal size and degrees are no length, so the area of a pixel
is worked out from where it lies: the corners' longitudes and latitudes give how much of both it
spans, the ellipsoid's radii of curvature there turn that into square metres. Exact for every CRS
that has an ellipsoid, rotated geotransforms included.

A local CRS is a plane that nothing ties to the Earth. Where its unit is a length, areas are those
in the plane, which is what a building site or a trial field with a grid of its own goes by.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from salakseg.errors import InputError

# Between points this far apart the area of a pixel is interpolated linearly; the error, by
# curvature of the Earth, is (distance / radius)² / 8, about one in a million.
NODE_DISTANCE = 20_000.0
# Longitude and latitude are differentiated over this distance on the ground, in metres.
DIFFERENCE_DISTANCE = 100.0
# What the names of lengths, but not of "unknown" or "pixel", have in them.
LENGTHS = ("metre", "meter", "foot", "feet")
# In radians: what is further north, or further round from the prime meridian, is nowhere. A grid of
# all the Earth may end a little beyond its pole, by rounding.
MOST_LATITUDE, MOST_LONGITUDE = np.pi / 2 + 1e-6, 2 * np.pi + 1e-6
# No image that anyone maps has pixels of less or more metres.
LEAST_GSD, MOST_GSD = 1e-6, 1e5

Vectors = tuple[NDArray[np.float64], NDArray[np.float64]]


@lru_cache(maxsize=8)
def _geodetic(wkt: str) -> tuple[Transformer, float, float, float, float]:
    """To longitude and latitude; its unit in radians; a, e² of the ellipsoid; metres a CRS unit."""
    crs = CRS.from_user_input(wkt)
    geodetic = crs.geodetic_crs
    if geodetic is None or crs.ellipsoid is None or not (crs.is_geographic or crs.is_projected):
        raise CRSError("no ellipsoid")
    # A compound CRS has a height axis and its geodetic CRS may have one; areas need neither.
    geodetic = geodetic.to_2d()
    unit = float(geodetic.axis_info[0].unit_conversion_factor)
    a, b = crs.ellipsoid.semi_major_metre, crs.ellipsoid.semi_minor_metre
    metres = a * unit if crs.is_geographic else float(crs.axis_info[0].unit_conversion_factor)
    to_geodetic = Transformer.from_crs(crs.to_2d(), geodetic, always_xy=True)
    return to_geodetic, unit, a, 1 - (b / a) ** 2, metres


@lru_cache(maxsize=8)
def _plane(wkt: str) -> float | None:
    """Metres a unit of a local CRS, None for any other and where that is not known."""
    crs = CRS.from_user_input(wkt)
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    unit = crs.axis_info[0] if crs.type_name == "Engineering CRS" and crs.axis_info else None
    if unit is None or not any(length in unit.unit_name.lower() for length in LENGTHS):
        return None
    return float(unit.unit_conversion_factor)


def _areas_at(
    crs: Any, transform: Any, columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ground area in m² of a pixel centred at each (column, row), pixel edges at whole numbers."""
    plane = _plane(crs.to_wkt())
    if plane is not None:
        return np.full(columns.shape, abs(transform.determinant) * plane**2)
    by_column, by_row, pixels, latitude = _steps_at(crs, transform, columns, rows)
    jacobian = (by_column[0] * by_row[1] - by_row[0] * by_column[1]) / pixels**2
    _, _, a, e2, _ = _geodetic(crs.to_wkt())
    # Radii of curvature: meridian a(1-e²)/w³, prime vertical a/w, with w² = 1 - e² sin² φ.
    w2 = 1 - e2 * np.sin(latitude) ** 2
    return np.abs(jacobian * a * a * (1 - e2) / (w2 * w2) * np.cos(latitude))


def _steps_at(
    crs: Any, transform: Any, columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[Vectors, Vectors, float, NDArray[np.float64]]:
    """How much longitude and latitude, in radians, columns and rows span at each place.

    Returns:
        That of so many columns; of as many rows; how many; the latitude, NaN off the Earth.
    """
    to_geodetic, unit, _, _, metres = _geodetic(crs.to_wkt())
    nominal = metres * abs(transform.determinant) ** 0.5
    step = max(0.5, DIFFERENCE_DISTANCE / nominal / 2)

    def lon_lat(
        column: NDArray[np.float64], row: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = transform.a * column + transform.b * row + transform.c
        y = transform.d * column + transform.e * row + transform.f
        lon, lat = to_geodetic.transform(x, y)
        return np.asarray(lon) * unit, np.asarray(lat) * unit

    def wrapped(difference: NDArray[np.float64]) -> NDArray[np.float64]:
        return (difference + np.pi) % (2 * np.pi) - np.pi

    east, west = lon_lat(columns + step, rows), lon_lat(columns - step, rows)
    south, north = lon_lat(columns, rows + step), lon_lat(columns, rows - step)
    by_column = wrapped(east[0] - west[0]), east[1] - west[1]
    by_row = wrapped(south[0] - north[0]), south[1] - north[1]
    longitude, latitude = lon_lat(columns, rows)
    beyond = (np.abs(latitude) > MOST_LATITUDE) | (np.abs(longitude) > MOST_LONGITUDE)
    return by_column, by_row, 2 * step, np.where(beyond, np.nan, latitude)


def pixel_areas(
    crs: Any, transform: Any, column: int, row: int, width: int, height: int
) -> NDArray[np.float64]:
    """Ground area in m² of each pixel of a window, float64 (height, width).

    Args:
        crs: rasterio or pyproj CRS for which `unknown_area` gave None.
        transform: affine (column, row) → CRS coordinates.
    """
    if _plane(crs.to_wkt()) is not None:
        return _areas_at(crs, transform, *np.zeros((2, height, width)))
    *_, metres = _geodetic(crs.to_wkt())
    # The longer of the pixel's sides, in metres, decides how dense the points must be.
    side = metres * max(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))
    rows = 2 + int(min(height - 1, height * side / NODE_DISTANCE))
    columns = 2 + int(min(width - 1, width * side / NODE_DISTANCE))
    grid_rows, grid_columns = np.meshgrid(
        np.linspace(row, row + height, rows),
        np.linspace(column, column + width, columns),
        indexing="ij",
    )
    nodes = _areas_at(crs, transform, grid_columns, grid_rows)
    return _hat(height, rows) @ nodes @ _hat(width, columns).T


def _hat(size: int, nodes: int) -> NDArray[np.float64]:
    """(size, nodes): linear interpolation from nodes at both ends and evenly between."""
    places = (np.arange(size) + 0.5) / size * (nodes - 1)
    return np.clip(1 - np.abs(places[:, None] - np.arange(nodes)), 0, None)


def require_gsd(gsd: float | None) -> None:
    """Raise `InputError` unless `--gsd` is one, or not given."""
    if gsd is not None and not LEAST_GSD <= gsd <= MOST_GSD:
        raise InputError(
            f"--gsd {gsd:g}: must be metres a pixel, {LEAST_GSD:f} to {MOST_GSD:.0f}, as in 0.05"
        )


def unknown_area(crs: Any, transform: Any, width: int, height: int) -> str | None:
    """Why the ground area of an image's pixels cannot be known, or None where it can."""
    if crs is None or transform is None:
        return "the image has no CRS"
    if not transform.determinant:
        return "the image's geotransform gives its pixels no area"
    columns = np.array([0.0, width, 0, width, width / 2])
    rows = np.array([0.0, 0, height, height, height / 2])
    try:
        with np.errstate(invalid="ignore"):
            areas = _areas_at(crs, transform, columns, rows)
    except (CRSError, ProjError):
        return "the image's CRS is local, in units that are not known"
    if not (np.isfinite(areas) & (areas > 0)).all():
        return "the image's coordinates lie outside its CRS"
    return None


def area_basis(crs: Any) -> str:
    """How areas are known in a CRS for which `unknown_area` gave None."""
    return "on the ellipsoid" if _plane(crs.to_wkt()) is None else "in the plane of its local CRS"


def ground_pixel_size(crs: Any, transform: Any, width: int, height: int) -> float | None:
    """Side in metres of a square with the ground area of the image's middle pixel, or None."""
    if unknown_area(crs, transform, width, height) is not None:
        return None
    area = _areas_at(crs, transform, np.array([width / 2]), np.array([height / 2]))
    return float(area[0] ** 0.5)


def ground_pixel_sides(
    crs: Any, transform: Any, width: int, height: int
) -> tuple[float, float] | None:
    """Metres on the ground from a column to the next and from a row to the next, or None."""
    if unknown_area(crs, transform, width, height) is not None:
        return None
    plane = _plane(crs.to_wkt())
    if plane is not None:
        across = float(np.hypot(transform.a, transform.d))
        return plane * across, plane * float(np.hypot(transform.b, transform.e))
    middle = np.array([width / 2]), np.array([height / 2])
    by_column, by_row, pixels, latitude = _steps_at(crs, transform, *middle)
    _, _, a, e2, _ = _geodetic(crs.to_wkt())
    w2 = 1 - e2 * np.sin(latitude) ** 2
    parallel, meridian = a / w2**0.5 * np.cos(latitude), a * (1 - e2) / w2**1.5
    sides = [
        float(np.hypot(lon * parallel, lat * meridian)[0] / pixels)
        for lon, lat in (by_column, by_row)
    ]
    return sides[0], sides[1]
