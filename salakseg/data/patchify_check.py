"""A photograph to cut, with its mask and guess: what must fit before any of them is cut.

Worker processes import this: nothing of pandas.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from salakseg.classes import ClassMapping, read_class_mapping, sizes_agree
from salakseg.console import console
from salakseg.data.labels_draw import Drawing
from salakseg.data.patch_names import composed
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from salakseg.grey_masks import Numbers, numbers_of
from salakseg.imagery.alignment import lies_elsewhere
from salakseg.imagery.band_facts import BandFacts, facts_of
from salakseg.imagery.photo import TIFF_SUFFIXES
from salakseg.imagery.raster import header_of, open_image
from salakseg.mask_meaning import Row
from salakseg.mask_sets import understood_numbers
from salakseg.masks import open_mask

FILES_A_CHUNK = 16


@dataclass(frozen=True)
class CutOptions:
    """How photographs are cut and read, as the options of `patchify` say; None: not said.

    Attributes:
        size: side of a patch in pixels.
        bands, nodata, white_level: as `imagery.raster.open_image` takes them.
        gsd: metres a pixel of photographs whose place does not tell it.
    """

    size: int
    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    gsd: float | None = None
    white_level: int | None = None

    @property
    def several(self) -> tuple[int, ...] | None:
        """The bands, where they are more than three; else None."""
        return self.bands if self.bands is not None and len(self.bands) > 3 else None

    @property
    def image_suffix(self) -> str:
        """Of a patch's file: PNG has no more than three bands."""
        return ".png" if self.several is None else ".tif"


@dataclass(frozen=True)
class PhotoToCut:
    """A photograph to cut: its folder (posix, relative to DATA), file, and mask or None.

    `source` is its posix path relative to DATA. `guess` is what the mask was before a person
    corrected it; None where that is not known. `drawing` goes for a mask.
    """

    folder: str
    source: str
    path: Path
    mask: Path | None = None
    guess: Path | None = None
    drawing: Drawing | None = None

    @property
    def has_mask(self) -> bool:
        """Whether its patches get masks."""
        return self.mask is not None or self.drawing is not None

    @property
    def base_image(self) -> str:
        """What its patches are named after."""
        return composed(self.path.stem)

    def fingerprint(self) -> list[int]:
        """Size and time of change of photo, mask, guess, and a number of what is drawn: other ones
        mean that they changed."""
        paths = (self.path, self.mask, self.guess)
        stats = [path.stat() for path in paths if path is not None]
        numbers = [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]
        return numbers if self.drawing is None else [*numbers, self.drawing.fingerprint]


class Checked(NamedTuple):
    """What the files' headers tell of a photograph that can be cut.

    Attributes:
        width, height: in pixels, upright.
        whole: it is decoded as a whole, not by window.
        mask_whole: its mask or guess is.
        lossy: its mask or guess is compressed in a way that smears.
        white_level: what its 16-bit values keep to; None: it has 8 bits.
        bands: what it tells of its bands, where more than three are taken; else None.
    """

    width: int
    height: int
    whole: bool
    mask_whole: bool
    lossy: bool
    white_level: int | None
    bands: BandFacts | None = None


def check_photos(
    workers: Workers, photos: Sequence[PhotoToCut], options: CutOptions
) -> dict[str, Checked]:
    """By source. Opens photo, mask and guess; of those of 8 bits their headers alone.

    Raises:
        InputError: a file that cannot be read, a mask of another size or of other ground.
    """
    found = workers.map(partial(_check, options), photos, FILES_A_CHUNK, "Looking at photos")
    return {photo.source: checked for photo, checked in zip(photos, found, strict=True)}


def _check(options: CutOptions, photos: Sequence[PhotoToCut]) -> list[Checked]:
    return [_check_one(photo, options) for photo in photos]


def _check_one(photo: PhotoToCut, options: CutOptions) -> Checked:
    height, width, turned, whole, eight_bits = header_of(photo.path)
    level, lossy, mask_whole = None, False, False
    for kind, path in (("mask", photo.mask), ("guess", photo.guess)):
        if path is None:
            continue
        with open_mask(path) as stored:
            size = stored.width, stored.height
            lossy |= stored.lossy
        mask_whole |= path.suffix.lower() not in TIFF_SUFFIXES
        if not sizes_agree(size, (width, height)):
            raise InputError(
                f"{path} is {size[0]}×{size[1]} pixels, its photo {photo.path} {width}×{height}"
                + (
                    f" once turned upright as its EXIF data say; turn the {kind} as well"
                    if turned and size == (height, width)
                    else f"; give it the {kind} that belongs to it, or move the {kind} away"
                )
            )
        if elsewhere := lies_elsewhere(photo.path, path):
            raise InputError(
                f"{path}: {elsewhere}; the photo is {photo.path}: give it the {kind} of its own "
                f"ground (gdalwarp brings one onto its grid), or move the {kind} away"
            )
    if options.several is not None:
        facts = facts_of(photo.path, options.nodata, options.several)
        return Checked(width, height, whole, mask_whole, lossy, None, facts)
    if not eight_bits:
        with open_image(photo.path, options.nodata, options.bands) as source:
            level = source.white_level
    return Checked(width, height, whole, mask_whole, lossy, level)


def mapping_of(
    workers: Workers, data: Path, photos: Sequence[PhotoToCut], smeared: Path | None
) -> ClassMapping | None:
    """DATA's class mapping; where a mask is `smeared`, with what the numbers of all masks mean.

    Raises:
        InputError: there is none, and a mask cannot do without; numbers that a person has to
            explain.
    """
    path = data / "class_mapping.csv"
    if not path.is_file():
        if smeared is not None:
            raise needs_mapping(smeared)
        return None
    mapping = read_class_mapping(path)
    if smeared is None:
        return mapping
    masks = [photo.mask for photo in photos if photo.mask is not None]
    numbers = workers.map(partial(_numbers, mapping.rows), masks, FILES_A_CHUNK, "Reading masks")
    say = f"a column mask_value in {path} says it"
    try:
        mapping, told = understood_numbers((one for one in numbers if one is not None), mapping)
    except InputError as error:
        raise InputError(f"{masks[0].parent}: {error}; {say}") from error
    if told is not None and told.grave:
        raise InputError(f"{masks[0].parent}: its masks hold {told.words}: {told.doubt}; {say}")
    if told is not None:
        console.print(f"Masks read as grey numbers: {told.words}")
        if told.doubt:
            console.print(f"WARNING: {told.doubt}; {say}")
    return mapping


def _numbers(rows: tuple[Row, ...], masks: Sequence[Path]) -> list[Numbers | None]:
    """What masks of one band hold; None for those of colours."""
    found: list[Numbers | None] = []
    for path in masks:
        with open_mask(path) as stored:
            of_colors = stored.has_colors
            found.append(None if of_colors else numbers_of(stored, stored.strips(), rows))
    return found


def needs_mapping(mask: Path) -> InputError:
    """What to say of a lossy mask where there is no class mapping."""
    return InputError(
        f"{mask}: a JPEG mask, whose colours are smeared; put class_mapping.csv into the folder "
        "that you give, so that each pixel can be given the nearest class"
    )


def mark_of(mapping: ClassMapping | None) -> int:
    """A number that is another one where smeared masks would be read otherwise."""
    return 0 if mapping is None else zlib.crc32(repr((mapping.rows, mapping.values)).encode())
