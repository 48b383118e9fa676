"""A photograph decoded whole by Pillow, upright; and which way up a file says that it is."""

import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from salakseg.errors import InputError
from salakseg.imagery.bands import to_rgb8

if TYPE_CHECKING:  # it imports rasterio, which is slow, and index has many processes
    from salakseg.imagery.remote import ImagePath

# Drone photographs and orthomosaics pass Pillow's guard against decompression bombs (179 MP).
Image.MAX_IMAGE_PIXELS = 4_000_000_000
# Nor need anyone be told of sizes that are not decoded, or of tags that are not read.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
# An image is decoded whole up to this size, which takes some 4 GB meanwhile.
WHOLE_PIXELS = 500_000_000
# What may go wrong in a file that is damaged, or no image.
ERRORS = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    MemoryError,
    struct.error,
    # In a zip.
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
)
UPRIGHT = 1
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def decoded(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_], bool]:
    """The image uint8 (H, W, 3), upright; bool (H, W), where it is not transparent; if it is JPEG.

    Raises:
        InputError: too large, or values without a known scale (names no file).
        `ERRORS`: no image, or damaged.
    """
    with Image.open(path) as image:
        if image.width * image.height > WHOLE_PIXELS:
            raise InputError(f"{image.width} × {image.height} pixels are too many to decode")
        upright, lossy = ImageOps.exif_transpose(image), image.format in ("JPEG", "MPO")
    valid = np.ones((upright.height, upright.width), bool)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        valid = np.asarray(upright.getchannel("A")) > 0
    if upright.mode in ("P", "1", "CMYK", "YCbCr", "LAB", "HSV", "PA"):
        upright = upright.convert("RGB")
    return to_rgb8(np.asarray(upright)), valid, lossy


def exif_orientation(path: "ImagePath") -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where the file has none that can be read."""
    try:
        with path.open("rb") as file:
            header = file.read(8)
            if header[:4] in TIFF_STARTS:
                orientation = _tiff_orientation(file, header)
            else:
                with Image.open(file) as image:
                    orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except ERRORS:
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def _tiff_orientation(file: BinaryIO, header: bytes) -> Any:
    # The tag alone: Pillow opens no image of more bands or pixels than it could decode.
    if header[2:4] in (b"+\0", b"\0+"):  # BigTIFF
        header += file.read(8)
    tags = ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    return tags.get(ExifTags.Base.Orientation, UPRIGHT)


def turned_upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W) or (H, W, bands) as it is stored → upright, by the file's EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
