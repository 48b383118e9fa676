"""layout.csv, written and read: which image each patch of a folder was cut from, and where in it.

`patchify` writes one beside each `images/`; `index`, `predict` and `suggest` read it. It says where
the image itself lies too, by `crs` and `transform`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from salakseg.data.patch_names import composed
from salakseg.errors import InputError
from salakseg.files import write_text

LAYOUT = "layout.csv"
WHOLE_NUMBERS = ("row", "column", "x", "y", "width", "height", "image_width", "image_height")


class LayoutRow(NamedTuple):
    """A patch: its place and size in the image, in pixels, and what is known of that image.

    Attributes:
        patch: the name of its file, without suffix.
        pixel_size: metres on the ground, "" where not known.
        crs, transform: as `georeference_words` gives them.
        source: the image's posix path relative to `patchify`'s DATA.
        white_level: the value of full brightness of a photograph of 16 bits, "" of 8 bits.
    """

    patch: str
    base_image: str
    row: int
    column: int
    x: int
    y: int
    width: int
    height: int
    image_width: int
    image_height: int
    pixel_size: str
    crs: str
    transform: str
    source: str
    white_level: int | str = ""


# The last is a column only where there are photographs of 16 bits.
LAYOUT_COLUMNS, WHITE_LEVEL = LayoutRow._fields[:-1], LayoutRow._fields[-1]


def write_layout(path: Path, rows: Sequence[LayoutRow]) -> None:
    """Write a layout.csv, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    levels = any(row.white_level != "" for row in rows)
    writer.writerow(LayoutRow._fields if levels else LAYOUT_COLUMNS)
    writer.writerows(row if levels else row[:-1] for row in rows)
    write_text(path, text.getvalue())


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


def read_whole_layout(path: Path) -> list[LayoutRow]:
    """What `write_layout` wrote; raises as `read_layout`."""
    return [
        LayoutRow._make(
            int(row[name]) if name in WHOLE_NUMBERS else row.get(name) or ""
            for name in LayoutRow._fields
        )
        for row in read_layout(path, LAYOUT_COLUMNS).values()
    ]


def read_places(path: Path) -> dict[str, tuple[Any, ...]]:
    """Patch → base image, row, column, x, y, pixel size, white level; the last two None where not
    known. Raises as `read_layout`."""
    places = {}
    needed = ("base_image", "row", "column", "x", "y", "pixel_size")
    for patch, row in read_layout(path, needed).items():
        numbers = (int(row[name]) for name in ("row", "column", "x", "y"))
        size = float(row["pixel_size"]) if row["pixel_size"] else None
        level = row.get(WHITE_LEVEL) or ""
        white = int(level) if level.isdecimal() else None
        places[composed(patch)] = (composed(row["base_image"]), *numbers, size, white)
    return places


def georeference_words(crs: Any, transform: Any) -> tuple[str, str]:
    """`crs` and `transform` of a row, of an image with a rasterio CRS and an affine transform (None
    where it has none): EPSG:CODE or WKT, and six numbers."""
    if crs is None or transform is None:
        return "", ""
    epsg = crs.to_epsg()
    return (
        f"EPSG:{epsg}" if epsg else crs.to_wkt(),
        " ".join(repr(float(number)) for number in transform[:6]),
    )


def georeference(row: Mapping[str, str], path: Path) -> tuple[Any, Any]:
    """CRS and affine transform by a row of `path`; None where not known.

    Raises:
        InputError: neither a CRS nor numbers.
    """
    from affine import Affine
    from rasterio.crs import CRS  # slow to import, and index does without
    from rasterio.errors import CRSError

    try:
        crs = CRS.from_user_input(row["crs"]) if row.get("crs") else None
        numbers = [float(text) for text in row.get("transform", "").split()]
    except (CRSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    return crs, Affine(*numbers) if len(numbers) == 6 else None
