"""A file of shards/, PNG or JPEG, or TIFF of more bands → its pixels, as they are stored.

The one place that knows who decodes. torchvision is faster than Pillow (PNG by a tenth, JPEG by a
quarter), but deprecates its decoders; where an install has them no more, Pillow decodes, to the
same pixels (of a JPEG within 1). torchcodec, which is to replace them, is no faster, turns pictures
by their EXIF tag (a patch against its mask), and cuts 16 bits to 8.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from salakseg.errors import InputError
from salakseg.imagery.decode import TIFF_STARTS
from salakseg.masks import PNG_START

# It is known, and nothing that a user could do anything about.
warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision")
# A PNG's header says by its colour type whether it has alpha; in others a chunk before the pixels
# may name what is transparent.
PNG_DEPTH, PNG_COLOR_TYPE, PNG_ALPHA_TYPES = 24, 25, (4, 6)
AS_IT_IS, RGB, RGBA = "UNCHANGED", "RGB", "RGB_ALPHA"


def decoded_image(content: bytearray, where: str) -> NDArray[np.uint8]:
    """uint8 (3, H, W), or (4, H, W) where the file has alpha or a transparent colour; of a TIFF as
    many bands as it has, alpha last.

    Raises:
        InputError: damaged, naming `where` it is.
    """
    if content.startswith(TIFF_STARTS):
        return _decoded(_by_gdal, content, AS_IT_IS, where)
    mode = RGB
    if content.startswith(PNG_START):
        if content[PNG_COLOR_TYPE] in PNG_ALPHA_TYPES:
            mode = RGBA
        elif b"tRNS" in content[: content.find(b"IDAT")]:
            # torchvision takes such a colour for opaque.
            return _decoded(_by_pillow, content, RGBA, where)
    return _decoded(_decoder(), content, mode, where)


def decoded_mask(content: bytearray, where: str) -> NDArray[np.uint8]:
    """uint8 (H, W) of the file's first band; raises as `decoded_image`."""
    return _decoded(_decoder(), content, AS_IT_IS, where)[0]


Decoder = Callable[[bytearray, str], NDArray[Any]]


def _decoded(decoder: Decoder, content: bytearray, mode: str, where: str) -> NDArray[np.uint8]:
    try:
        pixels = decoder(content, mode)
    except (RuntimeError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{where}: cannot be decoded ({error})") from error
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


@lru_cache(1)
def _decoder() -> Decoder:
    """torchvision's where it is there and works, which not every build does."""
    buffer = BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    try:
        _by_torchvision(bytearray(buffer.getvalue()), RGB)
    except (ImportError, AttributeError, RuntimeError):
        return _by_pillow
    return _by_torchvision


def _by_torchvision(content: bytearray, mode: str) -> NDArray[Any]:
    from torchvision.io import ImageReadMode, decode_image

    return decode_image(torch.frombuffer(content, dtype=torch.uint8), ImageReadMode[mode]).numpy()


def _by_pillow(content: bytearray, mode: str) -> NDArray[Any]:
    if content.startswith(PNG_START) and content[PNG_DEPTH] == 16:  # which Pillow cuts to 8
        return _sixteen_bits(content, mode)
    with Image.open(BytesIO(content)) as image:
        if mode == AS_IT_IS:
            picture = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
        else:
            picture = image.convert("RGBA" if mode == RGBA else "RGB")
        return np.moveaxis(np.atleast_3d(np.asarray(picture)), 2, 0)


def _by_gdal(content: bytearray, _: str) -> NDArray[Any]:
    from salakseg.imagery.multiband import decoded_bands  # imports rasterio

    return decoded_bands(bytes(content))


def _sixteen_bits(content: bytearray, mode: str) -> NDArray[Any]:
    import rasterio  # slow to import, and `shard` packs no such file
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.MemoryFile(bytes(content)) as file, file.open() as raster:
            pixels = raster.read()
    if mode == AS_IT_IS:
        return pixels
    colors, alpha = (pixels[:-1], pixels[-1:]) if mode == RGBA else (pixels[:3], pixels[:0])
    return np.concatenate([np.broadcast_to(colors, (3, *colors.shape[1:])), alpha])
