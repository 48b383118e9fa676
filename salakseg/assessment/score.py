"""assess_score(): the answers in, accuracies and hectares with their intervals out.

Out, in the folder of the plan: `assessment.json`, `areas.csv` (and `areas_by_zone.csv`),
`report.html`; and a table on the console.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.assessment.class_maps import ClassMap, find_class_maps, measured
from salakseg.assessment.estimates import (
    Estimate,
    Estimates,
    Floats,
    Sample,
    estimates,
    in_domain,
)
from salakseg.assessment.outcome import print_outcome, write_outcome
from salakseg.assessment.plan import LEAST_IN_ZONE
from salakseg.assessment.points import MISSING, NONE_OF_THESE, Plan, read_answers, read_plan
from salakseg.classes import IGNORE_INDEX
from salakseg.console import console
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.mapping.areas import SQUARE_METRES_PER_HECTARE
from salakseg.mapping.outputs import read_tags
from salakseg.version import VERSION

# Below, the intervals of a stratum are not known to be true; see docs/assess.md.
ENOUGH = 20


def assess_score(
    assessment: Path | str = Path("assessment"), *, maps: Sequence[Path | str] = ()
) -> dict[str, Any]:
    """Estimate accuracies and areas from the answers to a plan.

    Args:
        assessment: folder of `assess_plan`, or the `reference.csv` or `points.gpkg` in it.
        maps: other maps of the same ground, of the same classes, to be judged by these points in
            place of the planned ones; the strata stay those of the plan.

    Returns:
        What `assessment.json` holds; docs/formats.md has its keys.

    Raises:
        InputError: no plan, no answers, answers that are none, maps that do not fit.
    """
    given = Path(assessment)
    if not given.exists():
        raise InputError(f"{given}: is not there; salakseg assess plan makes it")
    folder = given if given.is_dir() else given.parent
    plan = read_plan(folder)
    answers, source = read_answers(plan, None if given.is_dir() else given)
    assessed = np.bincount(plan.mapped[answers != MISSING], minlength=len(plan.sizes)) > 0
    if maps:
        mapped, mapped_shares = _of_other_maps(plan, [Path(one) for one in maps])
    else:
        mapped, mapped_shares = plan.mapped, np.where(assessed, _shares(plan), 0)
        _tell_changed(plan)
    mapped_shares = mapped_shares / mapped_shares.sum()
    notes = _notes(plan, answers)
    sample = _sample(plan, mapped, answers, assessed)
    found = estimates(sample, plan.mapping.num_classes)
    content = _content(plan, sample, found, mapped_shares, assessed, notes)
    content |= {
        "answers": source.name,
        "maps": [str(one) for one in maps] or [one["file"] for one in plan.content["maps"]],
        "zones": _zones(plan, sample, answers),
    }
    for note in notes:
        console.print(note)
    write_outcome(folder, content, plan.mapping)
    print_outcome(str(folder), content)
    console.print(f"Wrote {folder / 'report.html'}, with assessment.json and areas.csv beside it")
    return content


def _shares(plan: Plan) -> Floats:
    amounts = plan.sizes if plan.areas is None else plan.areas
    return amounts / amounts.sum()


def _tell_changed(plan: Plan) -> None:
    for one in plan.content["maps"]:
        path = plan.folder / one["file"]
        if path.exists() and one["key"] and read_tags(path).get("KEY") != one["key"]:
            console.print(
                f"{path}: was made anew since it was planned; the figures are of the map as it "
                f"was. For the new one: --map {path}"
            )


def _of_other_maps(plan: Plan, paths: list[Path]) -> tuple[NDArray[np.int64], Floats]:
    """Their class at each point, int64 (n,), and the share of each class in them."""
    maps = find_class_maps(paths)
    if maps[0].mapping.names != plan.mapping.names:
        raise InputError(f"{maps[0].path}: has other classes than the plan")
    population = measured(maps, None)
    mapped = np.full(len(plan.ids), IGNORE_INDEX, np.int64)
    for one in maps:
        places = _in_pixels(plan, one)
        with one.labels() as read:
            for point, (row, column) in places.items():
                mapped[point] = min(mapped[point], int(read(row, column, 1, 1)[0, 0]))
    beside = mapped == IGNORE_INDEX
    if beside.any():
        raise InputError(
            f"{maps[0].path}: has no class at {beside.sum()} of the {len(beside)} points; it must "
            "be of the ground that was planned"
        )
    return mapped, population.weights


def _in_pixels(plan: Plan, one: ClassMap) -> dict[int, tuple[int, int]]:
    """Row and column of the points that lie in a map, by their number."""
    sample = plan.content["sample"]
    of_plan = plan.content["maps"]
    if one.source.crs is None or one.source.transform is None:
        return {
            point: (at["row"], at["column"])
            for point, at in enumerate(sample)
            if of_plan[at["map"]]["name"] == one.name
            and (of_plan[at["map"]]["height"], of_plan[at["map"]]["width"])
            == (one.source.height, one.source.width)
        }
    if of_plan[0]["crs"] != one.source.crs.to_wkt():
        raise InputError(f"{one.path}: is in another coordinate system than the plan")
    back = ~one.source.transform
    found = {}
    for point, at in enumerate(sample):
        column = int(np.floor(back.a * at["x"] + back.b * at["y"] + back.c))
        row = int(np.floor(back.d * at["x"] + back.e * at["y"] + back.f))
        if 0 <= row < one.source.height and 0 <= column < one.source.width:
            found[point] = row, column
    return found


def _notes(plan: Plan, answers: NDArray[np.int64]) -> list[str]:
    """What a reader has to know: missing answers, strata with too few."""
    notes = []
    missing = int((answers == MISSING).sum())
    if missing:
        notes.append(
            f"{missing} of {len(answers)} points have no answer: those that have one are taken for "
            "a random sample of their class of the map, which holds if what cannot be told is no "
            "other ground than the rest"
        )
    counts = np.bincount(plan.mapped[answers != MISSING], minlength=len(plan.sizes))
    names = np.array(plan.mapping.names, object)
    there = plan.sizes > 0
    none, one = names[there & (counts == 0)], names[there & (counts == 1) & (plan.sizes > 1)]
    few = names[there & (counts > 1) & (counts < np.minimum(ENOUGH, plan.sizes))]
    if len(none):
        share = _shares(plan)[there & (counts == 0)].sum()
        notes.append(
            f"No point has an answer in what is mapped as {first_of(none.tolist())}, {share:.1%} "
            "of the map: it is left out, and the figures are of the rest"
        )
    if len(one):
        notes.append(
            f"One point alone has an answer in what is mapped as {first_of(one.tolist())}: its "
            "variance is taken for the largest that there can be"
        )
    if len(few):
        notes.append(
            f"Fewer than {ENOUGH} points have an answer in what is mapped as "
            f"{first_of(few.tolist())}: intervals may hold the truth less often than 95 in 100"
        )
    return notes


def _sample(
    plan: Plan,
    mapped: NDArray[np.int64],
    answers: NDArray[np.int64],
    assessed: NDArray[np.bool_],
) -> Sample:
    """What has an answer, in the strata that are assessed, bool (H,)."""
    known = answers != MISSING
    number = np.cumsum(assessed) - 1
    weights = _shares(plan)[assessed]
    return Sample(
        number[plan.mapped[known]],
        mapped[known],
        answers[known],
        weights / weights.sum(),
        plan.sizes[assessed],
    )


def _content(
    plan: Plan,
    sample: Sample,
    found: Estimates,
    mapped_shares: Floats,
    assessed: NDArray[np.bool_],
    notes: list[str],
) -> dict[str, Any]:
    classes = plan.mapping.num_classes
    hectares = None
    if plan.areas is not None:
        hectares = float(plan.areas[assessed].sum()) / SQUARE_METRES_PER_HECTARE
    counts = np.zeros((classes, classes + 1), np.int64)
    np.add.at(counts, (sample.mapped, sample.reference), 1)
    return {
        "format": plan.content["format"],
        "made_by": f"salakseg {VERSION}",
        "plan": plan.content["id"],
        "points": len(plan.ids),
        "answered": len(sample.stratum),
        "notes": notes,
        "basis": plan.content["basis"],
        "hectares": hectares,
        "overall_accuracy": _one(found.overall, 0),
        "classes": [
            {
                "class_name": name,
                "points": int(counts[index].sum()) if index < classes else 0,
                "mapped_share": float(mapped_shares[index]) if index < classes else 0.0,
                "users_accuracy": _one(found.users, index) if index < classes else None,
                "producers_accuracy": _one(found.producers, index) if index < classes else None,
                "share": _one(found.areas, index),
                "hectares": _one(found.areas, index, hectares),
            }
            for index, name in enumerate([*plan.mapping.names, NONE_OF_THESE])
            if index < classes or counts[:, index].any()
        ],
        "error_matrix": {"shares": found.matrix.tolist(), "points": counts.tolist()},
    }


def _one(estimate: Estimate, which: int, whole: float | None = 1) -> dict[str, float] | None:
    """An estimate as JSON; None where nothing is known."""
    values = estimate[which]
    if whole is None or np.isnan(values[0]):
        return None
    names = ("estimate", "standard_error", "low", "high")
    return {name: value * whole for name, value in zip(names, values, strict=True)}


def _zones(plan: Plan, sample: Sample, answers: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The areas in each zone with enough points."""
    known = np.flatnonzero(answers != MISSING)
    found = []
    for number, zone in enumerate(plan.content["zones"]):
        inside = np.array([number in plan.content["sample"][point]["zones"] for point in known])
        hectares = None if zone["m2"] is None else zone["m2"] / SQUARE_METRES_PER_HECTARE
        row: dict[str, Any] = {
            "zone": zone["zone"],
            "zone_fid": zone["zone_fid"],
            "points": int(inside.sum()),
            "hectares": hectares,
            "classes": [],
        }
        if row["points"] >= LEAST_IN_ZONE:
            shares = in_domain(sample, inside, plan.mapping.num_classes)
            row["classes"] = [
                {
                    "class_name": name,
                    "share": _one(shares, index),
                    "hectares": _one(shares, index, hectares),
                }
                for index, name in enumerate([*plan.mapping.names, NONE_OF_THESE])
                if index < plan.mapping.num_classes or (sample.reference[inside] == index).any()
            ]
        found.append(row)
    few = [str(row["zone"]) for row in found if not row["classes"]]
    if few:
        console.print(
            f"{plural(len(few), 'zone has', 'zones have')} fewer than {LEAST_IN_ZONE} answers, too "
            f"few for figures of their own: {first_of(few)}"
        )
    return found
