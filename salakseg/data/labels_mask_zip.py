"""Masks with a table of their colours or numbers: as CVAT exports them, *Segmentation mask 1.1*
(`labelmap.txt`, `SegmentationClass/`) and *CamVid 1.0* (`label_colors.txt`, `defaultannot/`), and
Roboflow, *Semantic Segmentation Masks* (`_classes.csv`, `NAME_mask.png` beside `NAME.jpg`).

What was drawn nowhere is black there, and called background or void: it is nothing here either.
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.data.labels_draw import Shape, bitmap
from salakseg.data.labels_image import Labelled
from salakseg.mask_meaning import Color
from salakseg.masks import packed

TABLES = SEGMENTATION_MASK, CAM_VID, ROBOFLOW = "labelmap.txt", "label_colors.txt", "_classes.csv"
ROBOFLOW_MASK = "_mask.png"
NOT_DRAWN = ("background", "void")
BLACK = (0, 0, 0)


class Row(NamedTuple):
    """Of a table: a class, its number in grey masks, and its colour; None where there is none."""

    name: str
    number: int
    color: Color | None

    @property
    def is_nothing(self) -> bool:
        """Whether it stands for what was not drawn."""
        black = self.number == 0 if self.color is None else self.color == BLACK
        return black and self.name.casefold() in NOT_DRAWN


def tables_of(names: Sequence[str]) -> list[str]:
    """The tables among the names of an archive's or folder's files that masks lie beside."""
    tables = [name for name in names if PurePosixPath(name).name in TABLES]
    return [table for table in tables if _masks_of(table, names)]


def read_mask_zip(
    path: Path, table: str, names: Sequence[str], read: Callable[[str], bytes]
) -> list[Labelled]:
    """Raises others than `InputError` for damaged content.

    Args:
        path: the archive or folder.
        table: one that `tables_of` found among `names`.
        read: the content of a name.
    """
    rows = _rows(PurePosixPath(table).name, read(table).decode("utf-8-sig"))
    return [
        _read_one(path, name, inside, rows, read(name)) for name, inside in _masks_of(table, names)
    ]


def _masks_of(table: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The masks of a table, and what they are called in their folder, with folders."""
    root, kind = PurePosixPath(table).parent, PurePosixPath(table).name
    found = []
    for name in map(PurePosixPath, sorted(names)):
        if name.suffix.lower() == ".png" and name.is_relative_to(root):
            folder, *inside = name.relative_to(root).parts
            if kind == ROBOFLOW:
                if not inside and folder.endswith(ROBOFLOW_MASK):
                    found.append((str(name), folder.removesuffix(ROBOFLOW_MASK)))
                continue
            masks = folder.endswith("annot") if kind == CAM_VID else folder == "SegmentationClass"
            if masks and inside:
                found.append((str(name), "/".join(inside)))
    return found


def _rows(table: str, text: str) -> list[Row]:
    """A line is `name:r,g,b:parts:actions`, or `r g b name`, or below a header `number, name`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if table == ROBOFLOW:
        return [Row(name.strip(), int(number), None) for number, name in csv.reader(lines[1:])]
    rows: list[Row] = []
    for line in lines:
        if table == SEGMENTATION_MASK:
            name, color, *_ = line.rsplit(":", 3)
            red, green, blue = map(int, color.split(","))
        else:
            *numbers, name = line.split(maxsplit=3)
            red, green, blue = map(int, numbers)
        rows.append(Row(name.strip(), len(rows), (red, green, blue)))
    return rows


def _read_one(path: Path, name: str, called: str, rows: list[Row], content: bytes) -> Labelled:
    with Image.open(io.BytesIO(content)) as image:
        colors = [row.color for row in rows if row.color is not None]
        # In grey the numbers of the rows, else their colours.
        grey = image.mode in ("L", "1") or not colors
        if not colors and image.mode not in ("L", "P", "1"):
            raise ValueError(f"{name}: has colours ({image.mode}), its table numbers")
        if not grey:
            pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = np.asarray(image if image.mode == "P" else image.convert("L"))
    values = pixels.astype(np.uint32) if grey else packed(pixels)
    keys = [row.number for row in rows] if grey else packed(np.array(colors, np.uint8)).tolist()
    found: dict[int, NDArray[np.bool_]] = {}
    known = dict(zip(keys, rows, strict=True))
    # Nothing, whether or not the table has it.
    known.setdefault(0, Row(NOT_DRAWN[0], 0, None))
    for value in np.unique(values).tolist():
        if value not in known:
            what = value if grey else tuple(int(value).to_bytes(3, "little"))
            raise ValueError(f"{name}: {what} is not in its table")
        if not known[value].is_nothing:
            found[value] = values == value
    shapes = [Shape(known[value].name, bitmap(inside)) for value, inside in found.items()]
    height, width = values.shape
    return Labelled(path, (called,), (width, height), shapes)
