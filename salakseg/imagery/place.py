"""Where an image lies, by its file and what lies beside it (world file, `.aux.xml`).

A geotransform places every pixel. Ground control points do so where one affine transform fits them
all; else the map of the image keeps the points, as it keeps a transform without a CRS. A CRS alone
places nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.transform import from_gcps

# In pixels, as GDAL has it: control points further off are not placed by a transform.
FIT = 0.25


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        crs: rasterio CRS of the transform, or None.
        transform: affine (column, row) → coordinates, or None.
        gcps: control points that no transform fits, and their CRS or None.
        note: what its reader must know of it, or "".
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[tuple[Any, ...], Any] = ((), None)
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether GIS software can show the image where it lies: then nobody turns it upright."""
        return self.transform is not None or bool(self.gcps[0])


def place_of(raster: Any) -> Place:
    """Of an open rasterio data set."""
    crs = raster.crs or None
    if not raster.transform.is_identity and np.isfinite(raster.transform).all():
        return Place(crs, raster.transform)
    points, points_crs = raster.gcps
    if points:
        transform, off = _fitted(points)
        placed = f"placed by {len(points)} ground control points"
        if off <= FIT:
            return Place(
                points_crs, transform, note=f"{placed}, to {off:.2f} pixels on a straight grid"
            )
        return Place(
            gcps=(tuple(points), points_crs),
            note=f"{placed} on no straight grid: its map has them too, but no areas; gdalwarp "
            "gives an image that has a grid",
        )
    if raster.rpcs is not None:
        return Place(
            note="placed by RPCs alone: its map will have no place; gdalwarp -rpc gives an image "
            "that has one"
        )
    if crs is not None:
        return Place(note="has a CRS, but no geotransform that would say where in it: no areas")
    return Place()


def _fitted(points: list[Any]) -> tuple[Any, float]:
    """The affine transform that fits control points best, and by how many pixels it is off."""
    pixels = np.array([(point.col, point.row) for point in points])
    if np.linalg.matrix_rank(pixels - pixels[0]) < 2:  # on one line
        return None, np.inf
    transform = from_gcps(points)
    if not transform.determinant:
        return None, np.inf
    x, y = np.array([(point.x, point.y) for point in points]).T
    inverse = ~transform
    columns = inverse.a * x + inverse.b * y + inverse.c
    rows = inverse.d * x + inverse.e * y + inverse.f
    return transform, float(np.hypot(*(np.stack([columns, rows], 1) - pixels).T).max())
