"""DATA → one row a patch, before any file is opened: listing, pairing, names."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from salakseg.data.layout import LAYOUT, WHITE_LEVEL, read_places
from salakseg.data.patch_names import PatchName, composed, understood
from salakseg.data.problems import Problems, first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES, TIFF_SUFFIXES, told_beside

# What lies beside images for GDAL: no images themselves.
SIDE_FILES = (".aux.xml", ".ovr", ".msk", ".tfw", ".pgw", ".jgw", ".wld", ".prj")


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
        pixel_size, x, y as in patches.csv; `base`, the number of the base image, from 0; `parsed`,
        whether name or layout.csv say that; `placed` and `mask_placed`, whether image and mask may
        tell their place themselves; `beside`, whether files beside the image may tell what of it is
        there; white_level.

    Raises:
        InputError: no images, no mask that fits any, a damaged layout.csv.
    """
    names = ["folder", "base_image", "row", "column", "x", "y", "pixel_size", WHITE_LEVEL]
    names += ["image", "mask", "parsed", "placed", "mask_placed", "beside"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    found_masks = 0
    for folder in folders:
        where = "" if folder.name == "." else f"{folder.name}/"
        images = files_of(f"{where}{folder.images}", folder.image_files, "image", problems)
        masks = files_of(f"{where}{folder.masks}", folder.mask_files, "mask", problems)
        found_masks += len(masks)
        layout = read_places(data / folder.name / LAYOUT) if folder.layout else {}
        said = understood(images.keys() - layout.keys())
        placed = set() if layout else _may_be_placed([*images.values(), *masks.values()], folder)
        beside = told_beside(folder.image_files)
        rows = []
        for stem, image in images.items():
            mask = masks.get(stem, "")
            place = layout.get(stem) or (*said.get(stem, PatchName(stem)), None, None)
            parsed = stem in layout or stem in said
            flags = parsed, image in placed, mask in placed, image.rpartition("/")[2] in beside
            rows.append((folder.name, *place, image, mask, *flags))
        for name, values in zip(columns, zip(*rows, strict=True), strict=False):
            columns[name] += values
        _note_names(folder.name, images, said, problems)
        for stem in masks.keys() - images.keys():
            problems.handled("mask without image", masks[stem], "not used")
        note_unread(folder, problems)
    if not columns["image"]:
        raise InputError(why_nothing(data, folders, " (full photographs: salakseg patchify first)"))
    if found_masks and not any(columns["mask"]):
        first = next(row[2] for row in sorted(problems.rows) if row[1] == "mask without image")
        raise InputError(
            f"{data}: none of the {plural(found_masks, 'mask')} has an image of the same name "
            f"(for example {first}); a mask is found by its image's name, without the extension"
        )
    patches = pd.DataFrame(columns)
    for name in ("row", "column", "x", "y", WHITE_LEVEL):
        patches[name] = patches[name].astype("Int64")
    patches["pixel_size"] = patches["pixel_size"].astype("float64")
    return number_bases(patches)


def note_unread(folder: Folder, problems: Problems) -> None:
    """Say how many files lie too deep to be found."""
    if folder.unread:
        problems.handled(
            "folder inside images/",
            str(PurePosixPath(folder.name, folder.images or folder.masks)),
            f"{plural(folder.unread, 'file')} in folders below: not used; files must be "
            "straight in images/ and masks/",
        )


def number_bases(patches: pd.DataFrame) -> pd.DataFrame:
    """With `base`, the number of each patch's base image, from 0."""
    numbers = patches.groupby(["folder", "base_image"], sort=True).ngroup()
    return patches.assign(base=numbers)


def _note_names(
    folder: str, images: dict[str, str], said: dict[str, PatchName], problems: Problems
) -> None:
    """Say which names of other programs were taken for those of patches."""
    others = [stem for stem in images if stem in said and "_patch_" not in stem]
    if others:
        bases = sorted({said[stem].base_image for stem in others})
        problems.handled(
            "names of patches",
            images[others[0]],
            f"{plural(len(others), 'image')} of {folder}/ named by rows and columns, or by pixels: "
            f"patches of {plural(len(bases), 'base image')} ({first_of(bases)})",
        )


def _may_be_placed(paths: list[str], folder: Folder) -> set[str]:
    """The files that may say, or beside which it may be said, where on Earth they lie."""
    beside = {name for name in (*folder.image_files, *folder.mask_files) if name.endswith(".xml")}
    return {
        path
        for path in paths
        if path.lower().endswith(TIFF_SUFFIXES)
        or (beside and f"{path.rpartition('/')[2]}.aux.xml" in beside)
    }


def files_by_stem(names: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Name without extension, composed → the image files of that name, sorted; and other files.

    The one rule for which files are images: by their extension (`IMAGE_SUFFIXES`, in any case), not
    hidden, and nothing that lies beside an image for GDAL.
    """
    found: dict[str, list[str]] = {}
    other: list[str] = []
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        if name.startswith(".") or name.lower().endswith(SIDE_FILES):
            continue
        if dot + suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(composed(stem), []).append(name)
        else:
            other.append(name)
    return found, other


def files_of(where: str, names: list[str], what: str, problems: Problems) -> dict[str, str]:
    """Name without extension, composed → path relative to DATA, in the order of the names.

    Args:
        where: the folder, relative to DATA.
        what: image, photo or mask, in the words of `problems`, which gets what is not used, and as
            fatal where two files have one name.
    """
    text = []
    for name in names:
        if _is_text(name):
            text.append(name)
        elif not name.startswith("."):
            shown = ascii(f"{where}/{name}")[1:-1]
            problems.handled("file name", shown, f"no Unicode: the {what} is not used")
    found, other = files_by_stem(text)
    for first, *more in found.values():
        for name in more:
            problems.fatal(
                f"two {what}s of one name",
                f"{where}/{name}",
                f"{where}/{first} is there too; remove one of them",
            )
    if other:
        problems.handled(
            "other file",
            f"{where}/{other[0]}",
            f"{plural(len(other), 'file')} of {where}/ with an extension other than "
            f"{' '.join(IMAGE_SUFFIXES)}: not used",
        )
    return {stem: f"{where}/{first}" for stem, (first, *_) in found.items()}


def _is_text(name: str) -> bool:
    # Bytes of a name that are no UTF-8 come as lone surrogates, which no file could hold.
    return name.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def why_nothing(data: Path, folders: list[Folder], hint: str = "") -> str:
    """What to do where no images are found; `hint` is said where there is no image at all."""
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
        f"with {' '.join(IMAGE_SUFFIXES)} files{hint}"
    )


def base_images_of(patches: pd.DataFrame) -> pd.DataFrame:
    """The columns folder and base_image, a row for each number in `patches.base`."""
    first = patches.drop_duplicates("base").sort_values("base")
    return first[["folder", "base_image"]].reset_index(drop=True)
