"""What `score` found, for people and programs: a table, `areas.csv`, JSON and a page."""

import json
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.table import Table

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.files import write_text
from salakseg.mapping.outputs import csv_text, write_table

REPORT, AREAS, BY_ZONE = "report.html", "areas.csv", "areas_by_zone.csv"
PARTS = ("estimate", "standard_error", "low", "high")
AREA_COLUMNS = [
    "class", "points", "mapped_share", "mapped_hectares",
    "estimated_share", "share_standard_error", "share_low", "share_high",
    "estimated_hectares", "hectares_standard_error", "hectares_low", "hectares_high",
    "users_accuracy", "users_standard_error", "users_low", "users_high",
    "producers_accuracy", "producers_standard_error", "producers_low", "producers_high",
    "interval", "basis", "made_by",
]  # fmt: skip
ZONE_COLUMNS = ["zone", "zone_fid", "points", *AREA_COLUMNS[:1], *AREA_COLUMNS[4:12]]


def write_outcome(folder: Path, content: dict[str, Any], mapping: ClassMapping) -> None:
    """Write all files; `content` is `assessment.json`, which comes last."""
    write_table(folder / AREAS, csv_text([AREA_COLUMNS, *_area_rows(content)]))
    if content["zones"]:
        write_table(folder / BY_ZONE, csv_text([ZONE_COLUMNS, *_zone_rows(content)]))
    _write_report(folder / REPORT, content, mapping)
    write_text(folder / "assessment.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _cells(found: dict[str, float] | None) -> list[str]:
    return [""] * len(PARTS) if found is None else [f"{found[part]:.6f}" for part in PARTS]


def _area_rows(content: dict[str, Any]) -> Iterator[list[object]]:
    interval = f"95 % by a random sample of the map: {content['answered']} points checked"
    for one in content["classes"]:
        row = [one["class_name"], one["points"], f"{one['mapped_share']:.6f}"]
        known = content["hectares"] is not None
        row.append(f"{one['mapped_share'] * content['hectares']:.6f}" if known else "")
        for kind in ("share", "hectares", "users_accuracy", "producers_accuracy"):
            row += _cells(one[kind])
        yield [*row, interval, "; ".join(content["basis"]), content["made_by"]]


def _zone_rows(content: dict[str, Any]) -> Iterator[list[object]]:
    for zone in content["zones"]:
        begin = [zone["zone"], zone["zone_fid"], zone["points"]]
        if not zone["classes"]:
            yield [*begin, "", *_cells(None), *_cells(None)]
        for one in zone["classes"]:
            yield [*begin, one["class_name"], *_cells(one["share"]), *_cells(one["hectares"])]


def print_outcome(title: str, content: dict[str, Any]) -> None:
    """The table, and what it means."""
    in_hectares = content["hectares"] is not None
    unit, whole = ("ha", content["hectares"]) if in_hectares else ("%", 100.0)
    table = Table(title=f"{title}: {content['answered']} points checked")
    table.add_column("class")
    for heading in (f"mapped {unit}", f"estimated {unit} (95 %)", "user's %", "producer's %"):
        table.add_column(heading, justify="right")
    table.add_column("points", justify="right")
    for one in content["classes"]:
        area = one["hectares"] if in_hectares else _times(one["share"], 100)
        table.add_row(
            one["class_name"],
            _number(one["mapped_share"] * whole, whole),
            _interval(area, whole),
            *(_percent(one[kind]) for kind in ("users_accuracy", "producers_accuracy")),
            str(one["points"]),
        )
    console.print(table)
    overall = content["overall_accuracy"]
    console.print(
        f"Overall accuracy {overall['estimate']:.1%} (95 %: {overall['low']:.1%} to "
        f"{overall['high']:.1%}). Of samples like this one, 95 in 100 have the true value in their "
        "interval"
    )


def _percent(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{100 * found['estimate']:.1f}"


def _times(found: dict[str, float] | None, factor: float) -> dict[str, float] | None:
    return None if found is None else {part: value * factor for part, value in found.items()}


def _number(value: float, whole: float) -> str:
    """With four digits of the whole."""
    digits = max(0, 4 - len(f"{whole:.0f}")) if whole >= 1 else 4
    return f"{value:,.{min(digits, 1) if whole == 100 else digits}f}"


def _interval(found: dict[str, float] | None, whole: float) -> str:
    if found is None:
        return "–"
    middle, low, high = (_number(found[part], whole) for part in ("estimate", "low", "high"))
    return f"{middle} ({low} to {high})"


def _write_report(path: Path, content: dict[str, Any], mapping: ClassMapping) -> None:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (package_files("salakseg.assessment") / "outcome.html.j2").read_text(
        encoding="utf-8"
    )
    colors = {
        name: "#{:02x}{:02x}{:02x}".format(*color)
        for name, color in zip(mapping.names, mapping.colors, strict=True)
    }
    page = environment.from_string(template).render(
        found=content,
        colors=colors,
        names=mapping.names,
        columns=[one["class_name"] for one in content["classes"]],
        number=_number,
        interval=_interval,
    )
    write_text(path, page)
