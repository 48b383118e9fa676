"""`predictions/index.html`: one offline page of all maps in a folder, for people without QGIS.

In: the folder, with what `view_files` made of each map. Out: the page, by `viewer.html.j2`: list,
totals and zones are in it, and a program that shows a map from its `NAME_view/`. A map without such
a folder, of an earlier version, is in the list with its preview.
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from salakseg.errors import WorkError
from salakseg.files import write_text
from salakseg.mapping.areas import SQUARE_METRES_PER_HECTARE
from salakseg.mapping.outputs import is_map
from salakseg.mapping.view_files import CALL, read_view
from salakseg.model.applicability import UNLIKE, is_far

PAGE = "index.html"
ENDINGS = ("_classes.tif", "_classes.png")
# Folders below that of the maps that are looked into: those of data sets and flights.
DEPTH = 3
# Zones in the page; the tables have all of them.
MOST_ZONES = 300
GREY = (150, 150, 150)
# What goes wrong with a table that is not there, or another one.
BAD_TABLE = (OSError, csv.Error, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Shown:
    """A map as the page lists it.

    Attributes:
        name: relative to the folder.
        view: whether it has pictures to look into.
        classes: "name", "color" (3 numbers), "pixels", and "m2", None where not known.
        confidence: mean, percent; None where not known.
        far: whether most of it is unlike all that the model was trained on.
        side: of its pixels, in metres; None where not known.
    """

    name: str
    view: bool
    classes: list[dict[str, Any]]
    confidence: float | None
    far: bool
    side: float | None = None

    @property
    def pixels(self) -> int:
        """That have a class."""
        return sum(one["pixels"] for one in self.classes)

    @property
    def hectares(self) -> float | None:
        """None where not known."""
        return _hectares(self.classes)


def write_page(out: Path) -> Path | None:
    """Write the page of all maps in `out`; None where there are none.

    Raises:
        WorkError: it cannot be written.
    """
    maps = maps_in(out)
    if not maps:
        return None
    zones = _zones(out, [one.name for one in maps])
    maps.sort(key=lambda one: (one.confidence is None, one.confidence or 0, one.name))
    measured = [one for one in maps if one.hectares is not None]
    counted = [one for one in maps if one.hectares is None]
    totals = [_totals(some) for some in (measured, counted) if some]
    classes = list(dict.fromkeys(row["name"] for total in totals for row in total["rows"]))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"address": _address, "colour": _colour, "fragment": _fragment}
    template = (package_files("salakseg.mapping") / "viewer.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        call=CALL,
        maps=maps,
        totals=totals,
        classes=[name for name in classes if any(name in row["amounts"] for row in zones)],
        zones=zones[:MOST_ZONES],
        more_zones=max(0, len(zones) - MOST_ZONES),
        unlike=UNLIKE,
    )
    path = out / PAGE
    try:
        # Names of files may hold bytes that are no text.
        write_text(path, page.encode("utf-8", "replace").decode())
    except OSError as error:
        raise WorkError(f"{path}: could not be written ({error.strerror})") from error
    return path


def maps_in(out: Path) -> list[Shown]:
    """The maps in a folder and below it, by name."""
    names = sorted(_names(out))
    return [found for name in names if (found := _read(out, name)) is not None]


def _names(out: Path) -> Iterator[str]:
    """The maps in a folder, by their files; as `Input.name`, with "/"."""
    for folder, below, found in os.walk(out):
        here = Path(folder).relative_to(out)
        below[:] = (
            [name for name in below if not name.startswith(".") and not name.endswith("_view")]
            if len(here.parts) < DEPTH
            else []
        )
        for ending in ENDINGS:
            for name in found:
                if name.endswith(ending) and not name.startswith("."):
                    yield (here / name.removesuffix(ending)).as_posix()


def _read(out: Path, name: str) -> Shown | None:
    """None where it is no map of ours."""
    about = read_view(out / f"{name}_view")
    if about is not None:
        far = about["far"] is not None and is_far(about["far"])
        return Shown(name, True, about["classes"], about["confidence"], far, about.get("side"))
    if not any(is_map(out / f"{name}{ending}") for ending in ENDINGS):
        return None
    try:
        with (out / f"{name}_areas.csv").open(encoding="utf-8", newline="") as file:
            classes = [
                {
                    "name": row["class"],
                    "color": None,
                    "pixels": int(row["pixels"]),
                    "m2": float(row["m2"]) if row["m2"] else None,
                }
                for row in csv.DictReader(file)
            ]
    except BAD_TABLE:
        return None
    return Shown(name, False, classes, None, False)


def _hectares(rows: list[dict[str, Any]]) -> float | None:
    """Of classes together; None where one is not known."""
    metres = [row["m2"] for row in rows]
    return None if None in metres else sum(metres) / SQUARE_METRES_PER_HECTARE


def _totals(maps: list[Shown]) -> dict[str, Any]:
    """Each class over maps of which all are in hectares, or all in pixels only."""
    rows: dict[str, dict[str, Any]] = {}
    known = maps[0].hectares is not None
    for one in maps:
        for of_class in one.classes:
            row = rows.setdefault(of_class["name"], {"name": of_class["name"], "color": None})
            row["color"] = row["color"] or of_class["color"]
            amount = of_class["m2"] / SQUARE_METRES_PER_HECTARE if known else of_class["pixels"]
            row["amount"] = row.get("amount", 0) + amount
    whole = sum(row["amount"] for row in rows.values())
    for row in rows.values():
        row["share"] = row["amount"] / (whole or 1)
    return {"maps": len(maps), "known": known, "rows": list(rows.values()), "amount": whole}


def _zones(out: Path, names: list[str]) -> list[dict[str, Any]]:
    """The zones of all maps that have a table of them: hectares of each class, over these maps.

    Zones are the same where name, number and layer are. Those that no map reaches are left out.
    """
    zones: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name in names:
        try:
            with (out / f"{name}_areas_by_zone.csv").open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    if not row["m2"] or not int(row["pixels"]):
                        continue
                    key = row["zone"], row["zone_fid"], row.get("layer") or ""
                    zone = zones.setdefault(key, {"name": row["zone"], "amounts": {}, "maps": []})
                    amounts, hectares = zone["amounts"], float(row["hectares"])
                    amounts[row["class"]] = amounts.get(row["class"], 0) + hectares
                    zone["maps"] += [] if name in zone["maps"][-1:] else [name]
        except BAD_TABLE:
            continue
    return list(zones.values())


def _address(path: str) -> str:
    """A relative path as an address, whatever characters it has."""
    return quote(f"./{path}", errors="surrogateescape")


def _fragment(name: str) -> str:
    return quote(name, safe="", errors="surrogateescape")


def _colour(color: list[int] | None) -> str:
    return "rgb({}, {}, {})".format(*(color or GREY))
