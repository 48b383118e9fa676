"""Files → what is in them: the checks that `index` runs on every image and mask.

These run in worker processes that start afresh (spawn), so this module imports neither pandas nor
torch. An image is opened once and only its first and last bytes are read; it is decoded only where
those leave a doubt, or say that parts of it may be transparent. A mask is decoded whole; what its
numbers stand for is decided when all masks have been counted (`counted`).
"""

import hashlib
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import (
    IGNORE_INDEX,
    ClassMapping,
    labels_of_colors,
    read_mask,
)
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from salakseg.files import JPEG_END, JPEG_START, jpeg_is_cut_off
from salakseg.imagery.decode import UPRIGHT, exif_orientation
from salakseg.imagery.photo import BESIDE_IMAGES, TIFF_SUFFIXES
from salakseg.mask_numbers import Numbers, meaning, numbers_of
from salakseg.masks import PNG_START, StoredMask, open_mask

if TYPE_CHECKING:
    from salakseg.imagery.alignment import Footprint

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_BANDS = {0: 1, 2: 3, 3: 3}  # by colour type without alpha; a palette (3) becomes RGB
EDGE_BYTES = 4096
MARKED_BYTES = 64  # at either end; they hold the checksums of PNG data
# Before a PNG's pixels, or after them: a transparent colour, and what may turn the picture.
PNG_WORDS = (b"tRNS", b"eXIf", b"Raw profile type", b":Orientation")
MAX_PATCH_PIXELS = 200_000_000
MAX_COLORS_LISTED = 5
IMAGES_A_CHUNK, MASKS_A_CHUNK = 512, 64
EXIF_ORIENTATION = 0x0112

# An image: name, and what `told_of` says, 0 where no files beside it may tell anything.
ImageItem = tuple[str, int]
# A mask: name, width and height of its image, and the image's name and fingerprint, "" and 0 where
# the image is there all over.
MaskItem = tuple[str, int, int, str, int]


class ImageCheck(NamedTuple):
    """What the check of an image found; `error` is empty where the image can be used.

    Width and height are those of the upright image. Files whose `fingerprint` (of the first and
    last bytes, which hold the checksums of PNG data) and length differ are different files. `note`
    says which rule for odd images applies to this one. `nodata` counts the pixels that are not
    there (transparent, or nodata). `white_level` is what its own 16-bit values keep to,
    0 for 8 bits.
    """

    width: int = 0
    height: int = 0
    bytes: int = 0
    fingerprint: int = 0
    note: str = ""
    nodata: int = 0
    white_level: int = 0
    error: str = ""


class MaskCheck(NamedTuple):
    """What a mask holds; `error` is empty where it can be used, `problem` says what sort of error.

    `pixels` counts by class index, `ignored` the pixels of 255, `unknown` those of them whose
    colour or number the mapping does not hold; `unknown_colors` has the commonest of these. A mask
    of one band has `numbers` (as `Numbers`, numbers as text) and its `size` in pixels instead, and
    all these by `counted`. `turned`: it has an orientation tag, which is not obeyed.
    """

    kind: str = ""
    pixels: Sequence[int] = ()
    ignored: int = 0
    unknown: int = 0
    unknown_colors: Mapping[str, int] = MappingProxyType({})
    smeared: int = 0
    turned: bool = False
    size: int = 0
    numbers: Sequence[Any] | None = None
    problem: str = ""
    error: str = ""


class GuessCheck(NamedTuple):
    """In how many pixels a mask's class index differs from the guess that it began as.

    -1 where they cannot be compared: `problem` and `error` say why, as in `MaskCheck`.
    """

    changed: int = -1
    problem: str = ""
    error: str = ""


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
        partial(_footprints, os.fspath(root)), names, MASKS_A_CHUNK, "Reading places"
    )


def check_masks(
    workers: Workers,
    root: Path,
    masks: Sequence[MaskItem],
    mapping: ClassMapping,
) -> list[MaskCheck]:
    """Decode each mask and count its pixels by class, or by number.

    Args:
        masks: names relative to `root`; a mask of another size than its image's is an error and is
            not decoded, and where its image is not there it has no class.
    """
    function = partial(_check_masks, os.fspath(root), mapping)
    return workers.map(function, masks, MASKS_A_CHUNK, "Reading masks")


def numbers_in(check: MaskCheck) -> Numbers | None:
    """What a mask of one band stores; None for other masks, and for those with an error."""
    if check.numbers is None:
        return None
    kind, counts, colors, *rest = check.numbers
    counts, colors = (
        part and {int(number): value for number, value in part.items()} for part in (counts, colors)
    )
    return Numbers(kind, counts, colors, *rest)


def counted(check: MaskCheck, mapping: ClassMapping) -> MaskCheck:
    """The same with pixels by class, of a mask of one band by what its numbers stand for."""
    numbers = numbers_in(check)
    if numbers is None:
        return check
    found = meaning(numbers, mapping.rows, mapping.reading)
    pixels = np.zeros(256, np.int64)
    for number, row in found.rows.items():
        pixels[mapping.index_of(row)] += numbers.counts[number]
    known = pixels[: mapping.num_classes].tolist()
    return check._replace(
        kind=found.kind,
        pixels=known,
        ignored=check.size - sum(known),
        unknown=sum(found.unknown.values()),
        unknown_colors=_commonest(found.unknown),
        smeared=found.smeared,
    )


def _commonest(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_COLORS_LISTED])


def compare_guesses(
    workers: Workers, root: Path, pairs: Sequence[tuple[str, str]], mapping: ClassMapping
) -> list[GuessCheck]:
    """Compare guesses with usable masks; `pairs` are guess and mask, relative to `root`."""
    function = partial(_compare_guesses, os.fspath(root), mapping)
    return workers.map(function, pairs, MASKS_A_CHUNK, "Comparing guesses")


def hash_files(workers: Workers, root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file."""
    return workers.map(
        partial(_hash_files, os.fspath(root)), names, MASKS_A_CHUNK, "Comparing files"
    )


def _check_images(root: str, images: Sequence[ImageItem]) -> list[ImageCheck]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_check_image(f"{root}/{name}", told) for name, told in images]


def _footprints(root: str, names: Sequence[str]) -> list["Footprint"]:
    from salakseg.imagery.alignment import footprint  # slow to import, and few data sets need it

    return [footprint(Path(root, name)) for name in names]


def _check_masks(root: str, mapping: ClassMapping, masks: Sequence[MaskItem]) -> list[MaskCheck]:
    mapping = _shared(mapping)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _check_mask(
                Path(root, name), (width, height), mapping, Path(root, image) if image else None
            )
            for name, width, height, image, _ in masks
        ]


def _compare_guesses(
    root: str, mapping: ClassMapping, pairs: Sequence[tuple[str, str]]
) -> list[GuessCheck]:
    mapping = _shared(mapping)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _compare_guess(Path(root, guess), Path(root, mask), mapping) for guess, mask in pairs
        ]


def _hash_files(root: str, names: Sequence[str]) -> list[str]:
    return [hashlib.sha256(Path(root, name).read_bytes()).hexdigest() for name in names]


@lru_cache(1)
def _shared(mapping: ClassMapping) -> ClassMapping:
    """The mapping that an equal one of the chunk before was: it has its table of 16 MB already."""
    return mapping


def _check_image(path: str, told: int) -> ImageCheck:
    length = fingerprint = nodata = white_level = 0
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(EDGE_BYTES)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - EDGE_BYTES))
            tail = file.read(EDGE_BYTES)
        fingerprint = zlib.crc32(head[:MARKED_BYTES] + tail[-MARKED_BYTES:]) ^ told
        whole = head.startswith(PNG_START) and head[12:16] == b"IHDR" and tail.endswith(PNG_END)
        plain = whole and head[24] <= 8 and head[25] in PNG_BANDS
        if plain and not told and says_nothing_more(head, tail):
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
        return ImageCheck(0, 0, length, fingerprint, error=_reason(error, path))
    return ImageCheck(width, height, length, fingerprint, note, nodata, white_level)


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
    valid, white_level = _valid_pixels(path)
    return valid.shape[1], valid.shape[0], int((~valid).sum()), white_level


def _valid_pixels(image: Path) -> tuple[NDArray[np.bool_], int]:
    """bool (H, W): where a patch is there, neither transparent nor nodata; and its white level."""
    from salakseg.imagery.raster import open_image  # imports rasterio

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
        parts.append(f"{bands} bands, three of them taken")
    return "; ".join(parts)


def _check_mask(
    path: Path, size: tuple[int, int], mapping: ClassMapping, image: Path | None
) -> MaskCheck:
    try:
        with open_mask(path) as stored:
            if (stored.width, stored.height) != size:
                turned = (stored.height, stored.width) == size
                return MaskCheck(
                    problem="mask of another size",
                    error=f"{stored.width}×{stored.height}, the image is {size[0]}×{size[1]}"
                    + " upright; turn the mask" * turned,
                )
            count = _count(stored, mapping, None if image is None else _valid_pixels(image)[0])
        if path.suffix.lower() in TIFF_SUFFIXES:
            count = count._replace(turned=exif_orientation(path) != UPRIGHT)
        return count
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return MaskCheck(problem="unreadable mask", error=_reason(error, os.fspath(path)))


def _count(stored: StoredMask, mapping: ClassMapping, there: NDArray[np.bool_] | None) -> MaskCheck:
    """Count what a mask stores where its image is there."""
    strips = []
    for rows, values, valid in stored.strips():
        if there is not None:
            valid = there[rows] if valid is None else valid & there[rows]
        strips.append((rows, values, valid))
    size = stored.width * stored.height
    if not stored.has_colors:
        numbers = numbers_of(stored, strips, mapping.rows)
        return MaskCheck(unknown_colors={}, turned=stored.turned, size=size, numbers=numbers)
    counts, unknown, smeared = np.zeros(256, np.int64), Counter[str](), 0
    for _, values, valid in strips:
        part = labels_of_colors(values, valid, mapping, stored.lossy)
        counts += Image.fromarray(part.labels).histogram()  # faster than np.bincount
        unknown.update(part.unknown)
        smeared += part.smeared
    return MaskCheck(
        kind=stored.colors_kind,
        pixels=counts[: mapping.num_classes].tolist(),
        ignored=int(counts[IGNORE_INDEX]),
        unknown=unknown.total(),
        unknown_colors=_commonest(unknown),
        smeared=smeared,
        turned=stored.turned,
    )


def _compare_guess(guess: Path, mask: Path, mapping: ClassMapping) -> GuessCheck:
    try:
        labels = read_mask(mask, mapping).labels
        height, width = labels.shape
        with open_mask(guess) as stored:
            if (stored.width, stored.height) != (width, height):
                return GuessCheck(
                    problem="guess of another size",
                    error=f"{stored.width}×{stored.height}, its mask is {width}×{height}",
                )
        guessed = read_mask(guess, mapping).labels
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return GuessCheck(problem="unreadable guess", error=_reason(error, os.fspath(guess)))
    return GuessCheck(int(np.count_nonzero(labels != guessed)))


def _reason(error: Exception, path: str) -> str:
    text = str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path)}: ")
    return text.replace(path, Path(path).name) or type(error).__name__
