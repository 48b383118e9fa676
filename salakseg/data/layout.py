"""layout.csv: which full image the patches of a folder were cut from, and where in it each lies.

`patchify` writes one beside each `images/`; `index`, `predict` and `suggest` read it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from salakseg.errors import InputError

LAYOUT = "layout.csv"
LAYOUT_COLUMNS = (
    "patch",
    "base_image",
    "row",
    "column",
    "x",
    "y",
    "width",
    "height",
    "image_width",
    "image_height",
    "pixel_size",
    "crs",
    "transform",
    "source",
)
# A column only where there are photographs of 16 bits: the value of full brightness.
WHITE_LEVEL = "white_level"
WHOLE_NUMBERS = ("row", "column", "x", "y", "width", "height", "image_width", "image_height")


def read_layout(path: Path, needed: Sequence[str]) -> dict[str, dict[str, str]]:
    """Patch (the name of its file without suffix) → its row, by column.

    Args:
        path: a layout.csv; others than `patchify` may have written it, with fewer columns.
        needed: columns that have to be there and whose numbers have to be some; `pixel_size` may
            be empty.

    Raises:
        InputError: cannot be read, lacks a column, or holds no number where there must be one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in ("patch", *needed) if name not in (reader.fieldnames or [])]
            if lacking:
                raise ValueError(f"no column {', '.join(lacking)}")
            rows = {row["patch"]: row for row in reader}
        for row in rows.values():
            for name in needed:
                if name in WHOLE_NUMBERS:
                    int(row[name])
                elif name == "pixel_size":
                    float(row[name] or 0)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: damaged ({str(error).strip()}); make it again with salakseg patchify, or "
            "remove it"
        ) from error
    return rows
