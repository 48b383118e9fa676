"""Masks of one band: numbers, which a palette may give colours → rows of the class mapping.

What numbers stand for (`mask_meaning`) holds for all masks of a data set, which tell it together
(`mask_sets`); this is how each of them is read by it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.errors import InputError
from salakseg.mask_meaning import (
    LEAST_NUMBER,
    MOST_NUMBER,
    NO_CLASS,
    Reading,
    Row,
    by_color_or_row,
    row_numbers,
)
from salakseg.masks import GREY, LEAST, MOST, StoredMask, packed, unpacked

# JPEG smears colours by a few dozen steps at edges; further away, or nearer to the middle between
# two classes, a colour is no evidence of a class.
JPEG_COLOR_DISTANCE = 48.0
# Of numbers that are 24 apart, JPEG of the usual quality 75 makes another one in up to 3 of a
# hundred pixels; of row numbers in 20 to 50.
JPEG_LEAST_GAP = 32
TWO_CLASSES = "a 1-bit mask can tell two classes apart, the mapping has {}; save it as 8-bit"

Strips = Iterable[tuple[Any, NDArray[Any], NDArray[np.bool_] | None]]


class Numbers(NamedTuple):
    """What a mask of one band stores.

    Attributes:
        kind: as `StoredMask.kind`.
        counts: number → pixels that hold it.
        colors: number in use → its colour in the palette, packed; None without a palette.
        class_palette: half of the palette's colours or more are class colours. Then a colour in
            use that is none is a stray one, and the numbers mean nothing: they are in whatever
            order the program that wrote the file met the colours.
        lossy: the numbers are smeared, as by JPEG.
        nothing_is_0: it holds 0, which the file says is nodata; `counts` is without these.
    """

    kind: str
    counts: dict[int, int]
    colors: dict[int, int] | None = None
    class_palette: bool = False
    lossy: bool = False
    nothing_is_0: bool = False


@dataclass(frozen=True)
class Meaning:
    """What the numbers of a mask are: those that are known → row, or None for no class; how they
    were read, in words; pixels of each unknown colour or number; and how many were smeared."""

    rows: Reading
    kind: str
    unknown: dict[str, int]
    smeared: int = 0


def numbers_of(stored: StoredMask, strips: Strips, rows: tuple[Row, ...]) -> Numbers:
    """Count the numbers of a mask of one band; `strips` as `StoredMask.strips` gives them."""
    counts: Counter[int] = Counter()
    nothing_is_0 = False
    for _, values, valid in strips:
        if stored.nothing == 0 and valid is not None:
            nothing_is_0 |= bool((values[~valid] == 0).any())
        some = values if valid is None else values[valid]
        if values.dtype != np.uint8:
            found = np.bincount(some.ravel() - LEAST)
            present = np.flatnonzero(found)
            part = dict(zip((present + LEAST).tolist(), found[present].tolist(), strict=True))
        elif valid is None:
            part = dict(enumerate(Image.fromarray(values).histogram()))  # faster than bincount
        else:
            part = dict(enumerate(np.bincount(some.ravel(), minlength=256).tolist()))
        counts.update({number: pixels for number, pixels in part.items() if pixels})
    if stored.palette is None:
        return Numbers(stored.kind, dict(counts), lossy=stored.lossy, nothing_is_0=nothing_is_0)
    palette = stored.palette.tolist()
    colors = {number: color for number, color in enumerate(palette) if number in counts}
    classes = set(palette) & _rows_by_color(rows).keys()
    return Numbers("palette", dict(counts), colors, 2 * len(classes) >= len(set(palette)))


def reads_colors(numbers: Numbers, rows: tuple[Row, ...]) -> bool:
    """Whether the colours of a palette mask decide, not its numbers; False without a palette."""
    if numbers.colors is None:
        return False
    # 255 has the colour of what is not labelled, in Pascal VOC's palette and all that follow it.
    used = {numbers.colors.get(number) for number in numbers.counts if number != NO_CLASS}
    return numbers.class_palette or used <= _rows_by_color(rows).keys()


def meaning(numbers: Numbers, rows: tuple[Row, ...], reading: Reading | None) -> Meaning:
    """What the numbers of a mask stand for.

    Args:
        rows, reading: of the class mapping; None: nobody has said and no data set has told, so row
            numbers, or class colours where grey ones explain more.

    Raises:
        InputError: they could mean two things, or are too near to each other for JPEG.
    """
    counts, kind = numbers.counts, f"{numbers.kind} numbers"
    bounds = {LEAST: f"less than {LEAST_NUMBER}", MOST: f"more than {MOST_NUMBER}"}
    names = {number: bounds.get(number, str(number)) for number in counts}
    known: Reading
    if reads_colors(numbers, rows):
        kind, colors, classes = "palette colours", numbers.colors or {}, _rows_by_color(rows)
        names |= {number: color_in_words(color) for number, color in colors.items()}
        known = {NO_CLASS: None} | {n: classes[c] for n, c in colors.items() if c in classes}
    elif numbers.lossy and reading is None:
        kind, names = "JPEG colours (nearest)", {n: color_in_words(n * GREY) for n in counts}
        levels = np.array(list(counts))
        nearest, near = nearest_rows(levels * GREY, rows)
        known = dict(zip(levels[near].tolist(), nearest[near].tolist(), strict=True))
    else:
        known = _reading_of(numbers, rows, reading)
        if numbers.lossy:
            if why := too_near_for_jpeg(known):
                raise InputError(why)
            kind, known = "JPEG numbers (nearest)", _with_nearest(known, counts)
    exact = _rows_by_color(rows) if reading is None else {n * GREY: n for n in reading}
    smeared = [n for n in counts if n in known and numbers.lossy and n * GREY not in exact]
    return Meaning(
        {number: known[number] for number in counts if number in known},
        kind,
        {names[number]: counts[number] for number in counts if number not in known},
        sum(counts[number] for number in smeared),
    )


def _reading_of(numbers: Numbers, rows: tuple[Row, ...], reading: Reading | None) -> Reading:
    """Number → row or None, for one mask."""
    if reading is not None:
        if numbers.kind == "1-bit" and 1 not in reading:
            # White, of a file that another one would call 255.
            return reading | {1: reading[max(n for n in reading if reading[n] is not None)]}
        return reading
    if numbers.kind == "grey":
        return by_color_or_row(numbers.counts, rows)
    if numbers.kind == "1-bit":
        if len(rows) > 2 and 1 in numbers.counts:
            raise InputError(TWO_CLASSES.format(len(rows)))
        if are_black_and_white(rows):
            return {level // 255: row for row, (_, (level, _, _), _) in enumerate(rows)}
    return row_numbers(len(rows))


def too_near_for_jpeg(reading: Reading) -> str:
    """Why numbers that JPEG has smeared cannot be told apart; "" where they can."""
    for (below, row), (above, other) in pairwise(sorted(reading.items())):
        if row != other and below >= 0 and above - below < JPEG_LEAST_GAP:
            return (
                f"{below} and {above} are nearer to each other than JPEG's errors (up to "
                f"{JPEG_LEAST_GAP} apart): export the masks again, as PNG"
            )
    return ""


def _with_nearest(reading: Reading, numbers: Iterable[int]) -> Reading:
    """Also for smeared numbers that are near one of the reading, and nearer than to others."""
    gaps = [above - below for below, above in pairwise(sorted(reading))]
    reach = min(JPEG_COLOR_DISTANCE, min(gaps, default=MOST) / 2)
    nearest = {number: min(reading, key=lambda one: abs(one - number)) for number in numbers}
    return reading | {n: reading[one] for n, one in nearest.items() if abs(one - n) <= reach}


def nearest_rows(
    colors: NDArray[Any], rows: tuple[Row, ...]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The row whose colour is nearest to each packed colour (N,), and whether it is near."""
    of_rows = np.array([color for _, color, _ in rows])
    distance = np.linalg.norm(unpacked(colors)[:, None] - of_rows[None], axis=2)
    apart = np.linalg.norm(of_rows[:, None] - of_rows[None], axis=2)
    half_gap = float(apart[~np.eye(len(rows), dtype=bool)].min()) / 2
    return distance.argmin(1), distance.min(1) <= min(JPEG_COLOR_DISTANCE, half_gap)


def color_in_words(color: int) -> str:
    """'255 50 50' for a packed colour."""
    return f"{color & 255} {color >> 8 & 255} {color >> 16}"


def _rows_by_color(rows: tuple[Row, ...]) -> dict[int, int]:
    """Packed colour → row."""
    colors = packed(np.array([color for _, color, _ in rows])).tolist()
    return {color: row for row, color in enumerate(colors)}


def are_black_and_white(rows: tuple[Row, ...]) -> bool:
    """Whether these two colours are all that the classes have."""
    return {color for _, color, _ in rows} == {(0, 0, 0), (255, 255, 255)}
