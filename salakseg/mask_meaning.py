"""What the numbers of grey masks stand for: said by the user, or understood from all masks at once.

A reading is number → row of the class mapping, or None where the number stands for no class. One
file tells too little: a mask that holds 0 and 255 alone may lack all classes but one, or may be one
of many masks of two classes. So `understand` is given what all masks of a data set hold.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from salakseg.errors import InputError

Color = tuple[int, int, int]
Row = tuple[str, Color, bool]  # name, colour, whether the class is ignored
Reading = dict[int, int | None]

NO_CLASS = 255
LEAST_NUMBER, MOST_NUMBER = -1, 65535
# Strays, as smoothing and slips of the hand leave them, decide nothing.
STRAY_SHARE = 0.001
NUMBERS_SHOWN = 12
# Numbers that no reading explains, where they are no strays any more.
MUCH = 0.05
NEARLY_ALL = 0.9
NODATA_IS_0 = "take away that it is nodata in the files (gdal_edit.py -unsetnodata FILE.tif)"
# More unknown colours or numbers than this, and it is the mapping that is wrong, not the masks; or
# than `MUCH` where the masks hold a single class, which the others are unlikely to be by chance.
MAX_UNKNOWN_SHARE = 0.5


@dataclass(frozen=True)
class Understood:
    """A reading, in words, and what speaks against it ("" where nothing does).

    `grave`: another reading is as good and would mean other classes, so a person has to say.
    """

    reading: Reading
    words: str
    doubt: str = ""
    grave: bool = False


def understand(
    counts: Mapping[int, int], rows: tuple[Row, ...], nothing_is_0: bool = False
) -> Understood:
    """Decide what the numbers of a data set's masks stand for, by the table in docs/data.md.

    Args:
        counts: number → pixels, of all masks together.
        rows: of the class mapping.
        nothing_is_0: there are pixels of 0 besides, and the files say that 0 is nodata.

    Raises:
        InputError: they are row numbers and class colours alike.
    """
    total, size = sum(counts.values()), len(rows)
    strays = {n for n, pixels in counts.items() if pixels < STRAY_SHARE * total} - {0, NO_CLASS}
    found = {n: pixels for n, pixels in counts.items() if n not in strays}
    numbers, first = set(found) - {NO_CLASS}, rows[0][0]
    colored = set(found) <= _grey_colors(rows).keys()
    most = sorted(found, key=lambda n: (-found[n], n))[:size]
    covered = sum(found[n] for n in most) / max(1, total)
    # With smooth edges there are others between, but 1 alone is the second row.
    two = 0 in most and set(most) != {0, 1} and set(found) - set(most) != {1}
    if size == len(most) == 2 and two and covered >= NEARLY_ALL and not colored:
        reading, why = two_values(max(most), rows), "two values, two classes"
    elif size in numbers and numbers <= set(range(size + 1)) and not colored:
        reading, why = row_numbers(size, 1), "row numbers from 1"
    else:
        reading = by_color_or_row(found, rows)
        why = "row numbers" if reading == row_numbers(size) else "grey class colours"
    learnt = {row for n in numbers if (row := reading.get(n)) is not None and not rows[row][2]}
    unknown = sum(found[n] for n in numbers - reading.keys())
    unsaid = {n for n in found if n in reading and reading[n] is None}
    by_index = dict(enumerate(row for row, (_, _, ignored) in enumerate(rows) if not ignored))
    held = counts.keys() - {NO_CLASS, LEAST_NUMBER}
    doubt, grave = "", False
    if strays == {size} and 0 in found and numbers <= set(range(size)):
        grave = True
        doubt = (
            f"{size} stands in {counts[size]:,} of {total:,} pixels: either the {size} classes are "
            "numbered from 1 (say --mask-offset 1), or these are slips (say --mask-offset 0)"
        )
    elif why == "row numbers" and held <= by_index.keys() and any(by_index[n] != n for n in held):
        grave = len(learnt) < 2
        doubt = (
            f"no mask holds more than {max(held)}; if they count the classes without the ignored "
            "ones, as maps of salakseg predict do, say "
            + mask_values_option({n: rows[row][0] for n, row in by_index.items()})
            + "; if they are row numbers, say --mask-offset 0"
        )
    elif len(learnt) < 2 and unknown >= MUCH * total:
        grave = True
        names = [name if covered > 1 / 2 else "CLASS" for name, _, _ in rows[:NUMBERS_SHOWN]]
        named = dict(zip(sorted(most), names, strict=False))
        doubt = f"say what they are, as in {mask_values_option(named)}"
    elif len(learnt) < 2 and numbers and (unsaid or nothing_is_0):
        grave = True
        known = {
            n: rows[row][0] for n, row in sorted(reading.items()) if n in found and row is not None
        }
        one = max(unsaid, default=0)
        name_it = f"name it: {mask_values_option(known | {one: 'CLASS'})}"
        doubt = (
            f"a single class; if {one} is none, say {mask_values_option(known)}; if it is one, "
            + (name_it if unsaid else NODATA_IS_0)
        )
    elif why == "row numbers from 1" and 0 in found:
        doubt = (
            f"0 is taken for not labelled, since the numbers go up to {size} and there are {size} "
            f"classes; if 0 is {first}, say --mask-offset 0"
        )
    elif why == "row numbers" and numbers and 0 not in counts and not rows[0][2]:
        of_0 = f"if 0 is {first}, {NODATA_IS_0}" if nothing_is_0 else f"no mask holds a 0, {first}"
        doubt = f"{of_0}; if 1 is {first}, say --mask-offset 1"
    return Understood(reading, f"{in_words(found, reading, rows)} ({why})", doubt, grave)


def by_color_or_row(counts: Mapping[int, int], rows: tuple[Row, ...]) -> Reading:
    """Grey class colours where these explain more pixels than row numbers from 0 do, else those.

    Raises:
        InputError: both explain all, and would mean different things.
    """
    grey, plain = _grey_colors(rows), row_numbers(len(rows))
    nothing: Reading = {NO_CLASS: None}
    colors = nothing | grey

    def known(reading: Mapping[int, int | None]) -> int:
        """Pixels explained; 255 is a class where one is white."""
        return sum(
            pixels
            for n, pixels in counts.items()
            if reading.get(n) is not None or (n == NO_CLASS and n not in grey)
        )

    if known(colors) == known(plain) == sum(counts.values()) and any(
        colors.get(n) != plain.get(n) for n in counts
    ):
        raise InputError(
            f"their numbers {sorted(counts)} are row numbers of the class mapping and grey class "
            "colours as well; save the masks as RGB, or say --mask-offset 0 for row numbers"
        )
    return colors if known(colors) > known(plain) else plain


def _grey_colors(rows: tuple[Row, ...]) -> dict[int, int]:
    """Grey level → row, of the classes whose colour is grey."""
    return {color[0]: row for row, (_, color, _) in enumerate(rows) if len(set(color)) == 1}


def row_numbers(size: int, offset: int = 0) -> Reading:
    """Rows 0 … size-1 by the numbers from `offset`; what is below it, and 255, is no class."""
    nothing: Reading = dict.fromkeys([*range(LEAST_NUMBER, offset), NO_CLASS])
    return nothing | {row + offset: row for row in range(size)}


def too_much_unknown(unknown: int, total: int, classes: int) -> bool:
    """Whether unknown pixels, among those of so many classes, are too many to be left out."""
    return unknown > (MAX_UNKNOWN_SHARE if classes > 1 else MUCH) * total


def two_values(high: int, rows: tuple[Row, ...]) -> Reading:
    """0 and `high` by the two rows: black or called background is 0, white is `high`, else by
    their order."""
    second_is_0 = (
        rows[1][1] == (0, 0, 0)
        or rows[0][1] == (255, 255, 255)
        or rows[1][0].strip("_ ").lower() == "background"
    )
    return {NO_CLASS: None, 0: int(second_is_0), high: int(not second_is_0)}


def in_words(counts: Mapping[int, int], reading: Reading, rows: tuple[Row, ...]) -> str:
    """'0 = Land (51 %), 255 = no class (49 %)', of many numbers the commonest."""
    total = max(1, sum(counts.values()))
    commonest = sorted(counts, key=lambda n: (-counts[n], n))[:NUMBERS_SHOWN]
    texts = []
    for number in sorted(commonest):
        row = reading.get(number)
        name = "no class" if number in reading else "unknown"
        if row is not None:
            name = f"{rows[row][0]}, ignored" if rows[row][2] else rows[row][0]
        texts.append(f"{number} = {name} ({counts[number] / total:.0%})")
    return ", ".join([*texts, "…"] if len(counts) > NUMBERS_SHOWN else texts)


def mask_values_option(names: Mapping[int, str]) -> str:
    """`--mask-values "0:Land,255:Water, deep"` as it can be typed; number → name of the class."""
    text = ",".join(f"{number}:{name}" for number, name in names.items())
    if text != shlex.quote(text):
        # Double quotes are quotes in the shells of Windows too.
        text = shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
    return f"--mask-values {text}"


def parse_values(text: str, rows: tuple[Row, ...]) -> Reading:
    """`--mask-values 0:Land,255:Water` → a reading; `-` or `ignore` for no class.

    Raises:
        InputError: no number, no class of that name, a number that comes twice.
    """
    names = {name.casefold(): row for row, (name, _, _) in enumerate(rows)}
    names |= {name: row for row, (name, _, _) in enumerate(rows)}
    reading: Reading = {}
    # Names may have commas: a new pair begins where a number and a colon follow.
    for part in re.split(r",(?=\s*-?\d+\s*:)", text):
        number, _, name = (word.strip() for word in part.partition(":"))
        where = f"--mask-values {part.strip()}"
        if not is_number(number):
            raise InputError(f"{where}: write NUMBER:CLASS, as in 0:{rows[0][0]}")
        if int(number) in reading:
            raise InputError(f"{where}: {number} comes twice")
        row = names.get(name, names.get(name.casefold()))
        if row is None and name not in ("-", "ignore"):
            there = ", ".join(name for name, _, _ in rows)
            raise InputError(f"{where}: no class of that name; there are {there}; - is no class")
        reading[int(number)] = row
    return {NO_CLASS: None} | reading


def is_number(text: str) -> bool:
    """Whether a text is a number that a mask may hold."""
    digits = text.removeprefix("-")
    return digits.isdecimal() and LEAST_NUMBER <= int(text) <= MOST_NUMBER
