"""The files of an assessment: `points.gpkg` for the interpreter, `plan.json` for `score`, answers.

What the map says of a point is in `plan.json` alone, so that nobody sees it who is asked.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from salakseg.classes import ClassMapping
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.files import write_text
from salakseg.mapping.geopackage import write_layer, write_style
from salakseg.mapping.styles import points_qml

FORMAT = "salakseg-assessment-1"
PLAN, POINTS, ANSWERS = "plan.json", "points.gpkg", "reference.csv"
LAYER = "points"
NONE_OF_THESE, CANNOT_TELL = "none of these", "cannot tell"
# In place of an answer: there is none.
MISSING = -1
KEYS_OF = {
    "maps": ("name", "file", "key", "crs", "width", "height"),
    "sample": ("id", "map", "row", "column", "x", "y", "class", "zones"),
    "zones": ("zone", "zone_fid", "m2"),
}


@dataclass(frozen=True)
class Plan:
    """What `score` needs to know; `content` is `plan.json`.

    Attributes:
        folder: where it is.
        mapping: the map's classes, which are the strata.
        sizes: int64 (K,), pixels mapped as each class.
        areas: float64 (K,), m² of them, or None.
        ids: of the points (n,).
        mapped: int64 (n,), the map's class at each.
    """

    folder: Path
    content: dict[str, Any]
    mapping: ClassMapping
    sizes: NDArray[np.int64]
    areas: NDArray[np.float64] | None
    ids: list[str]
    mapped: NDArray[np.int64]


def write_plan(folder: Path, content: dict[str, Any]) -> None:
    """Write `plan.json`."""
    write_text(folder / PLAN, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_plan(folder: Path) -> Plan:
    """Read `plan.json`.

    Raises:
        InputError: missing, damaged, or of another program.
    """
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise KeyError("format")
        strata, points = content["strata"], content["sample"]
        known = content["unit"] == "m2"
        plan = Plan(
            folder,
            content,
            ClassMapping.from_plain(content["classes"], str(path)),
            np.array([one["pixels"] for one in strata], np.int64),
            np.array([one["m2"] for one in strata], np.float64) if known else None,
            [str(one["id"]) for one in points],
            np.array([one["class"] for one in points], np.int64),
        )
        _require_whole(plan)
        return plan
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: holds no {PLAN}; name the folder that salakseg assess plan made"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: is damaged; make it anew with salakseg assess plan") from error


def _require_whole(plan: Plan) -> None:
    """Raise `KeyError` or so unless all is there that `score` will ask for."""
    content, classes = plan.content, plan.mapping.num_classes
    sizes, mapped = plan.sizes, plan.mapped
    for kind, names in KEYS_OF.items():
        for one in content[kind]:
            for name in names:
                one[name]
    whole = len(sizes) == classes and len(set(plan.ids)) == len(plan.ids) > 0
    if not whole or mapped.min() < 0 or mapped.max() >= classes or not sizes[mapped].all():
        raise ValueError
    amounts = sizes if plan.areas is None else plan.areas
    if not (np.isfinite(amounts) & (amounts >= 0)).all() or not (amounts[mapped] > 0).all():
        raise ValueError
    if not {int(one["map"]) for one in content["sample"]} <= set(range(len(content["maps"]))):
        raise ValueError
    content["id"], content["basis"]


def choices_of(mapping: ClassMapping) -> list[str]:
    """What an interpreter may answer; the place in this list is the number of the answer."""
    return [*mapping.names, NONE_OF_THESE, CANNOT_TELL]


def write_points(
    path: Path,
    ids: Sequence[str],
    maps: Sequence[str],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    crs: str | None,
    mapping: ClassMapping,
    tags: dict[str, str],
) -> None:
    """Write `points.gpkg`: a point each, an empty `reference`, and a form that offers the answers.

    Args:
        maps: what each is a point of (n,).
        crs: WKT of x and y, or None.
    """
    columns = {
        "id": np.array(ids, object),
        "map": np.array(maps, object),
        "x": x,
        "y": y,
        "reference": np.full(len(ids), None, object),
    }
    write_layer(path, LAYER, "Point", shapely.points(x, y), columns, crs, tags)
    write_style(path, LAYER, points_qml("id", "reference", choices_of(mapping)))


def read_answers(plan: Plan, given: Path | None) -> tuple[NDArray[np.int64], Path]:
    """The answers, int64 (n,): 0 … K-1 a class, K none of them, `MISSING`; and where from.

    Args:
        given: a `reference.csv` or `points.gpkg`; None: what is in the plan's folder.

    Raises:
        InputError: none there, or what is there is none: other points, no class.
    """
    if given is not None:
        return _answers(plan, given), given
    found = []
    for path in (plan.folder / ANSWERS, plan.folder / POINTS):
        if path.exists():
            answers = _answers(plan, path)
            if (answers != MISSING).any():
                found.append((answers, path))
    if not found:
        raise InputError(
            f"{plan.folder}: no answers yet; open {plan.folder / 'index.html'} and put the "
            f"{ANSWERS} that it gives into the folder, or fill in {POINTS} in QGIS"
        )
    if len(found) > 1 and (found[0][0] != found[1][0]).any():
        raise InputError(
            f"{found[0][1]} and {found[1][1]}: hold different answers; name the one that counts"
        )
    return found[0]


def has_answers(folder: Path) -> bool:
    """Whether somebody has worked in a folder."""
    for path in (folder / ANSWERS, folder / POINTS):
        try:
            if path.exists() and any(text for _, text in _pairs(path)):
                return True
        except InputError:
            return True  # what is in it cannot be told: as good as somebody's work
    return False


def _answers(plan: Plan, path: Path) -> NDArray[np.int64]:
    numbers = {name.casefold(): number for number, name in enumerate(choices_of(plan.mapping))}
    place = {one: number for number, one in enumerate(plan.ids)}
    answers = np.full(len(place), MISSING, np.int64)
    seen: set[str] = set()
    strange: list[str] = []
    for one, text in _pairs(path):
        # Spreadsheets make 7 of 007.
        known = one if one in place else one.zfill(len(plan.ids[0]))
        if known not in place or known in seen:
            why = "comes twice" if known in seen else "is no point of this plan"
            raise InputError(f"{path}: {one} {why}")
        seen.add(known)
        if not text:
            continue
        number = numbers.get(text.casefold())
        if number is None:
            strange.append(f"{text} (point {one})")
        elif number <= plan.mapping.num_classes:
            answers[place[known]] = number
    if strange:
        raise InputError(
            f"{path}: {plural(len(strange), 'answer is', 'answers are')} none of "
            f"{', '.join(choices_of(plan.mapping))}: {first_of(strange)}"
        )
    return answers


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Id and answer, or "", of each row of a table or layer."""
    return _from_layer(path) if path.suffix.lower() == ".gpkg" else _from_table(path)


def _from_table(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no table of UTF-8 text ({error})") from error
    head = text.partition("\n")[0]
    # What a spreadsheet saves where a comma is part of a number.
    delimiter = max(",;\t", key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if not {"id", "reference"} <= set(rows.fieldnames or ()):
        raise InputError(f"{path}: has no columns id and reference")
    return [((row["id"] or "").strip(), (row["reference"] or "").strip()) for row in rows]


def _from_layer(path: Path) -> list[tuple[str, str]]:
    try:
        meta, _, _, columns = pyogrio.raw.read(
            path, layer=LAYER, columns=["id", "reference"], read_geometry=False
        )
    except (DataSourceError, DataLayerError, ValueError) as error:
        raise InputError(f"{path}: has no layer {LAYER} that can be read ({error})") from error
    table = dict(zip(meta["fields"], columns, strict=True))
    if not {"id", "reference"} <= table.keys():
        raise InputError(f"{path}: its layer {LAYER} has no columns id and reference")
    return [
        (str(one), "" if text is None else str(text).strip())
        for one, text in zip(table["id"], table["reference"], strict=True)
    ]
