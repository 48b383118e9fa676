"""The lists that users give to `index`: --split-file, a split for each base image, and
--labeled-list, the patches or base images whose masks may be used."""

import csv
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.data.folders import base_images_of
from salakseg.data.patch_names import composed
from salakseg.data.problems import SHOWN, Problems, first_of, plural
from salakseg.data.split import SPLITS
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES


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
        name = composed((row["base_image"] or "").strip())
        split = (row["split"] or "").strip().lower()
        folder = composed(_as_folder(row.get("folder") or ""))
        if split == "mixed":
            raise InputError(
                f"{where}: {name} is 'mixed' (its index was made with --split-by patch or area); "
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
            f"{path}: none of its {plural(len(rows), 'base image')} is in the data "
            f"({first_of(strangers)}); the data has names like {example}"
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
    stems = [composed(PurePosixPath(name).stem) for name in patches["image"]]
    folders, base_numbers = patches["folder"].tolist(), patches["base"].to_numpy()
    places = _places(zip(folders, stems, strict=True))
    bases = base_images_of(patches)
    base_places = _places(zip(bases["folder"], bases["base_image"], strict=True))
    has_mask = (patches["mask"] != "").to_numpy()
    allowed = np.zeros(len(patches), bool)
    unknown: list[str] = []
    for line in _read_lines(path):
        text = composed(line.strip().replace("\\", "/"))
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
        places.setdefault(composed(name), []).append((composed(folder), position))
    return places


def _as_folder(text: str) -> str:
    """A folder as people write it → as the index writes it; '' is any."""
    return text.strip().replace("\\", "/").removeprefix("./").rstrip("/")


def _ambiguous(name: str, places: dict[str, list[tuple[str, int]]]) -> str:
    folders = [folder for folder, _ in places[name]]
    return f"{name} is in {' and in '.join(folders[:SHOWN])}"
