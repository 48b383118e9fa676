"""Files → what is in them: the checks that `index` runs on every image and mask.

These run in worker processes that start afresh (spawn), so this module imports neither pandas nor
torch. An image is opened once and only its first and last bytes are read; it is decoded only where
those leave a doubt. A mask is decoded whole.
"""

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from salakseg.classes import IGNORE_INDEX, ClassMapping, Color, read_mask
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from salakseg.imagery.photo import TIFF_SUFFIXES, read_photo

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette (3) becomes RGB
EDGE_BYTES = 64
APPENDED_BYTES = 4096
MAX_PATCH_PIXELS = 200_000_000
MAX_COLORS_LISTED = 5
IMAGES_A_CHUNK, MASKS_A_CHUNK = 512, 64
EXIF_ORIENTATION = 0x0112

Rows = tuple[tuple[str, Color, bool], ...]


class ImageCheck(NamedTuple):
    """What the check of an image found; `error` is empty where the image can be used.

    Width and height are those of the upright image. Files whose `fingerprint` (of the first and
    last bytes, which hold the checksums of PNG data) and length differ are different files. `note`
    says which rule for odd images applies to this one.
    """

    width: int = 0
    height: int = 0
    bytes: int = 0
    fingerprint: int = 0
    note: str = ""
    error: str = ""


class MaskCheck(NamedTuple):
    """What a mask holds; `error` is empty where it can be used, `problem` says what sort of error.

    `pixels` counts by class index, `ignored` the pixels of 255, `unknown` those of them whose
    colour or value the mapping does not hold; `unknown_colors` has the commonest of these.
    """

    kind: str = ""
    pixels: Sequence[int] = ()
    ignored: int = 0
    unknown: int = 0
    unknown_colors: Mapping[str, int] = MappingProxyType({})
    smeared: int = 0
    problem: str = ""
    error: str = ""


class GuessCheck(NamedTuple):
    """In how many pixels a mask's class index differs from the guess that it began as.

    -1 where they cannot be compared: `problem` and `error` say why, as in `MaskCheck`.
    """

    changed: int = -1
    problem: str = ""
    error: str = ""


def check_images(workers: Workers, root: Path, names: Sequence[str]) -> list[ImageCheck]:
    """Size, integrity and odd bands of each image; `names` are relative to `root`."""
    return workers.map(
        partial(_check_images, os.fspath(root)), names, IMAGES_A_CHUNK, "Checking images"
    )


def check_masks(
    workers: Workers,
    root: Path,
    names_and_sizes: Sequence[tuple[str, int, int]],
    mapping: ClassMapping,
) -> list[MaskCheck]:
    """Decode each mask and count its pixels by class.

    Args:
        names_and_sizes: name relative to `root`, and the width and height of its image; a mask of
            another size is an error and is not decoded.
    """
    # The rows alone travel: a mapping that was used carries a table of 16 MB.
    function = partial(_check_masks, os.fspath(root), mapping.rows)
    return workers.map(function, names_and_sizes, MASKS_A_CHUNK, "Reading masks")


def compare_guesses(
    workers: Workers, root: Path, pairs: Sequence[tuple[str, str]], mapping: ClassMapping
) -> list[GuessCheck]:
    """Compare guesses with usable masks; `pairs` are guess and mask, relative to `root`."""
    function = partial(_compare_guesses, os.fspath(root), mapping.rows)
    return workers.map(function, pairs, MASKS_A_CHUNK, "Comparing guesses")


def hash_files(workers: Workers, root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file."""
    return workers.map(
        partial(_hash_files, os.fspath(root)), names, MASKS_A_CHUNK, "Comparing files"
    )


def _check_images(root: str, names: Sequence[str]) -> list[ImageCheck]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_check_image(f"{root}/{name}") for name in names]


def _check_masks(
    root: str, rows: Rows, names_and_sizes: Sequence[tuple[str, int, int]]
) -> list[MaskCheck]:
    mapping = _mapping_of(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _check_mask(Path(root, name), (width, height), mapping)
            for name, width, height in names_and_sizes
        ]


def _compare_guesses(root: str, rows: Rows, pairs: Sequence[tuple[str, str]]) -> list[GuessCheck]:
    mapping = _mapping_of(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _compare_guess(Path(root, guess), Path(root, mask), mapping) for guess, mask in pairs
        ]


def _hash_files(root: str, names: Sequence[str]) -> list[str]:
    return [hashlib.sha256(Path(root, name).read_bytes()).hexdigest() for name in names]


@lru_cache(1)
def _mapping_of(rows: Rows) -> ClassMapping:
    return ClassMapping(rows)


def _check_image(path: str) -> ImageCheck:
    length = fingerprint = 0
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(EDGE_BYTES)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - EDGE_BYTES))
            tail = file.read(EDGE_BYTES)
        fingerprint = zlib.crc32(head + tail)
        if head.startswith(PNG_START) and head[12:16] == b"IHDR" and tail.endswith(PNG_END):
            width, height, depth, color = struct.unpack(">IIBB", head[16:26])
            note = _note(PNG_BANDS[color], depth)
        else:
            width, height, note = _look_closer(Path(path), head, tail)
        if width == 0 or height == 0:
            raise InputError("the image cannot be read (it is 0 pixels wide or high)")
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return ImageCheck(0, 0, length, fingerprint, "", _reason(error, path))
    return ImageCheck(width, height, length, fingerprint, note)


def _look_closer(path: Path, head: bytes, tail: bytes) -> tuple[int, int, str]:
    """Width, height and note of an image that is no PNG, or has no end where it should be."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _read_tiff(path)
    with Image.open(path) as image:
        _require_patch_size(*image.size)
        width, height = image.size
        # Palettes and CMYK become RGB as every viewer shows them: nothing to note.
        note = _note(len(image.getbands()), 8) if image.mode in ("L", "LA", "RGBA") else ""
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if orientation != 1:
        note = "EXIF orientation applied"
        if orientation >= 5:
            width, height = height, width
    if not (head.startswith(JPEG_START) and tail.endswith(JPEG_END)):
        # Cut off, or whole with something appended, as some cameras do.
        data = path.read_bytes()
        if (head.startswith(PNG_START) and PNG_END not in data) or (
            head.startswith(JPEG_START) and JPEG_END not in data[-APPENDED_BYTES:]
        ):
            raise InputError("the image cannot be read (the file is cut off)")
        read_photo(path)
    return width, height, note


def _read_tiff(path: Path) -> tuple[int, int, str]:
    # A TIFF's parts may lie anywhere in it: only decoding shows whether they are all there.
    import rasterio  # slow to import, and few data sets are TIFF

    with rasterio.open(path) as raster:
        _require_patch_size(raster.width, raster.height)
        bands = 3 if raster.colorinterp[0].name == "palette" else raster.count
        note = _note(bands, 16 if raster.dtypes[0] == "uint16" else 8)
    height, width = read_photo(path).shape[:2]
    return width, height, note


def _require_patch_size(width: int, height: int) -> None:
    # Damaged headers ask for any amount of memory.
    if width * height > MAX_PATCH_PIXELS:
        raise InputError(f"{width}×{height} pixels are no patch; cut it with salakseg patchify")


def _note(bands: int, depth: int) -> str:
    parts = []
    if bands == 1:
        parts.append("1 band, repeated three times")
    elif bands == 2:
        parts.append("2 bands, the first repeated three times")
    elif bands > 3:
        parts.append(f"{bands} bands, the first three taken")
    if depth == 16:
        parts.append("16 bits, scaled to 8")
    return "; ".join(parts)


def _check_mask(path: Path, size: tuple[int, int], mapping: ClassMapping) -> MaskCheck:
    try:
        with Image.open(path) as image:
            if image.size != size:
                return MaskCheck(
                    problem="mask of another size",
                    error=f"{image.width}×{image.height}, the image is {size[0]}×{size[1]}",
                )
        reading = read_mask(path, mapping)
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return MaskCheck(problem="unreadable mask", error=_reason(error, os.fspath(path)))
    counts = np.bincount(reading.labels.ravel(), minlength=256)
    commonest = sorted(reading.unknown.items(), key=lambda item: (-item[1], item[0]))
    return MaskCheck(
        kind=reading.kind,
        pixels=counts[: mapping.num_classes].tolist(),
        ignored=int(counts[IGNORE_INDEX]),
        unknown=sum(reading.unknown.values()),
        unknown_colors=dict(commonest[:MAX_COLORS_LISTED]),
        smeared=reading.smeared,
    )


def _compare_guess(guess: Path, mask: Path, mapping: ClassMapping) -> GuessCheck:
    labels = read_mask(mask, mapping).labels
    height, width = labels.shape
    try:
        with Image.open(guess) as image:
            if image.size != (width, height):
                return GuessCheck(
                    problem="guess of another size",
                    error=f"{image.width}×{image.height}, its mask is {width}×{height}",
                )
        guessed = read_mask(guess, mapping).labels
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return GuessCheck(problem="unreadable guess", error=_reason(error, os.fspath(guess)))
    return GuessCheck(int(np.count_nonzero(labels != guessed)))


def _reason(error: Exception, path: str) -> str:
    text = str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path)}: ")
    return text.replace(path, Path(path).name) or type(error).__name__
