"""GeoTIFFs, for all tests that read them."""

from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from numpy.typing import NDArray

GRID: dict[str, Any] = {"crs": "EPSG:32748", "transform": Affine(0.1, 0, 434_000, 0, -0.1, 9e6)}


def write_tiff(path: Path, bands: NDArray[Any], **options: Any) -> Path:
    """`bands` is (bands, height, width)."""
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=bands.dtype, **shape, **GRID | options
    ) as raster:
        raster.write(bands)
    return path
