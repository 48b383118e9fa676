"""Are these models better than those? Their tallies on the same patches in, a verdict out.

The interval is made by bootstrap over base images, the same draws for every model: what is easy or
hard about a photograph falls on both sides. A side of several models (seeds) is the mean of their
scores, and its models are drawn anew in each draw too: seeds differ by more than methods do. Two
single models are compared as the two files that they are. What comes out is written to
`against.json` and `per_class_against.csv`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from salakseg.console import console
from salakseg.data.problems import plural
from salakseg.evaluation.intervals import RESAMPLES, bootstrap_over, groups_with, interval
from salakseg.evaluation.tally import ScoredSource, Tally
from salakseg.metrics import LEVEL, Scores, scores, student_t
from salakseg.model.weights import Model

AGAINST_FORMAT = "salakseg-against-1"
# A patch got better or worse where more than this share of its pixels did.
CHANGED = 0.01
LISTED = 20
# Models a side from which the luck of a run can be told.
LEAST_MODELS = 3
# Options that must be the same on both sides if a difference is to be the method's.
SAME_OPTIONS = ("generator", "encoder_weights", "num_steps", "batch_size", "learning_rate")


@dataclass
class Rated:
    """A model's name, what its file says of it, and its tally; not the network."""

    name: str
    generator: str
    iteration: int
    training: dict[str, Any]
    tally: Tally
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model, tally: Tally, notes: list[str]) -> "Rated":
        """What stays of a model after its pass."""
        return cls(
            model.source, model.generator.name, model.iteration, model.training, tally, notes
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options of its training; empty where not known."""
        return self.training.get("options", {})


def compare(
    first: Sequence[Rated], against: Sequence[Rated], source: ScoredSource
) -> dict[str, Any]:
    """Compare two sides of one model or more, all rated on `source`.

    Returns:
        What `against.json` holds: plain values, None where there is no score or no interval.
        Differences are `first` minus `against`; `real` is whether the interval excludes 0, None
        where there is none: with fewer than `LEAST_MODELS` models on a side of a comparison that is
        not of two files.
    """
    truth = first[0].tally.confusions
    draws = [
        [bootstrap_over(rated.tally.confusions) for rated in side] for side in (first, against)
    ]
    unknown = _luck_unknown(first, against)
    totals = [
        [scores(rated.tally.confusions.sum(0)) for rated in side] for side in (first, against)
    ]
    iou_draws = _differences(*(np.stack([one.iou for one in side]) for side in draws))
    miou_draws = _differences(*(np.stack([one.miou for one in side]) for side in draws))
    held = groups_with(truth)
    classes = []
    for index, name in enumerate(source.mapping.names):
        ious = [float(np.mean([one.iou[index] for one in side])) for side in totals]
        classes.append(
            {
                "class_name": name,
                **_difference(ious, iou_draws[:, index], 0 if unknown else int(held[index])),
                "base_images": int(held[index]),
            }
        )
    why = unknown or f"{plural(len(truth), 'base image')} is too few"
    mious = [float(np.mean([one.miou for one in side])) for side in totals]
    miou = _difference(mious, miou_draws, 0 if unknown else len(truth))
    result = {
        "format": AGAINST_FORMAT,
        "verdict": verdict(_subject(first, against), miou, classes, why),
        "miou": miou,
        "classes": classes,
        "base_images": len(truth),
        "resamples": RESAMPLES,
        "models": [
            _describe(rated, total, side)
            for side, rateds, side_totals in (
                ("first", first, totals[0]),
                ("against", against, totals[1]),
            )
            for rated, total in zip(rateds, side_totals, strict=True)
        ],
        "patches": _patches(gains(first, against), source.names),
        "notes": _notes(first, against, len(truth)),
    }
    return result


def gains(first: Sequence[Rated], against: Sequence[Rated]) -> NDArray[np.float64]:
    """float64 (N,): what share of a patch's pixels the first side has right beyond the other; NaN
    where a patch has no scored pixel."""
    sides = (np.mean([rated.tally.accuracy for rated in side], axis=0) for side in (first, against))
    return np.subtract(*sides)


def _differences(first: NDArray[np.float64], against: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first side's mean less the other's in each resample, its models drawn anew as well.

    A handful of models drawn with replacement spread by less than models do: their deviations from
    the mean of all are widened by √(M / (M - 1)), and by what Student's t has over the normal
    distribution, with Welch's degrees of freedom.

    Args:
        first, against: float64 (M, R, …), the scores of M models in R resamples.

    Returns:
        float64 (R, …).
    """
    sides = first, against
    difference = first.mean(0) - against.mean(0)
    if min(map(len, sides)) < LEAST_MODELS:
        return difference
    # A resample without the class is without it for all models.
    variances = [np.nan_to_num(side).mean(1).var(axis=0, ddof=1) / len(side) for side in sides]
    each = sum(v**2 / (len(side) - 1) for v, side in zip(variances, sides, strict=True))
    # Models without any spread have no luck, and their deviations are 0.
    freedom = np.where(each > 0, sum(variances) ** 2 / np.where(each > 0, each, 1), 1)
    wider = student_t(freedom) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    generator = np.random.default_rng(0)
    for sign, side in zip((1, -1), sides, strict=True):
        models, resamples = side.shape[:2]
        drawn = side[generator.integers(models, size=(models, resamples)), np.arange(resamples)]
        luck = (drawn.mean(0) - side.mean(0)) * np.sqrt(models / (models - 1))
        difference += sign * wider * luck
    return difference


def _luck_unknown(first: Sequence[Rated], against: Sequence[Rated]) -> str:
    """Why the luck of a run cannot be told, "" where it can or, of two files, is not asked for."""
    if len(first) == len(against) == 1:
        return ""
    # One file named twice is one model.
    fewest = min(
        len({rated.tally.confusions.tobytes() for rated in side}) for side in (first, against)
    )
    if fewest >= LEAST_MODELS:
        return ""
    return f"{plural(fewest, 'model')} on a side, {LEAST_MODELS} tell the luck of a run"


def verdict(
    subject: str, miou: dict[str, Any], classes: Sequence[dict[str, Any]], unknown: str
) -> str:
    """The comparison in a sentence.

    Args:
        subject: what the difference is put down to.
        unknown: why there is no interval, where there is none.
    """
    difference = miou["difference"]
    sentence = f"{subject}: {points(difference)} mIoU"
    if miou["real"] is None:
        return f"{sentence} (no interval, so not known to be real: {unknown})."
    sentence += f" (95% {points(miou['low'], '')} to {points(miou['high'], '')})"
    if not miou["real"]:
        sentence += ", within noise"
    present = [row for row in classes if row["difference"] is not None]
    sign = 1 if difference >= 0 else -1
    ordered = sorted(present, key=lambda row: -sign * row["difference"])
    most, least = ordered[0], ordered[-1]
    if most["real"] and sign * most["difference"] > 0:
        word = "mostly" if miou["real"] else "but"
        sentence += f", {word} {most['class_name']} {points(most['difference'])}"
    if sign * least["difference"] < 0:
        noise = "" if least["real"] else " is within noise"
        but = "but " if least["real"] else ""
        sentence += f"; {but}{least['class_name']} {points(least['difference'])}{noise}"
    return sentence + "."


def points(score: float, plus: str = "+") -> str:
    """0.034 → '+3.4': a score or a difference in hundredths."""
    text = f"{abs(score) * 100:.1f}"
    return f"−{text}" if score < 0 and float(text) else f"{plus}{text}"


def show(result: dict[str, Any]) -> None:
    """Print the comparison."""
    table = Table("Class", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("IoU", "Against", "Difference", "95% interval", "Real"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in [*result["classes"], {"class_name": "mIoU", **result["miou"]}]:
        if row["difference"] is None:
            table.add_row(row["class_name"], "absent")
            continue
        bounds = "none"
        if row["low"] is not None:
            bounds = f"{points(row['low'])} to {points(row['high'])}"
        table.add_row(
            row["class_name"],
            f"{row['first']:.3f}",
            f"{row['against']:.3f}",
            points(row["difference"]),
            bounds,
            {True: "yes", False: "noise", None: "?"}[row["real"]],
        )
    patches = result["patches"]
    sides = {
        side: " and ".join(m["file"] for m in result["models"] if m["side"] == side)
        for side in ("first", "against")
    }
    console.print(f"\n{sides['first']} against {sides['against']}")
    console.print(table)
    console.print(
        f"{plural(patches['better'], 'patch', 'patches')} got better and {patches['worse']} worse "
        f"by more than {CHANGED:.0%} of their pixels, {patches['same']} did not change"
    )
    for note in result["notes"]:
        console.print(f"Note: {note}")
    console.print(result["verdict"])


def _difference(sides: Sequence[float], draws: NDArray[np.float64], groups: int) -> dict[str, Any]:
    first, against = sides
    if np.isnan(first):  # a class that the truth does not hold
        names = ("first", "against", "difference", "low", "high", "real")
        return dict.fromkeys(names)
    low, high = interval(draws, groups)
    known = not np.isnan(low)
    return {
        "first": first,
        "against": against,
        "difference": first - against,
        "low": low if known else None,
        "high": high if known else None,
        "real": (low > 0 or high < 0) if known else None,
    }


def _subject(first: Sequence[Rated], against: Sequence[Rated]) -> str:
    if len(first) == len(against) == 1:
        return f"These two files, {first[0].name} against {against[0].name}"
    methods = [{rated.options.get("method") for rated in side} for side in (first, against)]
    if methods == [{"s4gan"}, {"supervised"}]:
        return "Unlabelled data"
    ours, theirs = (
        side[0].name if len(side) == 1 else f"{side[0].name} and {len(side) - 1} more"
        for side in (first, against)
    )
    return f"{ours} against {theirs}"


def _describe(rated: Rated, total: Scores, side: str) -> dict[str, Any]:
    return {
        "side": side,
        "file": rated.name,
        "generator": rated.generator,
        "iteration": rated.iteration,
        "method": rated.options.get("method"),
        "seed": rated.options.get("seed"),
        "miou": total.miou,
    }


def _patches(gain: NDArray[np.float64], names: list[str]) -> dict[str, Any]:
    order = np.argsort(gain, kind="stable")
    order = order[~np.isnan(gain[order])]

    def listed(entries: NDArray[np.int64]) -> list[dict[str, Any]]:
        return [{"patch": names[entry], "gain": float(gain[entry])} for entry in entries]

    worse, better = order[gain[order] < -CHANGED], order[gain[order] > CHANGED]
    return {
        "better": len(better),
        "worse": len(worse),
        "same": len(order) - len(better) - len(worse),
        "most_better": listed(better[::-1][:LISTED]),
        "most_worse": listed(worse[:LISTED]),
    }


def _notes(first: Sequence[Rated], against: Sequence[Rated], base_images: int) -> list[str]:
    models = list(chain(first, against))
    notes = list(dict.fromkeys(note for rated in models for note in rated.notes))
    if any("was picked on these patches" in note for note in notes):
        notes.append("compare final_model.pth of both: the iteration of a best one was chosen here")
    if len(models) == 2:
        notes.append(
            "one model on each side: the luck of a run is not in the interval, which is of these "
            f"files, not methods; for that, train {LEAST_MODELS} with --seed and name them all"
        )
    else:
        notes.append(
            "a side of several models is the mean of their scores"
            + ("" if _luck_unknown(first, against) else "; the luck of a run is in the interval")
        )
    if base_images < 2:
        notes.append("the patches are of one base image: there is no interval over base images")
    for option in SAME_OPTIONS:
        values = {str(rated.options[option]) for rated in models if option in rated.options}
        if len(values) > 1:
            notes.append(
                f"the models differ in {option} too ({', '.join(sorted(values))}), and the "
                "difference is of that as well"
            )
    if len({rated.training["shards"] for rated in models if "shards" in rated.training}) > 1:
        notes.append(
            "the models were trained on different shards; one may have seen these photographs"
        )
    return notes
