"""Whether files that belong together lie on the same ground, by the places that they tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as warp

from salakseg.classes import MASK_SIZE_TOLERANCE
from salakseg.imagery.area import ground_pixel_size
from salakseg.imagery.place import place_of
from salakseg.imagery.raster import PHOTO_SUFFIXES
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.imagery.remote import ImagePath, RemoteImage, answered

# Of a pixel: patches of one image that was cut lie on its pixels.
OFF_THE_GRID = 0.1


class Footprint(NamedTuple):
    """Where a file lies: CRS as WKT, "" for none; six numbers of the geotransform, none where it
    has no place; width and height in pixels; a pixel's side in metres, None where not known."""

    crs: str = ""
    transform: Sequence[float] = ()
    width: int = 0
    height: int = 0
    pixel_size: float | None = None


def footprint(path: ImagePath) -> Footprint:
    """By the file's own words; without a place where it has none, or cannot be read as a raster."""
    if path.suffix.lower() in PHOTO_SUFFIXES and not _placed_beside(path):
        return Footprint()
    try:
        with answered(path), open_raster(path) as raster:
            size, place = (raster.width, raster.height), place_of(raster)
    except GDAL_ERRORS:
        return Footprint()
    crs, transform = place.crs, place.transform
    if transform is None or not transform.determinant:
        return Footprint("", (), *size)
    metres = ground_pixel_size(crs, transform, *size) if crs else None
    return Footprint(crs.to_wkt() if crs else "", tuple(transform)[:6], *size, metres)


def _placed_beside(path: ImagePath) -> bool:
    """Whether a photograph has a file beside it that may place it; cheaper than GDAL's look."""
    if isinstance(path, RemoteImage):
        return False
    suffix = path.suffix[1:]
    world = (f"{suffix[0]}{suffix[-1]}w", f"{suffix}w", "wld")
    return path.with_name(f"{path.name}.aux.xml").exists() or any(
        path.with_suffix(f".{end}").exists() for end in world
    )


def lies_elsewhere(image: ImagePath, mask: Path) -> str:
    """In words, where a mask lies on other ground than its image; "" where it does not, or where
    that cannot be known since one of them has no place."""
    return elsewhere(footprint(image), footprint(mask))


def elsewhere(image: Footprint, mask: Footprint) -> str:
    """As `lies_elsewhere`; by no more than `MASK_SIZE_TOLERANCE` pixels is the same place."""
    if not image.transform or not mask.transform or bool(image.crs) != bool(mask.crs):
        return ""
    columns = np.array([0, mask.width, 0, mask.width])
    rows = np.array([0, 0, mask.height, mask.height])
    x, y = _applied(Affine(*mask.transform), columns, rows)
    if image.crs != mask.crs and CRS.from_wkt(image.crs) != CRS.from_wkt(mask.crs):
        try:
            x, y = warp(CRS.from_wkt(mask.crs), CRS.from_wkt(image.crs), x, y)
        except RasterioError:
            return ""
    there = np.array(_applied(~Affine(*image.transform), np.array(x), np.array(y)))
    off = np.abs(there - (columns, rows)).max()
    if off <= MASK_SIZE_TOLERANCE:  # False where the coordinates are none of the image's CRS
        return ""
    return (
        "by its own coordinates it lies elsewhere than its image: its first corner at column "
        f"{there[0, 0]:.0f}, row {there[1, 0]:.0f} of it, its last one at column "
        f"{there[0, 3]:.0f}, row {there[1, 3]:.0f}"
    )


def _applied(
    transform: Any, columns: NDArray[Any], rows: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b, c, d, e, f = transform[:6]
    return a * columns + b * rows + c, d * columns + e * rows + f


def offsets(patches: Sequence[Footprint]) -> list[tuple[int, int]] | None:
    """Columns and rows of patches in the image that they were cut from, the least of both being 0;
    None where they do not lie on the pixels of one."""
    first = patches[0]
    if any(not patch.transform or patch.crs != first.crs for patch in patches):
        return None
    linear = np.array([patch.transform for patch in patches])
    steps = linear[:, [0, 1, 3, 4]]
    # A pixel's side may differ in the last digits, but not by a pixel over the whole image.
    if np.abs(steps - steps[0]).max() * max(first.width, first.height) > np.abs(steps[0]).max():
        return None
    columns, rows = _applied(~Affine(*first.transform), linear[:, 2], linear[:, 5])
    places = np.stack([columns - columns.min(), rows - rows.min()], 1)
    whole = np.rint(places)
    if np.abs(places - whole).max() > OFF_THE_GRID:
        return None
    return [(int(x), int(y)) for x, y in whole]
