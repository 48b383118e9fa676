"""Areas in tables: `*_areas.csv`, written and read again, and what is said of them at the end."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.mapping.areas import NONE, SQUARE_METRES_PER_HECTARE, Areas, Validation
from salakseg.mapping.outputs import csv_text

# How many ways of knowing the areas are named at the end.
MOST_BASES = 3

HEADER = [
    "class", "pixels", "share", "m2", "hectares",
    "adjusted_share", "new_photo_share_low", "new_photo_share_high",
    "adjusted_hectares", "new_photo_hectares_low", "new_photo_hectares_high",
    "interval", "basis", "made_by",
]  # fmt: skip  # fmt: skip


def areas_csv(areas: Areas, mapping: ClassMapping, basis: str, made_by: str) -> str:
    """One line a class."""
    return csv_text([HEADER, *class_rows(areas, mapping, basis, made_by)])


def class_rows(
    areas: Areas, mapping: ClassMapping, basis: str, made_by: str
) -> Iterator[list[object]]:
    """A row of `HEADER` for each class."""
    shares, hectares = areas.shares, areas.hectares
    for index, name in enumerate(mapping.names):
        metres = None if areas.square_metres is None else areas.square_metres[index]
        row: list[object] = [name, areas.pixels[index], f"{shares[index]:.6f}"]
        row += _metres_and_hectares(metres)
        adjusted: list[float] = [] if areas.adjusted is None else areas.adjusted[index].tolist()
        if areas.interval.startswith(NONE):
            adjusted = adjusted[:1]
        for whole in (1, hectares):
            known = [] if whole is None else [f"{share * whole:.6f}" for share in adjusted]
            row += known + [""] * (3 - len(known))
        yield [*row, areas.interval, basis, made_by]


def _metres_and_hectares(metres: float | None) -> list[str]:
    if metres is None:
        return ["", ""]
    return [f"{metres:.3f}", f"{metres / SQUARE_METRES_PER_HECTARE:.6f}"]


def read_areas(path: Path) -> tuple[Areas, str]:
    """Pixels and square metres that `areas_csv` wrote for a whole map, and their basis.

    Raises:
        OSError, KeyError, ValueError, IndexError: missing, or another file.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = np.array([int(row["pixels"]) for row in rows], np.int64)
    known = all(row["m2"] for row in rows)
    square_metres = np.array([float(row["m2"]) for row in rows]) if known else None
    return Areas(pixels, square_metres), rows[0]["basis"]


def print_areas(
    title: str,
    maps: Sequence[Areas],
    bases: Sequence[str],
    mapping: ClassMapping,
    validation: Validation,
) -> None:
    """The table of all maps together, how the areas are known, and what the interval means.

    Maps in square metres and maps in pixels only have a table each: no sum holds both.
    """
    measured = [areas for areas in maps if areas.square_metres is not None]
    counted = [areas for areas in maps if areas.square_metres is None]
    totals = [_total(some).corrected(validation) for some in (measured, counted) if some]
    if len(totals) == 1:
        _print_table(title, totals[0], mapping)
    else:
        _print_table(f"{title}: {len(measured)} whose ground is known", totals[0], mapping)
        _print_table(f"{title}: {len(counted)} in pixels only", totals[1], mapping)
    different = sorted(set(bases))
    for basis in different[:MOST_BASES]:
        console.print(f"Areas: {basis}")
    if len(different) > MOST_BASES:
        console.print(
            f"… and {len(different) - MOST_BASES} more, in the column basis of each table"
        )
    for total in totals:
        if total.pixels.any() and total.interval.startswith(NONE):
            what = "Not corrected" if total.adjusted is None else "No intervals"
            console.print(f"{what}: {total.interval.removeprefix(NONE)}")
            break
    else:
        if any(total.adjusted is not None for total in totals):
            console.print(validation.meaning())


def _total(maps: Sequence[Areas]) -> Areas:
    known = [areas.square_metres for areas in maps if areas.square_metres is not None]
    pixels = np.sum([areas.pixels for areas in maps], axis=0)
    return Areas(pixels, np.sum(known, axis=0) if known else None)


def _print_table(title: str, total: Areas, mapping: ClassMapping) -> None:
    pixels, adjusted, hectares = total.pixels, total.adjusted, total.hectares
    columns = {"pixels": [f"{count:,}" for count in (*pixels, pixels.sum())]}
    if total.square_metres is not None:
        metres = (*total.square_metres, total.square_metres.sum())
        columns["m²"] = [f"{area:,.1f}" for area in metres]
        columns["ha"] = [f"{area / SQUARE_METRES_PER_HECTARE:,.4f}" for area in metres]
    columns["%"] = [f"{100 * share:.1f}" for share in (*total.shares, total.shares.sum())]
    if adjusted is not None:
        unit, whole, digits = ("%", 100.0, 1) if hectares is None else ("ha", hectares, 4)
        bounded = not total.interval.startswith(NONE)
        heading = f"adjusted {unit}" + (" (95 % of new photos)" if bounded else "")
        columns[heading] = [*(_interval(row * whole, digits, bounded) for row in adjusted), ""]
    table = Table(title=title)
    table.add_column("class")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in zip([*mapping.names, "total"], *columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def _interval(values: NDArray[np.float64], digits: int, bounded: bool) -> str:
    middle, low, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})" if bounded else middle
