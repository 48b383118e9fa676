"""Reading a photograph or patch: formats, EXIF orientation, and the one rule for odd bands.

Every image becomes 8-bit RGB by the same rule wherever it is read, for training as for mapping:
one band is repeated three times; of two bands (grey and alpha) or four and more the first one or
three are taken; 16-bit values are divided by 257, so that 0 … 65535 becomes 0 … 255; EXIF
orientation is applied.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from salakseg.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TIFF_SUFFIXES = (".tif", ".tiff")

# Drone photographs and orthomosaics pass Pillow's guard against decompression bombs (179 MP).
Image.MAX_IMAGE_PIXELS = 4_000_000_000


def to_rgb8(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, bands), uint8 or uint16 → uint8 (H, W, 3), by the rule above.

    Raises:
        InputError: another data type (floats, signed or 32-bit integers): there is no scale that
            could be known.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    bands = pixels.shape[2]
    pixels = pixels[..., :3] if bands >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise InputError(
        f"its values are {pixels.dtype}; only 8-bit and 16-bit unsigned images are read: "
        "rescale it to 8-bit first"
    )


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A whole image as uint8 (H, W, 3), upright.

    Raises:
        InputError: names the file: missing, truncated, no image, or values without a known scale.
    """
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _read_tiff(path)
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "1", "CMYK", "YCbCr", "LAB", "HSV", "PA"):
                upright = upright.convert("RGB")
            pixels = np.asarray(upright)
            # Pillow gives 16-bit grey PNGs as int32 in some versions.
            return to_rgb8(pixels.astype(np.uint16) if upright.mode == "I" else pixels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the image cannot be read ({error})") from error


def rgb8_of(raster: Any, window: Any = None) -> NDArray[np.uint8]:
    """What an open rasterio data set holds, or a window of it, as uint8 (H, W, 3).

    Raises:
        InputError: values without a known scale (names no file; the caller knows it).
        rasterio.errors.RasterioError: the file is damaged there.
    """
    pixels = np.moveaxis(raster.read(window=window), 0, 2)
    if raster.colorinterp[0].name != "palette":
        return to_rgb8(pixels)
    colors = raster.colormap(1)
    table = np.zeros((max(colors) + 1, 3), np.uint8)
    table[list(colors)] = [color[:3] for color in colors.values()]
    return table[np.minimum(pixels[..., 0], max(colors))]


def exif_orientation(path: Path) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where the file has none that can be read."""
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return 1
    return orientation if orientation in range(1, 9) else 1


def _read_tiff(path: Path) -> NDArray[np.uint8]:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as raster:
                pixels = rgb8_of(raster)
        except RasterioError as error:
            raise OSError(str(error)) from error
    # GDAL hands the pixels over as they are stored.
    orientation = exif_orientation(path)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
