"""DATA → one row a patch, before any file is opened: listing, pairing, names, lists by the user."""

import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.data.layout import LAYOUT, read_layout
from salakseg.data.problems import SHOWN, Problems, first_of, plural
from salakseg.data.split import SPLITS
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES

PATCH_NAME = re.compile(r"(.+)_patch_(\d{1,9})_(\d{1,9})", re.DOTALL)
PLACE_COLUMNS = ("base_image", "row", "column", "x", "y", "pixel_size")


@dataclass(frozen=True)
class Folder:
    """The names of the files in `NAME/images`, `NAME/masks` and `NAME/guess`.

    NAME is relative to DATA.
    """

    name: str
    images: str = ""  # the folders' own names as they are written, "" where there is none
    masks: str = ""
    image_files: list[str] = field(default_factory=list)
    mask_files: list[str] = field(default_factory=list)
    guess_files: list[str] = field(default_factory=list)
    unread: int = 0  # files in folders below images/ and masks/
    layout: bool = False


def find_folders(data: Path) -> list[Folder]:
    """Every folder at or under `data` that holds images/ or masks/, sorted by name.

    Each folder is listed once; no file is opened. Hidden folders are left aside, links followed.

    Raises:
        InputError: a folder that may not be listed, or whose name is no Unicode; images/ beside
            Images/.
    """
    listed: dict[str, list[str]] = {}
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        where = waiting.pop()
        path = os.path.join(data, where)  # noqa: PTH118
        real = os.path.realpath(path)
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        listed[where or "."] = files = []
        below = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        files.append(entry.name)
                    elif not _is_text(entry.name):
                        raise InputError(
                            f"{path}: {entry.name!a} is no Unicode; rename this folder"
                        )
                    elif not entry.name.startswith("."):
                        below.append(f"{where}/{entry.name}" if where else entry.name)
        except OSError as error:
            raise InputError(f"{path}: the folder cannot be listed ({error.strerror})") from error
        waiting += sorted(below, reverse=True)
    parts: dict[str, dict[str, Any]] = {}
    for path, files in listed.items():
        parent, _, name = path.rpartition("/")
        above = parent.rpartition("/")
        kind = name.lower()
        if kind in ("images", "masks"):
            part = parts.setdefault(parent or ".", {})
            if kind in part:
                raise InputError(f"{data / path}: {part[kind]}/ is there too; put them together")
            part[kind] = name
            part[f"{kind.removesuffix('s')}_files"] = files
        elif above[2].lower() in ("images", "masks") and files:
            part = parts.setdefault(above[0] or ".", {})
            part["unread"] = part.get("unread", 0) + len(files)
    return [
        Folder(
            name,
            guess_files=listed.get(str(PurePosixPath(name, "guess")), []),
            layout=LAYOUT in listed[name],
            **parts[name],
        )
        for name in sorted(parts)
    ]


def pair(data: Path, folders: list[Folder], problems: Problems) -> pd.DataFrame:
    """One row a patch, sorted by folder and name.

    Returns:
        The columns folder, base_image, row, column, image, mask ('' where there is none),
        pixel_size, x, y as in patches.csv; and `base`, the number of the base image, from 0.

    Raises:
        InputError: no images, no mask that fits any, a damaged layout.csv.
    """
    names = ["folder", "base_image", "row", "column", "image", "mask", "pixel_size", "x", "y"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    found_masks = 0
    for folder in folders:
        where = "" if folder.name == "." else f"{folder.name}/"
        images = _by_stem(f"{where}{folder.images}", folder.image_files, "image", problems)
        masks = _by_stem(f"{where}{folder.masks}", folder.mask_files, "mask", problems)
        found_masks += len(masks)
        layout = _laid_out(data / folder.name / LAYOUT) if folder.layout else {}
        unparsed: list[str] = []
        for stem, image in images.items():
            place = layout.get(stem)
            if place is None:
                match = PATCH_NAME.fullmatch(stem)
                if match:
                    place = (match[1], int(match[2]), int(match[3]), None, None, None)
                else:
                    unparsed.append(image)
                    place = (stem, None, None, None, None, None)
            values = (folder.name, *place[:3], image, masks.get(stem, ""), *place[3:])
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
        if unparsed:
            problems.handled(
                "name without row and column",
                unparsed[0],
                f"{plural(len(unparsed), 'image')} of {folder.name}/ not named "
                "BASE_patch_ROW_COLUMN: each is its own base image",
            )
        for stem in masks.keys() - images.keys():
            problems.handled("mask without image", masks[stem], "not used")
        if folder.unread:
            problems.handled(
                "folder inside images/",
                f"{where}{folder.images or folder.masks}",
                f"{plural(folder.unread, 'file')} in folders below: not used; files must be "
                "straight in images/ and masks/",
            )
    if not columns["image"]:
        raise InputError(_why_nothing(data, folders))
    if found_masks and not any(columns["mask"]):
        first = next(row[2] for row in sorted(problems.rows) if row[1] == "mask without image")
        raise InputError(
            f"{data}: none of the {found_masks} masks has an image of the same name (for example "
            f"{first}); a mask is found by its image's name, without the extension"
        )
    patches = pd.DataFrame(columns)
    for name in ("row", "column", "x", "y"):
        patches[name] = patches[name].astype("Int64")
    patches["pixel_size"] = patches["pixel_size"].astype("float64")
    patches["base"] = patches.groupby(["folder", "base_image"], sort=True).ngroup()
    return patches


def guesses_of(folders: list[Folder]) -> dict[str, str]:
    """Mask → the model's guess that it began as; paths relative to DATA. No guess is a label."""
    found = {}
    for folder in folders:
        guesses = {
            name.rpartition(".")[0]: name
            for name in sorted(folder.guess_files)
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        }
        for mask in folder.mask_files if guesses else ():
            if guess := guesses.get(mask.rpartition(".")[0]):
                mask_path = PurePosixPath(folder.name, folder.masks, mask)
                found[str(mask_path)] = str(PurePosixPath(folder.name, "guess", guess))
    return found


def _by_stem(where: str, names: list[str], what: str, problems: Problems) -> dict[str, str]:
    """Name without extension → path relative to DATA, in the order of the names."""
    found: dict[str, str] = {}
    other: list[str] = []
    for name in sorted(names):
        stem, _, suffix = name.rpartition(".")
        path = f"{where}/{name}"
        if name.startswith("."):
            continue  # what systems leave behind
        if not _is_text(name):
            problems.handled("file name", ascii(path)[1:-1], f"no Unicode: the {what} is not used")
        elif f".{suffix.lower()}" not in IMAGE_SUFFIXES:
            other.append(path)
        elif stem in found:
            problems.fatal(
                f"two {what}s of one name", path, f"{found[stem]} is there too; remove one of them"
            )
        else:
            found[stem] = path
    if other:
        problems.handled(
            "other file",
            other[0],
            f"{plural(len(other), 'file')} of {where}/ with an extension other than "
            f"{' '.join(IMAGE_SUFFIXES)}: not used",
        )
    return found


def _is_text(name: str) -> bool:
    # Bytes of a name that are no UTF-8 come as lone surrogates, which no file could hold.
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _why_nothing(data: Path, folders: list[Folder]) -> str:
    with os.scandir(data) as entries:
        loose = sum(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    nested = next((folder for folder in folders if folder.unread), None)
    with_masks = next((folder for folder in folders if folder.mask_files), None)
    if nested is not None:
        return (
            f"{data / nested.name}: {plural(nested.unread, 'file')} in folders below images/ or "
            "masks/; they must be straight in images/ and masks/"
        )
    if with_masks is not None:
        return (
            f"{data / with_masks.name}: has masks/ but no images in images/ beside it; "
            "masks alone cannot be indexed"
        )
    if loose and data.absolute().name.lower() in ("images", "masks"):
        return f"{data}: give the folder above it, {data.absolute().parent}"
    if loose:
        return (
            f"{data}: has {plural(loose, 'image')} straight in it; put them into a folder "
            f"{data / 'images'} (and their masks into {data / 'masks'})"
        )
    return (
        f"{data}: no images in it; there must be a folder images/ in it, or in a folder below, "
        f"with {' '.join(IMAGE_SUFFIXES)} files (full photographs: salakseg patchify first)"
    )


def _laid_out(path: Path) -> dict[str, tuple[Any, ...]]:
    """Patch → base image, row, column, pixel size, x, y."""
    places = {}
    for patch, row in read_layout(path, PLACE_COLUMNS).items():
        row_number, column, x, y = (int(row[name]) for name in ("row", "column", "x", "y"))
        size = float(row["pixel_size"]) if row["pixel_size"] else None
        places[patch] = (row["base_image"], row_number, column, size, x, y)
    return places


def base_images_of(patches: pd.DataFrame) -> pd.DataFrame:
    """The columns folder and base_image, a row for each number in `patches.base`."""
    first = patches.drop_duplicates("base").sort_values("base")
    return first[["folder", "base_image"]].reset_index(drop=True)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def read_split_file(path: Path, bases: pd.DataFrame, problems: Problems) -> NDArray[np.object_]:
    """The split of each base image, str (base images,).

    Raises:
        InputError: a line that means nothing or is ambiguous; a base image without a split.
    """
    reader = csv.DictReader(_read_lines(path), skipinitialspace=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: is no CSV ({error})") from error
    header = reader.fieldnames or []
    if "base_image" not in header or "split" not in header:
        raise InputError(
            f"{path}: needs the columns base_image and split (and folder where a name alone is "
            f"ambiguous), separated by commas; its first line is {','.join(header)!r}"
        )
    places = _places(zip(bases["folder"], bases["base_image"], strict=True))
    roles = np.full(len(bases), "", object)
    lines: dict[int, int] = {}
    strangers: list[str] = []
    for line, row in rows:
        where = f"{path}, line {line}"
        name, split = (row["base_image"] or "").strip(), (row["split"] or "").strip().lower()
        folder = _as_folder(row.get("folder") or "")
        if split == "mixed":
            raise InputError(
                f"{where}: {name} is 'mixed' (its index was made with --split-by patch); "
                f"give it one of {', '.join(SPLITS)}"
            )
        if split not in SPLITS:
            raise InputError(
                f"{where}: {name}: the split must be one of {', '.join(SPLITS)}, not {split!r}"
            )
        fitting = [place for known, place in places.get(name, ()) if folder in ("", known)]
        if len(fitting) > 1:
            raise InputError(f"{where}: {_ambiguous(name, places)}; add a column folder")
        if not fitting:
            strangers.append(f"{folder}/{name}" if folder else name)
            continue
        if fitting[0] in lines:
            raise InputError(f"{where}: {name} stands on line {lines[fitting[0]]} already")
        lines[fitting[0]] = line
        roles[fitting[0]] = split
    if rows and len(strangers) == len(rows):
        example = bases["base_image"].iloc[0]
        raise InputError(
            f"{path}: none of its {len(rows)} base images is in the data ({first_of(strangers)}); "
            f"the data has names like {example}"
        )
    without = [
        f"{row.folder}/{row.base_image}" for row in bases[roles == ""].itertuples(index=False)
    ]
    if without:
        raise InputError(
            f"{path}: has no row for {plural(len(without), 'base image')} of the data "
            f"({first_of(without)}); give each a split ('exclude' leaves it out)"
            + (
                f"; and it names some that are not there ({first_of(strangers)})"
                if strangers
                else ""
            )
        )
    for name in strangers:
        problems.handled("not in the data", name, f"a row of {path}: not used")
    return roles


def read_labeled_list(path: Path, patches: pd.DataFrame, problems: Problems) -> NDArray[np.bool_]:
    """Which patches' masks may be used, bool (patches,).

    Raises:
        InputError: a name of nothing in the data, or of two things.
    """
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in patches["image"]]
    folders, base_numbers = patches["folder"].tolist(), patches["base"].to_numpy()
    places = _places(zip(folders, stems, strict=True))
    bases = base_images_of(patches)
    base_places = _places(zip(bases["folder"], bases["base_image"], strict=True))
    has_mask = (patches["mask"] != "").to_numpy()
    allowed = np.zeros(len(patches), bool)
    unknown: list[str] = []
    for line in _read_lines(path):
        text = line.strip().replace("\\", "/")
        if not text or text.startswith("#"):
            continue
        if text.lower().endswith(IMAGE_SUFFIXES):
            text = text.rpartition(".")[0]
        folder, _, name = text.rpartition("/")
        folder = _as_folder(folder)
        rows: NDArray[np.int64] | None = None
        for table, kind in ((places, "patch"), (base_places, "base")):
            fitting = [place for known, place in table.get(name, ()) if folder in ("", known)]
            if len(fitting) > 1:
                raise InputError(f"{path}: {_ambiguous(name, table)}; write FOLDER/{name}")
            if fitting:
                rows = np.array(fitting) if kind == "patch" else base_numbers == fitting[0]
                break
        if rows is None:
            unknown.append(text)
            continue
        if not has_mask[rows].any():
            problems.handled("listed without mask", text, f"{path} names it, but it has no mask")
        allowed[rows] = True
    if unknown:
        raise InputError(
            f"{path}: {plural(len(unknown), 'name')} of neither a patch nor a base image of the "
            f"data ({first_of(unknown)})"
        )
    return allowed


def _places(keys: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, int]]]:
    """Name → (folder, position) of each that has it."""
    places: dict[str, list[tuple[str, int]]] = {}
    for position, (folder, name) in enumerate(keys):
        places.setdefault(name, []).append((folder, position))
    return places


def _as_folder(text: str) -> str:
    """A folder as people write it → as the index writes it; '' is any."""
    return text.strip().replace("\\", "/").removeprefix("./").rstrip("/")


def _ambiguous(name: str, places: dict[str, list[tuple[str, int]]]) -> str:
    folders = [folder for folder, _ in places[name]]
    return f"{name} is in {' and in '.join(folders[:SHOWN])}"
