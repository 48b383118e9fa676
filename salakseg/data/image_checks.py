"""Images → what is in them: the checks that `index` runs on every image.

These run in worker processes that start afresh (spawn), so this module imports neither pandas nor
torch. An image is opened once and only its first and last bytes are read; it is decoded only where
those leave a doubt, or say that parts of it may be transparent.
"""

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.band_set import ALPHA
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from salakseg.files import JPEG_END, JPEG_START, jpeg_is_cut_off
from salakseg.imagery.photo import BESIDE_IMAGES, TIFF_SUFFIXES
from salakseg.masks import PNG_START

if TYPE_CHECKING:
    from salakseg.imagery.alignment import Footprint

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_BANDS = {0: 1, 2: 3, 3: 3}  # by colour type without alpha; a palette (3) becomes RGB
EDGE_BYTES = 4096
MARKED_BYTES = 64  # at either end; they hold the checksums of PNG data
# Before a PNG's pixels, or after them: a transparent colour, and what may turn the picture.
PNG_WORDS = (b"tRNS", b"eXIf", b"Raw profile type", b":Orientation")
MAX_PATCH_PIXELS = 200_000_000
IMAGES_A_CHUNK, FILES_A_CHUNK = 512, 64
EXIF_ORIENTATION = 0x0112

# An image: name; what `told_of` says, 0 where no files beside it may tell anything; and the numbers
# of its bands to take, where more than three are.
ImageItem = tuple[Any, ...]


class ImageCheck(NamedTuple):
    """What the check of an image found; `error` is empty where the image can be used.

    Width and height are those of the upright image. Files whose `fingerprint` (of the first and
    last bytes, which hold the checksums of PNG data) and length differ are different files. `note`
    says which rule for odd images applies to this one. `nodata` counts the pixels that are not
    there (transparent, or nodata). `white_level` is what its own 16-bit values keep to,
    0 for 8 bits. `bands` is the `BandFacts` of one of more than three bands, as a list, else [].
    """

    width: int = 0
    height: int = 0
    bytes: int = 0
    fingerprint: int = 0
    note: str = ""
    nodata: int = 0
    white_level: int = 0
    error: str = ""
    bands: Sequence[Any] = ()


def check_images(workers: Workers, root: Path, images: Sequence[ImageItem]) -> list[ImageCheck]:
    """Size, integrity and odd bands of each image; names are relative to `root`."""
    return workers.map(
        partial(_check_images, os.fspath(root)), images, IMAGES_A_CHUNK, "Checking images"
    )


def told_of(image: Path) -> int:
    """A fingerprint of the files beside an image that may tell what of it is there; 0: none."""
    found = 0
    for suffix in BESIDE_IMAGES:
        with suppress(OSError):
            found = zlib.crc32(Path(f"{image}{suffix}").read_bytes(), found)
    return found


def footprints(workers: Workers, root: Path, names: Sequence[str]) -> list["Footprint"]:
    """Where each file lies by its own words."""
    return workers.map(
        partial(_footprints, os.fspath(root)), names, FILES_A_CHUNK, "Reading places"
    )


def hash_files(workers: Workers, root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file."""
    return workers.map(
        partial(_hash_files, os.fspath(root)), names, FILES_A_CHUNK, "Comparing files"
    )


def _check_images(root: str, images: Sequence[ImageItem]) -> list[ImageCheck]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_check_image(f"{root}/{name}", told, bands) for name, told, *bands in images]


def _footprints(root: str, names: Sequence[str]) -> list["Footprint"]:
    from salakseg.imagery.alignment import footprint  # slow to import, and few data sets need it

    return [footprint(Path(root, name)) for name in names]


def _hash_files(root: str, names: Sequence[str]) -> list[str]:
    return [hashlib.sha256(Path(root, name).read_bytes()).hexdigest() for name in names]


def _check_image(path: str, told: int, bands: Sequence[int]) -> ImageCheck:
    length = fingerprint = nodata = white_level = 0
    facts: Sequence[Any] = ()
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(EDGE_BYTES)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - EDGE_BYTES))
            tail = file.read(EDGE_BYTES)
        fingerprint = zlib.crc32(head[:MARKED_BYTES] + tail[-MARKED_BYTES:]) ^ told
        whole = head.startswith(PNG_START) and head[12:16] == b"IHDR" and tail.endswith(PNG_END)
        plain = whole and head[24] <= 8 and head[25] in PNG_BANDS
        if bands or path.lower().endswith(TIFF_SUFFIXES):
            facts = _band_facts(Path(path), bands)
        if facts:
            valid, _ = valid_pixels(Path(path), bands or range(1, len(facts[0]) + 1))
            (height, width), nodata, note = valid.shape, int((~valid).sum()), ""
        elif plain and not told and says_nothing_more(head, tail):
            width, height, _, color = struct.unpack(">IIBB", head[16:26])
            note = _note(PNG_BANDS[color])
        else:
            width, height, nodata, white_level, note = _look_closer(
                Path(path), head, tail, bool(told)
            )
        if width == 0 or height == 0:
            raise InputError("the image cannot be read (it is 0 pixels wide or high)")
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return ImageCheck(0, 0, length, fingerprint, error=reason(error, path))
    if bands:
        fingerprint ^= zlib.crc32(repr(bands).encode())
    return ImageCheck(
        width, height, length, fingerprint, note, nodata, white_level, bands=list(facts)
    )


def _band_facts(path: Path, bands: Sequence[int]) -> Sequence[Any]:
    """`BandFacts` of these bands, or of all of one of our patches of more than three; [] of
    colours, with alpha or without."""
    import rasterio  # slow to import, and few data sets are TIFF

    from salakseg.imagery.band_facts import facts_of
    from salakseg.imagery.multiband import band_set_of

    with rasterio.open(path) as raster:
        _require_patch_size(raster.width, raster.height)
        colours = raster.count <= (4 if raster.colorinterp[-1].name == ALPHA else 3)
        if colours and max(bands) > raster.count if bands else band_set_of(raster) is None:
            return []
    return facts_of(path, None, tuple(bands) or None)


def says_nothing_more(head: bytes, tail: bytes) -> bool:
    """Whether a PNG, by its first and last `EDGE_BYTES`, has no transparent colour and no tag that
    turns it."""
    before, pixels, _ = head.partition(b"IDAT")
    # Where the pixels begin late, a colour profile or a text may hide what is looked for.
    return bool(pixels) and not any(word in before or word in tail for word in PNG_WORDS)


def _look_closer(
    path: Path, head: bytes, tail: bytes, told: bool
) -> tuple[int, int, int, int, str]:
    """Width, height, pixels that are not there, white level or 0, and note."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        # A TIFF's parts may lie anywhere in it: only decoding shows whether they are all there.
        import rasterio  # slow to import, and few data sets are TIFF

        with rasterio.open(path) as raster:
            _require_patch_size(raster.width, raster.height)
            bands = 3 if raster.colorinterp[0].name == "palette" else raster.count
            note = _note(bands, raster.colorinterp[-1].name == "alpha")
        return *_decoded(path), note
    with Image.open(path) as image:
        _require_patch_size(*image.size)
        width, height = image.size
        bands, alpha = len(image.getbands()), image.mode in ("LA", "RGBA")
        depth = head[24] if head.startswith(PNG_START) else 8
        # Palettes and CMYK become RGB as every viewer shows them: nothing to note.
        note = _note(bands, alpha) if image.mode[0] in "LIR" else ""
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
        transparent = image.has_transparency_data
    if orientation != 1:
        note = "EXIF orientation applied; a mask must fit the upright image"
        if orientation >= 5:
            width, height = height, width
    ends = tail.endswith(PNG_END if head.startswith(PNG_START) else JPEG_END)
    if ends and not transparent and depth <= 8 and not (told and is_masked(path)):
        return width, height, 0, 0, note
    if not ends:
        # Cut off, or whole with something appended, as some cameras do.
        data = path.read_bytes()
        if (head.startswith(PNG_START) and PNG_END not in data) or (
            head.startswith(JPEG_START) and jpeg_is_cut_off(data)
        ):
            raise InputError("the image cannot be read (the file is cut off)")
    return *_decoded(path), note


def is_masked(path: Path) -> bool:
    """Whether GDAL knows of pixels that are not there, by more than alpha."""
    import rasterio
    from rasterio.enums import MaskFlags

    # Else GDAL lists the whole folder of each file that it opens.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as raster:
        flags = set().union(*raster.mask_flag_enums)
        return flags.isdisjoint({MaskFlags.all_valid, MaskFlags.alpha})


def _decoded(path: Path) -> tuple[int, int, int, int]:
    """Width, height, pixels that are not there, and white level, 0 for 8 bits."""
    valid, white_level = valid_pixels(path)
    return valid.shape[1], valid.shape[0], int((~valid).sum()), white_level


def valid_pixels(image: Path, bands: Sequence[int] = ()) -> tuple[NDArray[np.bool_], int]:
    """bool (H, W): where a patch is there, neither transparent nor nodata; and its white level.

    Args:
        bands: numbers of those that are taken, where they are more than three.
    """
    from salakseg.imagery.raster import open_image  # imports rasterio

    if bands:
        from salakseg.imagery.multiband import there

        return there(image, tuple(bands)), 0
    with open_image(image) as source:
        valid = source.read(0, 0, source.height, source.width)[1]
        return valid, source.white_level or 0


def _require_patch_size(width: int, height: int) -> None:
    # Damaged headers ask for any amount of memory.
    if width * height > MAX_PATCH_PIXELS:
        raise InputError(f"{width}×{height} pixels are no patch; cut it with salakseg patchify")


def _note(bands: int, alpha: bool = False) -> str:
    parts = []
    if alpha:
        bands -= 1
        parts.append("transparent where alpha is 0")
    if bands == 1:
        parts.append("1 band, repeated three times")
    elif bands == 2:
        parts.append("2 bands, the first repeated three times")
    elif bands > 3:
        parts.append(f"{bands} bands, three of them taken; --bands takes more")
    return "; ".join(parts)


def reason(error: Exception, path: str) -> str:
    """What went wrong, with the file's name in place of its path."""
    text = str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path)}: ")
    return text.replace(path, Path(path).name) or type(error).__name__
