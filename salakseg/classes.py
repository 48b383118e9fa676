"""Class mapping; masks ↔ class indices.

A mapping file is CSV: `class_name,class_color[,ignore][,mask_value]`, a colour being three numbers
0–255. Classes marked `ignore=yes` are never learnt, predicted or scored. The others have the class
indices 0 … K-1, in the order of the file; 255 (`IGNORE_INDEX`) stands for every pixel without one.

What a mask file stores is read by `masks`; what its numbers stand for is in `ClassMapping.values`,
where it was said or understood from a whole data set (`mask_sets`).
"""

import csv
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError
from salakseg.grey_masks import (
    color_in_words,
    meaning,
    nearest_rows,
    numbers_of,
)
from salakseg.mask_meaning import (
    LEAST_NUMBER,
    MOST_NUMBER,
    NO_CLASS,
    Color,
    Reading,
    Row,
    is_number,
)
from salakseg.masks import LEAST, MOST, StoredMask, open_mask, packed

IGNORE_INDEX = 255
MAX_CLASSES = 254
# In tables that give the class index of a colour or number: one that the mapping does not hold.
UNKNOWN = 254
NOTHING = 1 << 24  # among packed colours: a pixel that holds none
# A mask drawn on a picture that was scaled in between is often a pixel or two off its photograph.
MASK_SIZE_TOLERANCE = 2


@dataclass(frozen=True)
class MaskReading:
    """A decoded mask: `labels` is uint8 (H, W), class indices 0 … K-1 or 255.

    `kind` says in words how it was read; `unknown` counts the pixels of each colour (or value) that
    the mapping does not hold, all of them 255 in `labels`; `smeared` counts the pixels of a JPEG
    mask whose colour is no class colour exactly and that were given to the nearest.
    """

    labels: NDArray[np.uint8]
    kind: str
    unknown: dict[str, int] = field(default_factory=dict)
    smeared: int = 0


@dataclass(frozen=True)
class ClassMapping:
    """The classes, and what the numbers of grey masks stand for.

    Attributes:
        rows: name, colour and whether the class is ignored, in the order of the mapping file.
        values: (number, row or None for no class), in rising order; None where nobody has said and
            no data set has told.
    """

    rows: tuple[Row, ...]
    values: tuple[tuple[int, int | None], ...] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the K classes that are learnt, by class index."""
        return [name for name, _, ignored in self.rows if not ignored]

    @property
    def colors(self) -> list[Color]:
        """Colours of the K classes that are learnt, by class index."""
        return [color for _, color, ignored in self.rows if not ignored]

    @property
    def ignored_names(self) -> list[str]:
        """Names of the classes that are never learnt, predicted or scored."""
        return [name for name, _, ignored in self.rows if ignored]

    @property
    def num_classes(self) -> int:
        """K, the number of classes that are learnt."""
        return len(self.names)

    @property
    def reading(self) -> Reading | None:
        """Number → row, or None for no class: `values` as a dictionary."""
        return None if self.values is None else dict(self.values)

    def with_reading(self, reading: Reading) -> "ClassMapping":
        """The same classes, with what the numbers of masks stand for."""
        return replace(self, values=tuple(sorted(reading.items())))

    def index_of(self, row: int | None) -> int:
        """The class index of a row; 255 where the row is ignored, or there is none."""
        return IGNORE_INDEX if row is None else int(self.row_to_index[row])

    @cached_property
    def row_to_index(self) -> NDArray[np.uint8]:
        """uint8 (256,): row number in the file → class index; 255 for ignored and missing rows."""
        table = np.full(256, IGNORE_INDEX, np.uint8)
        index = 0
        for row, (_, _, ignored) in enumerate(self.rows):
            if not ignored:
                table[row] = index
                index += 1
        return table

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """uint8 (256, 3): class index → colour; black where there is no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: self.num_classes] = np.array(self.colors, np.uint8).reshape(-1, 3)
        return table

    @cached_property
    def index_of_color(self) -> NDArray[np.uint8]:
        """uint8 (2²⁴ + 1,): packed colour → class index, 255 of an ignored class, `UNKNOWN` of
        none; and 255 of `NOTHING`."""
        table = np.full(NOTHING + 1, UNKNOWN, np.uint8)
        table[NOTHING] = IGNORE_INDEX
        colors = np.array([color for _, color, _ in self.rows])
        table[packed(colors)] = self.row_to_index[: len(self.rows)]
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process without the tables, which are 16 MB."""
        return ClassMapping, (self.rows, self.values)

    def as_plain(self) -> list[dict[str, object]]:
        """For JSON and model files; `from_plain` is the way back."""
        plain: list[dict[str, object]] = [
            {"class_name": name, "class_color": list(color), "ignore": ignored}
            for name, color, ignored in self.rows
        ]
        if self.values is not None:
            for row, one in enumerate(plain):
                one["mask_values"] = [number for number, of in self.values if of == row]
            plain.append({"no_class": [number for number, of in self.values if of is None]})
        return plain

    @classmethod
    def from_plain(cls, rows: object, where: str = "class mapping") -> "ClassMapping":
        """Read what `as_plain` gave; `InputError` naming `where` if it is not that."""
        try:
            classes = list(rows)  # type: ignore[call-overload]
            nothing = classes.pop()["no_class"] if "no_class" in classes[-1] else None
            mapping = cls(
                tuple(
                    (
                        str(row["class_name"]),
                        (
                            int(row["class_color"][0]),
                            int(row["class_color"][1]),
                            int(row["class_color"][2]),
                        ),
                        bool(row["ignore"]),
                    )
                    for row in classes
                )
            )
            if nothing is None:
                return mapping
            reading: Reading = dict.fromkeys(int(number) for number in nothing)
            for row, one in enumerate(classes):
                reading |= dict.fromkeys((int(number) for number in one["mask_values"]), row)
            return mapping.with_reading(reading)
        except (TypeError, KeyError, ValueError, IndexError) as error:
            raise InputError(f"{where}: no class mapping of this program in it") from error

    def nearest_name(self, color: Color) -> str:
        """Name of the class whose colour is nearest to `color` in RGB."""
        colors = np.array([row_color for _, row_color, _ in self.rows])
        return self.rows[int(((colors - color) ** 2).sum(1).argmin())][0]


def packaged_class_mapping() -> Path:
    """The Salak classes that the package ships, the default mapping."""
    packaged = Path(str(package_files("salakseg") / "class_mapping.csv"))
    # An editable install has the one file at the top of the repository.
    return packaged if packaged.exists() else Path(__file__).parents[1] / "class_mapping.csv"


def read_class_mapping(path: Path) -> ClassMapping:
    """Read a mapping file.

    Raises:
        InputError: no such file, no header, a bad colour or number, a name, colour or number that
            comes twice, fewer than two classes to learn or more than 254 rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such class mapping") from error
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    header = reader.fieldnames or []
    if "class_name" not in header or "class_color" not in header:
        raise InputError(
            f"{path}: the first line must be class_name,class_color (optionally ,ignore and "
            f",mask_value), it is {','.join(header)!r}"
        )
    rows: list[Row] = []
    reading: Reading = {NO_CLASS: None}
    said: set[int] = set()
    for line in reader:
        where = f"{path}, line {reader.line_num}"
        name = (line["class_name"] or "").strip()
        if not name:
            raise InputError(f"{where}: no class_name")
        color = _parse_color(line["class_color"] or "", f"{where} ({name})")
        ignore = (line.get("ignore") or "").strip().lower()
        if ignore not in ("", "yes", "no"):
            raise InputError(f"{where} ({name}): ignore must be yes, no or empty, not {ignore!r}")
        for other_name, other_color, _ in rows:
            if name == other_name:
                raise InputError(f"{where}: the class name {name!r} comes twice")
            if color == other_color:
                raise InputError(
                    f"{where}: {name} has the same colour as {other_name}; each needs its own"
                )
        for number in (line.get("mask_value") or "").replace(",", " ").split():
            if not is_number(number) or int(number) in said:
                raise InputError(
                    f"{where} ({name}): mask_value must be numbers from {LEAST_NUMBER} to "
                    f"{MOST_NUMBER} that no other class has, with spaces between, not {number!r}"
                )
            said.add(int(number))
            reading[int(number)] = len(rows)
        rows.append((name, color, ignore == "yes"))
    mapping = ClassMapping(tuple(rows))
    if said:
        mapping = mapping.with_reading(reading)
    if mapping.num_classes < 2:
        raise InputError(f"{path}: at least two classes that are not ignored are needed")
    if len(rows) > MAX_CLASSES:
        raise InputError(f"{path}: {len(rows)} classes; more than {MAX_CLASSES} do not fit 8 bits")
    return mapping


def find_class_mapping(given: Path | None, data: Path) -> Path:
    """Which mapping file holds: `given`, else DATA's, the working directory's, the packaged one."""
    if given is not None:
        return given
    for candidate in (data / "class_mapping.csv", Path("class_mapping.csv")):
        if candidate.is_file():
            return candidate
    return packaged_class_mapping()


def _parse_color(text: str, where: str) -> Color:
    parts = text.replace(",", " ").split()
    if len(parts) != 3 or not all(part.isdecimal() and int(part) <= 255 for part in parts):
        raise InputError(
            f"{where}: class_color must be three numbers from 0 to 255 with spaces between, "
            f"as in '255 50 50', not {text!r}"
        )
    return int(parts[0]), int(parts[1]), int(parts[2])


def sizes_agree(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether two sizes, both (height, width) or both (width, height), differ by no more than
    `MASK_SIZE_TOLERANCE` pixels."""
    return max(abs(a - b) for a, b in zip(mask, image, strict=True)) <= MASK_SIZE_TOLERANCE


def at_size(labels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels (h, w) at the image's size: cut off, or 255 where the mask ends earlier."""
    fitted = np.full(shape, IGNORE_INDEX, np.uint8)
    common = labels[: shape[0], : shape[1]]
    fitted[: common.shape[0], : common.shape[1]] = common
    return fitted


def read_mask(path: Path, mapping: ClassMapping) -> MaskReading:
    """Decode a mask file into class indices.

    RGB and RGBA masks hold class colours; JPEG masks get the nearest class within
    `JPEG_COLOR_DISTANCE`, which is counted. Palette masks hold class colours if every colour in use
    or half of the palette is one, else numbers. Numbers stand for what `mapping.values` says, which
    is decided for a whole data set; where it says nothing, for row numbers of the mapping, or for
    class colours where grey ones explain more; 255 is "no class" where no class is white.

    Raises:
        InputError: unreadable file; a kind of image that holds no classes; numbers that could be
            both row numbers and grey colours and would mean different things.
    """
    with open_mask(path) as stored:
        try:
            labels = np.empty((stored.height, stored.width), np.uint8)
            return (_read_colors if stored.has_colors else _read_numbers)(stored, mapping, labels)
        except MemoryError as error:
            raise InputError(
                f"{path}: its {stored.width}×{stored.height} pixels do not fit into memory"
            ) from error
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from error


def _read_colors(
    stored: StoredMask, mapping: ClassMapping, labels: NDArray[np.uint8]
) -> MaskReading:
    unknown: Counter[str] = Counter()
    smeared = 0
    for rows, values, valid in stored.strips():
        part = labels_of_colors(values, valid, mapping, stored.lossy)
        labels[rows], smeared = part.labels, smeared + part.smeared
        unknown.update(part.unknown)
    return MaskReading(labels, stored.colors_kind, dict(unknown), smeared)


def _read_numbers(
    stored: StoredMask, mapping: ClassMapping, labels: NDArray[np.uint8]
) -> MaskReading:
    strips = list(stored.strips())
    numbers = numbers_of(stored, strips, mapping.rows)
    found = meaning(numbers, mapping.rows, mapping.reading)
    table = np.full(MOST - LEAST + 1, IGNORE_INDEX, np.uint8)
    for number, row in found.rows.items():
        table[number - LEAST] = mapping.index_of(row)
    for rows, values, valid in strips:
        small = values.dtype == np.uint8
        labels[rows] = table[-LEAST:].take(values) if small else table.take(values - LEAST)
        if valid is not None:
            labels[rows][~valid] = IGNORE_INDEX
    return MaskReading(labels, found.kind, found.unknown, found.smeared)


def labels_of_colors(
    colors: NDArray[np.uint32], valid: NDArray[np.bool_] | None, mapping: ClassMapping, lossy: bool
) -> MaskReading:
    """Packed colours (h, W) → class indices, as `read_mask` does."""
    indices, lengths, unknown, smeared = _runs_of_classes(colors, valid, mapping, lossy)
    return MaskReading(indices.repeat(lengths).reshape(colors.shape), "", unknown, smeared)


def count_colors(
    colors: NDArray[np.uint32], valid: NDArray[np.bool_] | None, mapping: ClassMapping, lossy: bool
) -> tuple[NDArray[np.int64], dict[str, int], int]:
    """Pixels of each class index (256,), of unknown colours, and smeared ones, as `MaskReading`."""
    indices, lengths, unknown, smeared = _runs_of_classes(colors, valid, mapping, lossy)
    return _sums(indices, lengths, 256), unknown, smeared


def _runs_of_classes(
    colors: NDArray[np.uint32], valid: NDArray[np.bool_] | None, mapping: ClassMapping, lossy: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, int], int]:
    """Class index and length of each run of equal colours, and what `MaskReading` tells besides.

    Masks are drawn in areas, so there are few runs, and little to look up in a table of 16 MB.
    """
    if valid is not None:
        colors = np.where(valid, colors, np.uint32(NOTHING))
    flat = colors.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    bounds = np.empty(len(ends) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = -1, ends, flat.size - 1
    lengths = bounds[1:] - bounds[:-1]
    runs = flat[bounds[1:]]
    indices = mapping.index_of_color.take(runs)
    missing = indices == UNKNOWN
    unknown: dict[str, int] = {}
    smeared = 0
    if missing.any():
        found, where = np.unique(runs[missing], return_inverse=True)
        counts = _sums(where, lengths[missing], len(found))
        indices[missing] = IGNORE_INDEX
        if lossy:
            nearest, near = nearest_rows(found, mapping.rows)
            indices[missing] = np.where(near, mapping.row_to_index[nearest], IGNORE_INDEX)[where]
            smeared = int(counts[near].sum())
            found, counts = found[~near], counts[~near]
        others = zip(found.tolist(), counts.tolist(), strict=True)
        unknown = {color_in_words(color): count for color, count in others}
    return indices, lengths, unknown, smeared


def _sums(places: NDArray[Any], lengths: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    # Of floats, which are exact up to 2⁵³.
    return np.bincount(places, lengths, size).astype(np.int64)
