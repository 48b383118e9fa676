"""Class mapping; masks ↔ class indices.

A mapping file is CSV: `class_name,class_color[,ignore]`, a colour being three numbers 0–255.
Classes marked `ignore=yes` are never learnt, predicted or scored. The others have the class indices
0 … K-1, in the order of the file; 255 (`IGNORE_INDEX`) stands for every pixel without a class.
"""

import csv
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from salakseg.errors import InputError

IGNORE_INDEX = 255
MAX_CLASSES = 254
# JPEG smears colours by a few dozen steps at edges; further away, or nearer to the middle between
# two classes, a colour is no evidence of a class.
JPEG_COLOR_DISTANCE = 48.0
# A mask drawn on a picture that was scaled in between is often a pixel or two off its photograph.
MASK_SIZE_TOLERANCE = 2

Color = tuple[int, int, int]


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
    """The rows of a mapping file in their order: name, colour, and whether the class is ignored."""

    rows: tuple[tuple[str, Color, bool], ...]

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
    def _packed_to_row(self) -> NDArray[np.uint8]:
        table = np.full(1 << 24, IGNORE_INDEX, np.uint8)
        for row, (_, (red, green, blue), _) in enumerate(self.rows):
            table[red << 16 | green << 8 | blue] = row
        return table

    def as_plain(self) -> list[dict[str, object]]:
        """For JSON and model files; `from_plain` is the way back."""
        return [
            {"class_name": name, "class_color": list(color), "ignore": ignored}
            for name, color, ignored in self.rows
        ]

    @classmethod
    def from_plain(cls, rows: object, where: str = "class mapping") -> "ClassMapping":
        """Read what `as_plain` gave; `InputError` naming `where` if it is not that."""
        try:
            return cls(
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
                    for row in rows  # type: ignore[attr-defined]
                )
            )
        except (TypeError, KeyError, ValueError, IndexError) as error:
            raise InputError(f"{where}: no class mapping of this program in it") from error

    def nearest_name(self, color: Color) -> str:
        """Name of the class whose colour is nearest to `color` in RGB."""
        colors = np.array([row_color for _, row_color, _ in self.rows], float)
        return self.rows[int(((colors - np.array(color)) ** 2).sum(1).argmin())][0]


def packaged_class_mapping() -> Path:
    """The Salak classes that the package ships, the default mapping."""
    packaged = Path(str(package_files("salakseg") / "class_mapping.csv"))
    # An editable install has the one file at the top of the repository.
    return packaged if packaged.exists() else Path(__file__).parents[1] / "class_mapping.csv"


def read_class_mapping(path: Path) -> ClassMapping:
    """Read a mapping file.

    Raises:
        InputError: no such file, no header, a bad colour, a name or colour that comes twice, fewer
            than two classes to learn or more than 254 rows.
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
            f"{path}: the first line must be class_name,class_color (optionally ,ignore), "
            f"it is {','.join(header)!r}"
        )
    rows: list[tuple[str, Color, bool]] = []
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
        rows.append((name, color, ignore == "yes"))
    mapping = ClassMapping(tuple(rows))
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
    """Decode a mask file into class indices, recognising how it stores the classes.

    RGB and RGBA masks hold class colours (pixels with alpha 0 have no class). Palette masks hold
    class colours if every colour in use or half of the palette is one, else row numbers of the
    mapping. Grey masks (1 to 16 bits) hold row numbers, or class colours if those are grey; 255 is
    "no class" where no class is white. JPEG masks get the nearest class within
    `JPEG_COLOR_DISTANCE`, which is counted.

    Raises:
        InputError: unreadable file; a kind of image that holds no classes; values that could be
            both row numbers and grey colours and would mean different things.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the mask cannot be read ({error})") from error
    jpeg = image.format == "JPEG"
    match image.mode:
        case "RGB":
            return _read_colors(np.asarray(image), mapping, "RGB colours", jpeg)
        case "RGBA":
            bands = np.asarray(image)
            reading = _read_colors(bands[..., :3], mapping, "RGBA colours", False, bands[..., 3])
            return reading
        case "P":
            reading = _read_colors(np.asarray(image.convert("RGB")), mapping, "palette colours")
            if reading.unknown and not _is_class_palette(image, mapping):
                return _read_rows(np.asarray(image), mapping, "palette row numbers")
            return reading
        case "1":
            if len(mapping.rows) > 2:
                raise InputError(
                    f"{path}: a 1-bit mask can tell two classes apart, the mapping has "
                    f"{len(mapping.rows)}; save it as 8-bit"
                )
            if {(0, 0, 0), (255, 255, 255)} == {color for _, color, _ in mapping.rows}:
                return _read_colors(np.asarray(image.convert("RGB")), mapping, "1-bit colours")
            return _read_grey(path, np.asarray(image).astype(np.uint8), mapping)
        case "L" if jpeg:
            return _read_colors(np.asarray(image.convert("RGB")), mapping, "RGB colours", jpeg)
        case "L":
            return _read_grey(path, np.asarray(image) // grey_step(image, path), mapping)
        case "I" | "I;16" | "I;16B" | "I;16L":
            return _read_grey(path, np.asarray(image).astype(np.int64), mapping)
    raise InputError(
        f"{path}: an image of the kind {image.mode!r} holds no class colours or row numbers; "
        "save the mask as 8-bit RGB or 8-bit grey PNG"
    )


def _read_colors(
    pixels: NDArray[np.uint8],
    mapping: ClassMapping,
    kind: str,
    jpeg: bool = False,
    alpha: NDArray[np.uint8] | None = None,
) -> MaskReading:
    red, green, blue = (pixels[..., band].astype(np.uint32) for band in range(3))
    packed = red << 16 | green << 8 | blue
    rows = mapping._packed_to_row[packed]
    missing = rows == IGNORE_INDEX
    if alpha is not None:
        missing &= alpha > 0
        rows[alpha == 0] = IGNORE_INDEX
    unknown: dict[str, int] = {}
    smeared = 0
    if missing.any():
        values, where, counts = np.unique(packed[missing], return_inverse=True, return_counts=True)
        found = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.int64)
        nearest = np.full(len(values), IGNORE_INDEX, np.uint8)
        if jpeg:
            colors = np.array([color for _, color, _ in mapping.rows])
            distance = np.linalg.norm(found[:, None] - colors[None], axis=2)  # (values, rows)
            close = distance.min(1) <= min(JPEG_COLOR_DISTANCE, _half_gap(colors))
            nearest[close] = distance.argmin(1)[close]
            rows[missing] = nearest[where]
            smeared = int(counts[close].sum())
        for color, count, row in zip(found.tolist(), counts.tolist(), nearest, strict=True):
            if row == IGNORE_INDEX:
                unknown[" ".join(map(str, color))] = count
    return MaskReading(
        mapping.row_to_index[rows], "JPEG colours (nearest)" if jpeg else kind, unknown, smeared
    )


def _half_gap(colors: NDArray[np.int64]) -> float:
    """Half the distance between the two class colours nearest to each other."""
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    return float(distance[~np.eye(len(colors), dtype=bool)].min()) / 2


def _read_rows(values: NDArray[np.integer], mapping: ClassMapping, kind: str) -> MaskReading:
    present, counts = np.unique(values, return_counts=True)
    unknown = {
        str(value): count
        for value, count in zip(present.tolist(), counts.tolist(), strict=True)
        if value != IGNORE_INDEX and not 0 <= value < len(mapping.rows)
    }
    inside = np.where((values >= 0) & (values < IGNORE_INDEX), values, IGNORE_INDEX)
    return MaskReading(mapping.row_to_index[inside], kind, unknown)


def _read_grey(path: Path, values: NDArray[np.integer], mapping: ClassMapping) -> MaskReading:
    grey = np.full(256, IGNORE_INDEX, np.uint8)
    for row, (_, color, _) in enumerate(mapping.rows):
        if len(set(color)) == 1:
            grey[color[0]] = row
    present = np.unique(values)
    as_rows = ((present >= 0) & (present < len(mapping.rows))) | (
        (present == IGNORE_INDEX) & (grey[255] == IGNORE_INDEX)
    )
    in_range = present[(present >= 0) & (present <= 255)]
    as_colors = len(in_range) == len(present) and bool((grey[in_range] != IGNORE_INDEX).all())
    if as_colors and as_rows.all() and (grey[present] != present).any():
        raise InputError(
            f"{path}: its grey values {present.tolist()} are row numbers of the class mapping and "
            "grey class colours as well; save the mask as RGB"
        )
    if as_colors and not as_rows.all():
        return MaskReading(mapping.row_to_index[grey[values]], "grey colours")
    return _read_rows(values, mapping, "row numbers")


def _is_class_palette(image: Image.Image, mapping: ClassMapping) -> bool:
    """Whether half of a palette's colours or more are class colours.

    Then a colour in use that is none is a stray one, and the row numbers of the palette mean
    nothing: they are in whatever order the program that wrote it met the colours.
    """
    palette = image.getpalette() or []
    colors = set(zip(*[iter(palette)] * 3, strict=True))
    return 2 * len(colors & {color for _, color, _ in mapping.rows}) >= len(colors)


def grey_step(image: Image.Image, path: Path) -> int:
    """Pillow stretches grey of 2 and 4 bits to 0 … 255; this is the step to divide by."""
    bits = 8
    if image.format == "PNG":
        with open(path, "rb") as file:
            bits = file.read(25)[24]
    elif isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(258, (8,))[0]
    return 255 // (2**bits - 1) if bits in (2, 4) else 1
