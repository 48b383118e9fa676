"""Reading images of any size by window, and making cloud-optimised GeoTIFFs.

In: a photograph (PNG, JPEG: decoded whole, upright) or anything else that GDAL reads (GeoTIFF,
BigTIFF, COG, VRT: read by window, whatever its block layout). Out: 8-bit RGB by the rule of
`imagery.photo`, and which pixels are valid.

A pixel is not valid where its alpha is 0, where the file's mask says so, or where *all* bands hold
the nodata value: a single band that does (sunlit sand is 255 too) is an ordinary pixel.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from salakseg.errors import InputError, WorkError
from salakseg.imagery.photo import exif_orientation, read_photo, rgb8_of, to_rgb8

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
UPRIGHT = 1
# GDAL keeps decoded blocks; its default, a share of the machine's memory, is no bound.
GDAL_CACHE_MB = 128

Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True)
class ImageSource:
    """An open image.

    Attributes:
        path: the file.
        height, width: in pixels, upright.
        crs: rasterio CRS, or None.
        transform: affine (column, row) → CRS coordinates, or None.
        read: (row, column, height, width), a window inside the image → uint8 RGB
            (height, width, 3) and bool (height, width), True where the pixel is valid. Raises
            `InputError` where the file is damaged.
    """

    path: Path
    height: int
    width: int
    crs: Any
    transform: Any
    read: Callable[[int, int, int, int], Pixels]


@contextmanager
def open_image(path: Path, nodata: float | None = None) -> Iterator[ImageSource]:
    """Open an image for windowed reading.

    Args:
        nodata: value that marks a pixel as nodata where all bands hold it, in the file's own scale
            for GeoTIFFs; None: what the file says, if anything.

    Raises:
        InputError: names the file: missing, no image, damaged, or values without a known scale.
    """
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if path.suffix.lower() in PHOTO_SUFFIXES or exif_orientation(path) != UPRIGHT:
            yield _photo_source(path, nodata)
            return
        try:
            raster = rasterio.open(path)
        except RasterioError as error:
            reason = "no such file" if not path.exists() else f"the image cannot be read ({error})"
            raise InputError(f"{path}: {reason}") from error
        with raster:
            yield _raster_source(path, raster, nodata)


def _photo_source(path: Path, nodata: float | None) -> ImageSource:
    pixels = read_photo(path)
    valid = _photo_alpha(path, pixels.shape[:2])
    if nodata is not None:
        valid &= (pixels != nodata).any(axis=2)

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        window = np.s_[row : row + height, column : column + width]
        return pixels[window], valid[window]

    return ImageSource(path, pixels.shape[0], pixels.shape[1], None, None, read)


def _photo_alpha(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    with Image.open(path) as image:
        if image.has_transparency_data:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
            return np.asarray(upright.getchannel("A")) > 0
    return np.ones(shape, bool)


def _raster_source(path: Path, raster: Any, nodata: float | None) -> ImageSource:
    colors = list(raster.colorinterp)
    alpha = colors.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colors else None
    bands = [band for band in raster.indexes if band != alpha]
    try:
        to_rgb8(np.empty((1, 1), raster.dtypes[0]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    # Of each band; a band without one can hold no nodata, so the pixel never does.
    marks = [raster.nodatavals[band - 1] if nodata is None else nodata for band in bands]
    marked = all(mark is not None for mark in marks)
    masked = MaskFlags.per_dataset in raster.mask_flag_enums[0] and alpha is None

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        window = Window(column, row, width, height)
        valid = np.ones((height, width), bool)
        try:
            image = rgb8_of(raster, window)
            if alpha is not None:
                valid &= raster.read(alpha, window=window) > 0
            if masked:
                valid &= raster.read_masks(1, window=window) > 0
            if marked:
                values = raster.read(bands, window=window)
                valid &= (values != np.array(marks)[:, None, None]).any(axis=0)
        except RasterioError as error:
            raise InputError(
                f"{path}: rows {row} to {row + height - 1} cannot be read; the file is damaged or "
                "was cut short: copy or export it again"
            ) from error
        return image, valid

    placed = raster.crs is not None or not raster.transform.is_identity
    return ImageSource(
        path,
        raster.height,
        raster.width,
        raster.crs,
        raster.transform if placed else None,
        read,
    )


def write_cog(scratch: Path, path: Path, overview_resampling: str) -> None:
    """Turn a finished GeoTIFF into a cloud-optimised one (deflate, 512-pixel blocks, overviews).

    Args:
        overview_resampling: GDAL's name of it: "mode" for classes, "average" for quantities.

    Raises:
        WorkError: it could not be written.
    """
    try:
        rasterio.shutil.copy(
            scratch,
            path,
            driver="COG",
            compress="DEFLATE",
            bigtiff="IF_SAFER",
            overview_resampling=overview_resampling,
        )
    except RasterioError as error:
        raise WorkError(f"{path.name}: could not be written ({error})") from error
