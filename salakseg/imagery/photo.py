"""Reading a photograph or patch: formats, EXIF orientation, and the one rule for odd bands.

Every image becomes 8-bit RGB by the same rule wherever it is read, for training as for mapping:
one band is repeated three times; of two bands (grey and alpha) or four and more the first one or
three are taken; 16-bit values are divided by 257, so that 0 … 65535 becomes 0 … 255; EXIF
orientation is applied.

A drone photograph's metadata may tell how large its pixels are on the ground: `ground_sampling`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from salakseg.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TIFF_SUFFIXES = (".tif", ".tiff")

# Degrees off straight down at which areas are some 5 % off.
MAX_TILT = 10.0
# A frame's shape in whole pixels, scaled, is off by a few thousandths.
FRAME_TOLERANCE = 0.01
DIAGONAL_35MM = 43.267
MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0}  # of EXIF's units of resolution

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


def rgb8_of(
    raster: Any, window: Any = None, bands: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """What an open rasterio data set holds, or a window of it, as uint8 (H, W, 3).

    Args:
        bands: numbers of the bands to take, from 1; None: all, of which the rule above chooses.

    Raises:
        InputError: values without a known scale (names no file; the caller knows it).
        rasterio.errors.RasterioError: the file is damaged there.
    """
    if bands is None and raster.count > 3:
        bands = (1, 2, 3)
    pixels = np.moveaxis(raster.read(bands, window=window), 0, 2)
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


def ground_sampling(path: Path, width: int, height: int) -> tuple[float | None, str]:
    """Metres on the ground a pixel of a drone photograph, by its metadata, flat ground assumed.

    The height above take-off and the gimbal's pitch are in DJI's XMP block; the focal length in
    pixels is there too (calibrated), else it follows from EXIF.

    Args:
        width, height: of the decoded photograph, in pixels.

    Returns:
        The size and how it is known; or None and why it cannot be known.
    """
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
            xmp = image.info.get("xmp", b"")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None, "its metadata cannot be read"
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    altitude = _xmp_number(text, "RelativeAltitude")
    pitch = _xmp_number(text, "GimbalPitchDegree")
    if altitude is None or pitch is None:
        return None, "its metadata does not tell the height above ground and the camera's angle"
    if altitude <= 0:
        return None, f"its metadata has a height of {altitude:g} m above take-off"
    if abs(pitch + 90) > MAX_TILT:
        return None, f"the camera was not looking down (gimbal pitch {pitch:g}°)"
    frame = _frame(text, tags)
    if frame is None:
        return None, "its metadata does not tell the camera's focal length and frame"
    frame_width, frame_height, focal = frame
    # Turned by EXIF or not, the longer side is the longer side.
    scale = max(width, height) / max(frame_width, frame_height)
    if abs(scale * min(frame_width, frame_height) / min(width, height) - 1) > FRAME_TOLERANCE:
        return None, (
            f"the picture was cropped or squashed: it has {width} × {height} pixels, the camera's "
            f"frame {frame_width:.0f} × {frame_height:.0f}"
        )
    return altitude / (focal * scale), (
        f"approximate: from the photograph's metadata, {altitude:g} m above take-off"
    )


def _xmp_number(text: str, name: str) -> float | None:
    """A number of DJI's block, written as an attribute or as an element."""
    match = re.search(rf"drone-dji:{name}\s*(?:=\s*[\"']|>)\s*([+-]?\d+(?:\.\d+)?)", text)
    return None if match is None else float(match[1])


def _frame(text: str, tags: dict[int, Any]) -> tuple[float, float, float] | None:
    """Width and height of the camera's full frame and the focal length, all in its pixels."""
    focal = _xmp_number(text, "CalibratedFocalLength")
    x, y = (_xmp_number(text, f"CalibratedOpticalCenter{axis}") for axis in "XY")
    if focal and x and y:
        return 2 * x, 2 * y, focal
    try:
        width, height = (
            float(tags[tag])
            for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
        )
        millimetres = MILLIMETRES.get(tags.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
        if millimetres and ExifTags.Base.FocalPlaneXResolution in tags:
            a_millimetre = float(tags[ExifTags.Base.FocalPlaneXResolution]) / millimetres
            focal = float(tags[ExifTags.Base.FocalLength]) * a_millimetre
        else:
            # Defined by the diagonal.
            focal = float(tags[ExifTags.Base.FocalLengthIn35mmFilm]) / DIAGONAL_35MM
            focal *= float(np.hypot(width, height))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (width, height, focal) if min(width, height, focal) > 0 else None


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
