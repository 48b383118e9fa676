"""Masks → what is in them: the checks that `index` runs on every mask, and on its guess.

These run in worker processes that start afresh (spawn), so this module imports neither pandas nor
torch. A mask is decoded whole; what its numbers stand for is decided when all masks have been
counted (`counted`).
"""

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salakseg.classes import (
    IGNORE_INDEX,
    ClassMapping,
    count_colors,
    read_mask,
)
from salakseg.data.image_checks import reason, valid_pixels
from salakseg.data.workers import Workers
from salakseg.grey_masks import Numbers, meaning, numbers_of
from salakseg.imagery.decode import UPRIGHT, exif_orientation
from salakseg.imagery.photo import TIFF_SUFFIXES
from salakseg.masks import StoredMask, open_mask

MAX_COLORS_LISTED = 5
MASKS_A_CHUNK = 64

# A mask: name, width and height of its image, and the image's name and fingerprint, "" and 0 where
# the image is there all over; and the numbers of its bands, as of an `ImageItem`.
MaskItem = tuple[Any, ...]


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


def _check_masks(root: str, mapping: ClassMapping, masks: Sequence[MaskItem]) -> list[MaskCheck]:
    mapping = _shared(mapping)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _check_mask(
                f"{root}/{name}",
                (width, height),
                mapping,
                Path(root, image) if image else None,
                bands,
            )
            for name, width, height, image, _, *bands in masks
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


@lru_cache(1)
def _shared(mapping: ClassMapping) -> ClassMapping:
    """The mapping that an equal one of the chunk before was: it has its table of 16 MB already."""
    return mapping


def _check_mask(
    path: str,
    size: tuple[int, int],
    mapping: ClassMapping,
    image: Path | None,
    bands: Sequence[int],
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
            there = None if image is None else valid_pixels(image, bands)[0]
            count = _count(stored, mapping, there)
        if path.lower().endswith(TIFF_SUFFIXES):
            count = count._replace(turned=exif_orientation(Path(path)) != UPRIGHT)
        return count
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        return MaskCheck(problem="unreadable mask", error=reason(error, path))


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
    counts, smeared = np.zeros(256, np.int64), 0
    unknown: Counter[str] = Counter()
    for _, values, valid in strips:
        some, others, near = count_colors(values, valid, mapping, stored.lossy)
        counts += some
        unknown.update(others)
        smeared += near
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
        return GuessCheck(problem="unreadable guess", error=reason(error, os.fspath(guess)))
    return GuessCheck(int(np.count_nonzero(labels != guessed)))
