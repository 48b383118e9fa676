"""All masks of a data set together → what their numbers stand for, in the class mapping."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from salakseg.classes import IGNORE_INDEX, ClassMapping, count_colors
from salakseg.errors import InputError
from salakseg.grey_masks import (
    JPEG_COLOR_DISTANCE,
    TWO_CLASSES,
    Numbers,
    are_black_and_white,
    meaning,
    numbers_of,
    reads_colors,
    too_near_for_jpeg,
)
from salakseg.mask_meaning import (
    MOST_NUMBER,
    MUCH,
    NEARLY_ALL,
    NUMBERS_SHOWN,
    STRAY_SHARE,
    Reading,
    Row,
    Understood,
    in_words,
    mask_values_option,
    too_much_unknown,
    two_values,
    understand,
)
from salakseg.masks import BLACK, MOST, WHITE, open_mask

SAY = (
    "save them in the colours of the classes (RGB), or for eval --data put a class_mapping.csv "
    "with a column mask_value into DATA"
)


def understood_numbers(
    masks: Iterable[Numbers], mapping: ClassMapping
) -> tuple[ClassMapping, Understood | None]:
    """The mapping with a reading that all masks of a data set have told, and how it came about.

    None, and the mapping as it is, where it has a reading already, or no mask holds numbers.

    Raises:
        InputError: they could mean two things.
    """
    found = understand_masks(masks, mapping.rows) if mapping.values is None else None
    return mapping if found is None else mapping.with_reading(found.reading), found


def understood_files(
    masks: Sequence[Path], mapping: ClassMapping
) -> tuple[ClassMapping, Understood | None]:
    """As `understood_numbers`, of mask files that are scored against; also where the mapping has a
    reading already, with what the numbers are by it and what speaks against that.

    Raises:
        InputError: a file that cannot be read; numbers that could mean two things; too many colours
            or numbers that the mapping, or its reading, does not hold.
    """
    numbers = []
    pixels: Counter[int] = Counter()  # by class index
    unknown: Counter[str] = Counter()
    for path in masks:
        with open_mask(path) as stored:
            if not stored.has_colors:
                numbers.append(numbers_of(stored, stored.strips(), mapping.rows))
                continue
            for _, values, valid in stored.strips():
                of_classes, others, _ = count_colors(values, valid, mapping, stored.lossy)
                pixels.update(dict(enumerate(of_classes.tolist())))
                unknown.update(others)
    where = masks[0].parent
    try:
        mapping, found = understood_numbers(numbers, mapping)
        for one in numbers:
            read = meaning(one, mapping.rows, mapping.reading)
            for number, row in read.rows.items():
                pixels[mapping.index_of(row)] += one.counts[number]
            pixels[IGNORE_INDEX] += sum(read.unknown.values())
            unknown.update(read.unknown)
    except InputError as error:
        raise InputError(f"{where}: {error}; {SAY}") from error
    if found is not None and found.grave:
        raise InputError(f"{where}: its masks hold {found.words}: {found.doubt}; {SAY}")
    if found is None and numbers and mapping.reading is not None:
        counts: Counter[int] = Counter()
        for one in numbers:
            counts.update(one.counts)
        words = in_words(counts, mapping.reading, mapping.rows)
        otherwise = read_otherwise(numbers, mapping.rows, mapping.reading)
        found = Understood(
            mapping.reading,
            f"{words} (as said, or as the model's masks were)",
            f"by themselves they would be {otherwise}" if otherwise else "",
        )
    classes = sum(count > 0 for index, count in pixels.items() if index != IGNORE_INDEX)
    if too_much_unknown(unknown.total(), pixels.total(), classes):
        total = pixels.total()
        common = dict(sorted(unknown.most_common(NUMBERS_SHOWN)))
        named = [f"{name} = unknown ({count / total:.0%})" for name, count in common.items()]
        raise InputError(
            f"{where}: {unknown.total() / total:.0%} of the pixels of its masks hold "
            f"colours or numbers that stand for no class ({', '.join(named)}), by how the masks "
            f"that the model was trained on were read; {SAY}"
        )
    if unknown:
        left_out = f"{unknown.total():,} pixels of unknown colours in the masks are not scored"
        found = found or Understood({}, "")
        found = replace(found, doubt="; ".join(filter(None, [found.doubt, left_out])))
    return mapping, found


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
    white = 255 if are_black_and_white(rows) else 1 if 1 in counts or largest < 2 else largest
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
