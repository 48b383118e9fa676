"""Masks of one band: numbers, which a palette may give colours → rows of the class mapping.

What numbers stand for (`mask_values`) holds for all masks of a data set; this is how the masks tell
it together, and how each of them is read by it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.errors import InputError
from salakseg.mask_values import (
    LEAST_NUMBER,
    MOST_NUMBER,
    MUCH,
    NEARLY_ALL,
    NO_CLASS,
    STRAY_SHARE,
    Reading,
    Row,
    Understood,
    by_color_or_row,
    in_words,
    mask_values_option,
    row_numbers,
    two_values,
    understand,
)
from salakseg.masks import BLACK, GREY, LEAST, MOST, WHITE, StoredMask, packed, unpacked

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
        if _are_black_and_white(rows):
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


def understand_masks(masks: Iterable[Numbers], rows: tuple[Row, ...]) -> Understood | None:
    """What all masks of a data set tell together; None where none of them is read by numbers.

    Raises:
        InputError: they could mean two things.
    """
    masks = [numbers for numbers in masks if not reads_colors(numbers, rows)]
    counts: Counter[int] = Counter()
    bits: Counter[int] = Counter()
    held = []  # of each mask, without strays
    for numbers in masks:
        some, least = _unsmeared(numbers, rows), STRAY_SHARE * sum(numbers.counts.values())
        if numbers.kind == "1-bit":
            bits.update(some)
        else:
            counts.update(some)
            held.append({number for number, pixels in some.items() if pixels >= least})
    if not counts and not bits:
        return None
    only_bits, largest = not counts, max(counts, default=0)
    # White is 1 in the files of some programs, the largest number in those of others.
    white = 255 if _are_black_and_white(rows) else 1 if 1 in counts or largest < 2 else largest
    counts.update({white * level: pixels for level, pixels in bits.items()})
    found = understand(counts, rows, any(numbers.nothing_is_0 for numbers in masks))
    if any(numbers.lossy for numbers in masks) and (near := too_near_for_jpeg(found.reading)):
        raw: Counter[int] = Counter()
        for numbers in masks:
            raw.update(numbers.counts)
        words = in_words(raw, found.reading, rows)
        return Understood(found.reading, words, near, grave=True)
    if doubt := _two_ways(held, rows) or _inverted(masks, found.reading, rows):
        return replace(found, doubt=doubt, grave=True)
    if only_bits and 1 in bits and len(rows) > 2:
        doubt = f"{TWO_CLASSES.format(len(rows))}, or say --mask-values 0:CLASS,1:CLASS"
        return replace(found, doubt=doubt, grave=True)
    return found


def read_otherwise(masks: Iterable[Numbers], rows: tuple[Row, ...], reading: Reading) -> str:
    """How masks would be read by themselves, where that contradicts a reading that was said or
    learnt from others, and explains more of them; "" elsewhere."""
    masks = [one for one in masks if not reads_colors(one, rows) and one.kind != "1-bit"]
    try:
        own = understand_masks(masks, rows)
    except InputError:
        return ""
    if own is None or own.grave:
        return ""
    counts: Counter[int] = Counter()
    for numbers in masks:
        counts.update(_unsmeared(numbers, rows))

    def explained(by: Reading) -> list[int]:
        """Pixels of numbers that it holds, and of those that are classes."""
        known = [number for number in counts if number in by]
        parts = known, [number for number in known if by[number] is not None]
        return [sum(counts[number] for number in part) for part in parts]

    pairs = zip(explained(own.reading), explained(reading), strict=True)
    gain = max(more - less for more, less in pairs)
    contradicts = any(n in reading and own.reading.get(n) != reading[n] for n in counts)
    return own.words if contradicts and gain >= MUCH * counts.total() else ""


def _two_ways(held: list[set[int]], rows: tuple[Row, ...]) -> str:
    """What to say where some masks of two classes hold 0 and 1, others 0 and another number, and
    none both: these may be the two classes again. "" elsewhere.

    Args:
        held: the numbers of each mask.
    """
    others = set().union(*held) - {0}
    pairs = sorted(number for number in others if {0, number} in held)
    if len(rows) != 2 or len(pairs) < 2 or pairs[:2] == [1, 2] or pairs[0] != 1:
        return ""
    if any(len(numbers - {0}) > 1 for numbers in held):
        return ""
    low, high = rows[0][0], rows[1][0]
    both = mask_values_option({0: low} | dict.fromkeys(pairs, high))
    return (
        f"some hold 0 and 1, others 0 and {pairs[-1]}, and none both; if each holds two classes, "
        f"say {both}; if {pairs[-1]} is no class, say {mask_values_option({0: low, 1: high})}"
    )


def _inverted(masks: list[Numbers], reading: Reading, rows: tuple[Row, ...]) -> str:
    """What to say where palettes show black and white alone, and white as the number that stands
    for the class that is black elsewhere, as in 1-bit masks. "" elsewhere."""
    used = {number: color for one in masks for number, color in (one.colors or {}).items()}
    if len(rows) != 2 or len(used) != 2 or set(used.values()) != {BLACK, WHITE}:
        return ""
    [black, white] = sorted(used, key=lambda number: used[number])
    shown = two_values(MOST_NUMBER, rows)
    of_black, of_white = shown[0], shown[MOST_NUMBER]
    if reading.get(black) != of_white and reading.get(white) != of_black:
        return ""
    names = [name for name, _, _ in rows]
    by_color = {black: names[int(of_black or 0)], white: names[int(of_white or 0)]}
    shows = f"their palettes show {white} white and {black} black"
    if any(one.kind == "1-bit" for one in masks):
        return f"{shows}, others are 1-bit, whose white is 1: save all as RGB"
    return (
        f"{shows}; if white is "
        f"{by_color[white]}, say {mask_values_option(by_color)}; if black is, say "
        + mask_values_option({black: by_color[white], white: by_color[black]})
    )


def _unsmeared(numbers: Numbers, rows: tuple[Row, ...]) -> Mapping[int, int]:
    """The counts of a mask, those of a JPEG one given to the grey class colours, or to black and
    white, where nearly all pixels are near them."""
    total = sum(numbers.counts.values())
    greys = [color[0] for _, color, _ in rows if len(set(color)) == 1]
    for anchors in (greys, [0, 255]) if numbers.lossy else ():
        near: Counter[int] = Counter()
        for number, pixels in numbers.counts.items():
            nearest = min(anchors, key=lambda anchor: abs(anchor - number), default=MOST)
            if abs(nearest - number) <= JPEG_COLOR_DISTANCE:
                near[nearest] += pixels
        if near.total() >= NEARLY_ALL * total:
            return near
    return numbers.counts


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
    return " ".join(map(str, unpacked(color).tolist()))


def _rows_by_color(rows: tuple[Row, ...]) -> dict[int, int]:
    """Packed colour → row."""
    colors = packed(np.array([color for _, color, _ in rows])).tolist()
    return {color: row for row, color in enumerate(colors)}


def _are_black_and_white(rows: tuple[Row, ...]) -> bool:
    return {color for _, color, _ in rows} == {(0, 0, 0), (255, 255, 255)}
