"""The names that labels give their classes ↔ the rows of the class mapping; one made from names."""

import colorsys
import csv
import io
from collections.abc import Iterable
from pathlib import Path

from salakseg.classes import MAX_CLASSES, read_class_mapping
from salakseg.console import console
from salakseg.data.patch_names import composed
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.mask_meaning import Color, Row

# By turns of the golden ratio hues come to lie far from each other, however many follow.
GOLDEN = 0.61803398875
BRIGHTNESS = (0.9, 0.65)


def same(name: str) -> str:
    """What two spellings of a name have in common: without regard to case, space around it, and
    whether an accent is a character of its own."""
    return composed(name.strip()).casefold()


def rows_by_name(names: Iterable[str], rows: tuple[Row, ...], path: Path) -> dict[str, int]:
    """Name → row of the mapping.

    Raises:
        InputError: names that it does not have.
    """
    exact = {name: row for row, (name, _, _) in enumerate(rows)}
    folded = {same(name): row for name, row in exact.items()}
    found, missing = {}, []
    for name in dict.fromkeys(names):
        row = exact.get(name.strip(), folded.get(same(name)))
        if row is None:
            missing.append(repr(name))
        else:
            found[name] = row
    if missing:
        raise InputError(
            f"{path}: {plural(len(missing), 'class is', 'classes are')} not in it that the labels "
            f"name ({first_of(missing)}); it has {', '.join(exact)}"
        )
    return found


def mapping_for(
    data: Path, out: Path, names: Iterable[str], has_masks: bool
) -> tuple[tuple[Row, ...], str | None, Path]:
    """The rows by which labels are drawn, the text of a mapping to write in OUT (None where DATA
    has one), and the file that has or will have them.

    One that is made keeps the rows of that in OUT, which a person may have changed, and appends.

    Raises:
        InputError: DATA has masks, whose colours nothing names; a class without a name; fewer than
            two classes.
    """
    given, made = data / "class_mapping.csv", out / "class_mapping.csv"
    if given.is_file():
        return read_class_mapping(given).rows, None, given
    if has_masks:
        raise InputError(
            f"{data}: has masks/ but no class_mapping.csv, so what is drawn cannot get the colours "
            "that they have; put one into it"
        )
    rows = list(read_class_mapping(made).rows) if made.is_file() else []
    known = {same(name) for name, _, _ in rows}
    new: dict[str, str] = {}
    for name in names:
        if same(name) not in known:
            new.setdefault(same(name), composed(name.strip()))
    if "" in new:
        raise InputError(f"{data}: the labels have a class without a name; name it")
    taken = [color for _, color, _ in rows]
    for name in sorted(new.values(), key=same):
        taken.append(_next_color(taken))
        rows.append((name, taken[-1], False))
    if sum(not ignored for _, _, ignored in rows) < 2:
        raise InputError(
            f"{data}: the labels have a single class, {rows[0][0] if rows else 'none'}; --outside "
            "CLASS names what is not drawn, or draw a second one"
        )
    if len(rows) > MAX_CLASSES:
        raise InputError(f"{data}: the labels name {len(rows)} classes; the most is {MAX_CLASSES}")
    if new:
        console.print(
            f"{made}: {plural(len(new), 'class', 'classes')} of the labels written into it, each "
            f"with a colour of its own ({first_of(sorted(new.values(), key=same))})"
        )
    return tuple(rows), _as_csv(rows), made


def _next_color(taken: list[Color]) -> Color:
    """One that no row has."""
    number = len(taken)
    while True:
        hue, bright = (number * GOLDEN) % 1, BRIGHTNESS[number // 7 % 2]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, bright))
        if (red, green, blue) not in taken:
            return red, green, blue
        number += 1


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("class_name", "class_color", "ignore"))
    for name, color, ignored in rows:
        writer.writerow((name, " ".join(map(str, color)), "yes" if ignored else ""))
    return text.getvalue()
