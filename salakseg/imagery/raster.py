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

from salakseg.console import console
from salakseg.errors import InputError, WorkError
from salakseg.imagery.photo import exif_orientation, read_photo, rgb8_of, to_rgb8

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
UPRIGHT = 1
# GDAL keeps decoded blocks; its default, a share of the machine's memory, is no bound. In bytes:
# rasterio hands the number to GDAL's C function, not to its reading of "128" as megabytes.
GDAL_CACHE_BYTES = 128 << 20

Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True)
class ImageSource:
    """An open image.

    Attributes:
        path: the file.
        height, width: in pixels, upright.
        crs: rasterio CRS, or None.
        transform: affine (column, row) → CRS coordinates, or None.
        scaled: 16-bit values are divided by 257 on reading.
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
    scaled: bool = False


@contextmanager
def quiet_gdal() -> Iterator[None]:
    """GDAL with a bounded cache, and without a warning where an image has no place on Earth."""
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def open_image(
    path: Path,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
) -> Iterator[ImageSource]:
    """Open an image for windowed reading.

    Args:
        nodata: value that marks a pixel as nodata where all bands hold it, in the file's own scale
            for GeoTIFFs; None: what the file says, if anything.
        bands: numbers, from 1, of the one or three bands to take; None: by the rule of
            `imagery.photo`.
        skip_unreadable: take the blocks of a raster that cannot be read for not valid, and name
            them; otherwise they raise.

    Raises:
        InputError: names the file: missing, no image, damaged, without these bands, or with values
            without a known scale.
    """
    if bands is not None and (len(bands) not in (1, 3) or min(bands) < 1):
        raise InputError(
            f"--bands {','.join(map(str, bands))}: must be one or three band numbers, as in 1,2,3"
        )
    with quiet_gdal():
        if path.suffix.lower() in PHOTO_SUFFIXES or exif_orientation(path) != UPRIGHT:
            yield _photo_source(path, nodata, bands)
            return
        try:
            raster = rasterio.open(path)
        except RasterioError as error:
            reason = "no such file" if not path.exists() else f"the image cannot be read ({error})"
            raise InputError(f"{path}: {reason}") from error
        with raster:
            yield _raster_source(path, raster, nodata, bands, skip_unreadable)


def _require_bands(path: Path, bands: tuple[int, ...] | None, count: int) -> None:
    if bands is not None and max(bands) > count:
        raise InputError(f"{path}: has no band {max(bands)}, only {count}; see --bands")


def _photo_source(path: Path, nodata: float | None, bands: tuple[int, ...] | None) -> ImageSource:
    pixels = read_photo(path)
    _require_bands(path, bands, 3)
    if bands is not None:
        pixels = np.ascontiguousarray(pixels[..., [band - 1 for band in bands * (3 // len(bands))]])
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


def _raster_source(
    path: Path,
    raster: Any,
    nodata: float | None,
    wanted: tuple[int, ...] | None,
    skip_unreadable: bool,
) -> ImageSource:
    colors = list(raster.colorinterp)
    alpha = colors.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in colors else None
    bands = [band for band in raster.indexes if band != alpha]
    try:
        to_rgb8(np.empty((1, 1), raster.dtypes[0]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    _require_bands(path, wanted, raster.count)
    # Of each band; a band without one can hold no nodata, so the pixel never does.
    marks = [raster.nodatavals[band - 1] if nodata is None else nodata for band in bands]
    marked = all(mark is not None for mark in marks)
    masked = MaskFlags.per_dataset in raster.mask_flag_enums[0] and alpha is None
    unreadable: set[tuple[int, int]] = set()

    def read_window(window: Any) -> Pixels:
        valid = np.ones((window.height, window.width), bool)
        image = rgb8_of(raster, window, wanted)
        if alpha is not None:
            valid &= raster.read(alpha, window=window) > 0
        if masked:
            valid &= raster.read_masks(1, window=window) > 0
        if marked:
            values = raster.read(bands, window=window)
            valid &= (values != np.array(marks)[:, None, None]).any(axis=0)
        return image, valid

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        try:
            return read_window(Window(column, row, width, height))
        except RasterioError as error:
            if not skip_unreadable:
                raise InputError(
                    f"{path}: rows {row} to {row + height - 1} cannot be read; the file is damaged "
                    "or was cut short: copy or export it again, or map the rest of it with "
                    "--skip-unreadable"
                ) from error
        image, valid = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
        for block in _blocks_in(raster, row, column, height, width):
            try:
                pixels = read_window(block)
            except RasterioError:
                block_height, block_width = raster.block_shapes[0]
                top = block.row_off // block_height * block_height
                left = block.col_off // block_width * block_width
                if (top, left) not in unreadable:
                    unreadable.add((top, left))
                    console.print(
                        f"{path}: the block of {block_height} × {block_width} pixels at row {top}, "
                        f"column {left} cannot be read and is left out"
                    )
                continue
            place = np.s_[
                block.row_off - row : block.row_off - row + block.height,
                block.col_off - column : block.col_off - column + block.width,
            ]
            image[place], valid[place] = pixels
        return image, valid

    placed = raster.crs is not None or not raster.transform.is_identity
    return ImageSource(
        path,
        raster.height,
        raster.width,
        raster.crs,
        raster.transform if placed else None,
        read,
        raster.dtypes[0] == "uint16",
    )


def _blocks_in(raster: Any, row: int, column: int, height: int, width: int) -> Iterator[Any]:
    """The parts of a window that lie in one block of the file each."""
    block_height, block_width = raster.block_shapes[0]
    for top in range(row // block_height * block_height, row + height, block_height):
        for left in range(column // block_width * block_width, column + width, block_width):
            first_row, first_column = max(top, row), max(left, column)
            yield Window(
                first_column,
                first_row,
                min(left + block_width, column + width) - first_column,
                min(top + block_height, row + height) - first_row,
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
            predictor="YES",
            num_threads="ALL_CPUS",
            bigtiff="IF_SAFER",
            overview_resampling=overview_resampling,
        )
    except RasterioError as error:
        raise WorkError(f"{path.name}: could not be written ({error})") from error
