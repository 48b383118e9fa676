"""Photographs of five bands, of ground of which one class can be told by near infrared alone."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from scipy.ndimage import gaussian_filter

from tests.rasters import GRID

CAMERA = ("Blue", "Green", "Red", "Red edge", "NIR")
# Reflectance in ten-thousandths of soil, grass and artificial turf.
REFLECTANCE = np.array(
    [(900, 1300, 1900, 2300, 2700), (400, 900, 600, 2500, 4500), (400, 900, 600, 2500, 1500)], float
)
MAPPING = "class_name,class_color\nsoil,160 120 60\ngrass,40 160 40\nturf,230 60 200\n"


def ground(seed: int, side: int = 192) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Values float32 (5, side, side) in the camera's order, and class indices uint8."""
    rng = np.random.default_rng(seed)
    green, turf = (gaussian_filter(rng.standard_normal((side, side)), 12) > 0 for _ in range(2))
    labels = np.where(green, np.where(turf, 2, 1), 0).astype(np.uint8)
    values = REFLECTANCE[labels].transpose(2, 0, 1) + rng.normal(0, 120, (5, side, side))
    return np.clip(values, 1, 9000).astype(np.float32), labels


def write_bands(
    path: Path,
    bands: NDArray[Any],
    names: tuple[str, ...] | None = CAMERA,
    there: NDArray[np.bool_] | None = None,
    **options: Any,
) -> Path:
    """A GeoTIFF of (bands, H, W), of one name each or none; with alpha where not all is `there`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if there is not None:
        full = np.where(there, 65535 if bands.dtype == np.uint16 else 1, 0)
        bands = np.concatenate([bands * there, full[None]]).astype(bands.dtype)
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    layout = {"dtype": bands.dtype, "photometric": "minisblack", **GRID, **options}
    with rasterio.open(path, "w", driver="GTiff", **shape, **layout) as raster:
        if there is not None:
            others = [ColorInterp.undefined] * (len(bands) - 1)
            raster.colorinterp = [*others, ColorInterp.alpha]
        if names is not None:
            raster.descriptions = [*names, "Alpha"][: len(bands)]
        raster.write(bands)
    return path


def write_photos(data: Path, labelled: int, unlabelled: int = 0, side: int = 192) -> Path:
    """uint16 photographs, part of each transparent, and masks of row numbers."""
    for number in range(labelled + unlabelled):
        values, labels = ground(number, side)
        there = np.ones(labels.shape, bool)
        there[:, :20] = False
        grid = {"transform": GRID["transform"] * rasterio.Affine.translation(number * 1000, 0)}
        name = f"plot{number}.tif"
        write_bands(data / "images" / name, values.astype(np.uint16), there=there, **grid)
        if number < labelled:
            write_bands(data / "masks" / name, labels[None], None, **grid)
    (data / "class_mapping.csv").write_text(MAPPING, encoding="utf-8")
    return data
