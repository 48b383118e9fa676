"""A photograph or patch as a whole, and what a drone's metadata tell of its pixels' size.

How its values become 8-bit RGB is the rule of `imagery.bands`, wherever an image is read.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from salakseg.band_set import BandSet
from salakseg.errors import InputError
from salakseg.imagery.decode import ERRORS, WHOLE_PIXELS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TIFF_SUFFIXES = (".tif", ".tiff")
# Where GDAL keeps an image's mask, and its nodata or place, after the image's whole name.
BESIDE_IMAGES = (".msk", ".aux.xml")

# Degrees off straight down at which areas are some 5 % off.
MAX_TILT = 10.0
# A frame's shape in whole pixels, scaled, is off by a few thousandths.
FRAME_TOLERANCE = 0.01
ZOOM_TOLERANCE = 0.001
DIAGONAL_35MM = 43.267
MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0}  # of EXIF's units of resolution


def told_beside(names: Iterable[str]) -> set[str]:
    """Of the names in a folder, those of images of which files beside them may tell more."""
    found = (name for name in names if name.endswith(BESIDE_IMAGES))
    return {name.removesuffix(".msk").removesuffix(".aux.xml") for name in found}


def read_photo(
    path: Path, white_level: int | None = None, band_set: BandSet | None = None
) -> NDArray[np.uint8]:
    """A whole image as uint8 (H, W, 3), as `imagery.raster.open_image` gives it.

    Args:
        white_level: the 16-bit value that becomes 255; None: by the image's own values.
        band_set: of more bands, of which three are shown.

    Raises:
        InputError: names the file: missing, truncated, no image, or values without a known scale.
    """
    # rasterio is slow to import, and index has many processes that need it for few files.
    from salakseg.imagery.raster import open_image

    with open_image(path, white_level=white_level, band_set=band_set) as source:
        if source.width * source.height > WHOLE_PIXELS:
            raise InputError(
                f"{path}: {source.width} × {source.height} pixels are too many to read as a whole"
            )
        return source.shown(source.read(0, 0, source.height, source.width)[0])


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
    except ERRORS:
        return None, "its metadata cannot be read"
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    altitude = _xmp_number(text, "RelativeAltitude")
    pitch = _xmp_number(text, "GimbalPitchDegree")
    if altitude is None or pitch is None:
        return None, "its metadata does not tell the height above ground and the camera's angle"
    turns = [_xmp_number(text, f"Gimbal{axis}Degree") for axis in ("Roll", "Yaw")]
    if pitch == 0 and not any(turns):
        return None, "its metadata does not tell the camera's angle: all of the gimbal's are 0"
    if altitude <= 0:
        return None, f"its metadata has a height of {altitude:g} m above take-off"
    if abs(pitch + 90) > MAX_TILT:
        return None, f"the camera was not looking down (gimbal pitch {pitch:g}°)"
    zoom = _number(tags.get(ExifTags.Base.DigitalZoomRatio, 0))  # 0: none
    if zoom > 0 and abs(zoom - 1) > ZOOM_TOLERANCE:
        return None, (
            f"it was taken with digital zoom ({zoom:g} ×), and cameras differ in whether the focal "
            "length that they give is with it"
        )
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


def _number(value: Any) -> float:
    """A number of EXIF's, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return float("nan")


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
