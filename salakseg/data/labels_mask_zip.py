"""Masks with a table of their colours, as CVAT exports them: *Segmentation mask 1.1*
(`labelmap.txt`, `SegmentationClass/`) and *CamVid 1.0* (`label_colors.txt`, `defaultannot/`).

What was drawn nowhere is black there, and called background or void: it is nothing here either.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.data.labels_draw import Shape, bitmap
from salakseg.data.labels_image import Labelled
from salakseg.mask_meaning import Color
from salakseg.masks import packed

TABLES = ("labelmap.txt", "label_colors.txt")
NOT_DRAWN = ("background", "void")
BLACK = (0, 0, 0)


def table_of(names: Sequence[str]) -> str | None:
    """The table among the names of an archive's or folder's files, where masks lie beside it."""
    tables = [name for name in names if PurePosixPath(name).name in TABLES]
    return next((table for table in tables if _masks_of(table, names)), None)


def read_mask_zip(
    path: Path, table: str, names: Sequence[str], read: Callable[[str], bytes]
) -> list[Labelled]:
    """Raises others than `InputError` for damaged content.

    Args:
        path: the archive or folder.
        table: as `table_of` found it among `names`.
        read: the content of a name.
    """
    rows = _rows(PurePosixPath(table).name, read(table).decode("utf-8-sig"))
    return [
        _read_one(path, name, inside, rows, read(name)) for name, inside in _masks_of(table, names)
    ]


def _masks_of(table: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The masks of a table, and what they are called in their folder, with folders."""
    root, cam_vid = PurePosixPath(table).parent, PurePosixPath(table).name == TABLES[1]
    found = []
    for name in map(PurePosixPath, sorted(names)):
        if name.suffix.lower() == ".png" and name.is_relative_to(root):
            folder, *inside = name.relative_to(root).parts
            masks = folder.endswith("annot") if cam_vid else folder == "SegmentationClass"
            if masks and inside:
                found.append((str(name), "/".join(inside)))
    return found


def _rows(table: str, text: str) -> list[tuple[str, Color]]:
    """Names and colours: `name:r,g,b:parts:actions` a line, or `r g b name`."""
    rows: list[tuple[str, Color]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if table == TABLES[0]:
            name, color, *_ = line.rsplit(":", 3)
            red, green, blue = map(int, color.split(","))
        else:
            *numbers, name = line.split(maxsplit=3)
            red, green, blue = map(int, numbers)
        rows.append((name.strip(), (red, green, blue)))
    return rows


def _read_one(
    path: Path, name: str, called: str, rows: list[tuple[str, Color]], content: bytes
) -> Labelled:
    with Image.open(io.BytesIO(content)) as image:
        # In grey the numbers of the rows, else their colours.
        grey = image.mode in ("L", "1")
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
    values = pixels.astype(np.uint32) if grey else packed(pixels)
    keys = range(len(rows)) if grey else packed(np.array([c for _, c in rows], np.uint8)).tolist()
    found: dict[int, NDArray[np.bool_]] = {}
    known = dict(zip(keys, rows, strict=True))
    # Nothing, whether or not the table has it.
    known.setdefault(0, (NOT_DRAWN[0], BLACK))
    for value in np.unique(values).tolist():
        if value not in known:
            what = value if grey else tuple(int(value).to_bytes(3, "little"))
            raise ValueError(f"{name}: {what} is not in its table")
        label, color = known[value]
        if not (label.casefold() in NOT_DRAWN and color == BLACK):
            found[value] = values == value
    shapes = [Shape(known[value][0], bitmap(inside)) for value, inside in found.items()]
    height, width = values.shape
    return Labelled(path, (called,), (width, height), shapes)
