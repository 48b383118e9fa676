"""The HTML report: what an evaluation found, in one file that opens offline.

Scores, tallies and a few patches to look at go in; `report.html` comes out, with every picture
inside it, readable in light and dark, on a phone and on paper. The template is `report.html.j2`.
"""

import base64
import io
import json
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import ClassMapping
from salakseg.evaluation.compare import CHANGED, Rated, gains, points
from salakseg.evaluation.pictures import PICTURE_TITLES, extremes, four_pictures
from salakseg.evaluation.tally import BOUNDARY, EVERY, ScoredSource, Tally
from salakseg.files import write_text
from salakseg.imagery.drawing import Picture
from salakseg.metrics import BINS, LEVELS, calibration, scores
from salakseg.model.weights import Model
from salakseg.version import VERSION

# How many patches of each kind are shown, and base images listed.
EXTREMES = 6
CHANGES = 4
PAIRS = 5
BASES = 200
SIDE = 280  # of the reliability diagram


def write_report(
    path: Path,
    result: dict[str, Any],
    comparison: dict[str, Any] | None,
    sides: Sequence[Sequence[Rated]],
    models: Sequence[Model],
    source: ScoredSource,
    *,
    leak: str,
    seconds: float,
    amp: bool | None,
) -> None:
    """Write the report.

    Args:
        result: what `metrics.json` holds; `comparison`: what `against.json` does, or None.
        sides: the rated models, those that the report is about first, then those against.
        models: the first model of each side.
        leak: a sentence about the leak, or ''.
        seconds: that the evaluation took.
    """
    rated = sides[0][0]
    tally, mapping = rated.tally, source.mapping
    confusion = tally.confusions.sum(0)
    classes = [
        row | {"color": _hex(color)}
        for row, color in zip(result["classes"], mapping.colors, strict=True)
    ]
    run, run_missing = _read_run(Path(rated.name))
    sections = [
        ("classes", "Classes"),
        ("confusion", "Mixed up"),
        ("patches", "Worst and best"),
        ("confidence", "Confidence"),
        ("boundary", "Boundaries"),
        ("places", "By image"),
        ("areas", "Areas"),
        ("run", "The run"),
    ]
    present = [row for row in classes if row["present"]]
    look = _Look(models, sides, source, amp)
    context: dict[str, Any] = {
        "result": result,
        "model": result["model"],
        "described": source.described,
        "notes": result["notes"],
        "leak": leak.removesuffix("."),
        "classes": classes,
        "weakest": min(present, key=lambda row: row["iou"]) if len(present) > 1 else None,
        "matrices": _matrices(confusion),
        "pairs": _pairs(confusion, tally, mapping, look),
        "worst": look.at(extremes(tally.accuracy, tally.scored, source.owner, EXTREMES)),
        "best": look.at(extremes(-tally.accuracy, tally.scored, source.owner, EXTREMES)),
        "folders": _by_folder(tally, source),
        "areas": _areas(confusion, mapping, source.pixel_size),
        "hectares": source.pixel_size is not None,
        "boundary": BOUNDARY,
        "every": EVERY,
        "points": points,
        "facts": _facts(rated, run, models[0], seconds),
        "run_missing": run_missing,
        "advice": [f"Iteration {one['iteration']}: {one['text']}" for one in run.get("advice", [])],
        **_confidence(tally.by_confidence),
        **_bases(tally, source),
        "comparison": None,
        "better": [],
        "worse": [],
    }
    if comparison is not None:
        sections.insert(0, ("against", "Compared"))
        gain = gains(*sides)
        context["comparison"] = comparison | {
            "rows": [*comparison["classes"], {"class_name": "mIoU", **comparison["miou"]}],
            "against": ", ".join(one.name for one in sides[1]),
        }
        for name, sign in (("better", 1), ("worse", -1)):
            changed = np.where(sign * gain > CHANGED, gain, np.nan)
            order = extremes(-sign * changed, tally.scored, source.owner, CHANGES)
            context[name] = look.at(order, gain)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (package_files("salakseg.evaluation") / "report.html.j2").read_text(encoding="utf-8")
    write_text(path, environment.from_string(template).render(**context, sections=sections))


class _Look:
    """Makes the pictures of single patches, as the template shows them."""

    def __init__(
        self,
        models: Sequence[Model],
        sides: Sequence[Sequence[Rated]],
        source: ScoredSource,
        amp: bool | None,
    ) -> None:
        self.models, self.source, self.amp = models, source, amp
        self.tallies = [side[0].tally for side in sides]

    def at(
        self, entries: Sequence[int], gain: NDArray[np.float64] | None = None
    ) -> list[dict[str, Any]]:
        """The patches of these rows; with `gain`, as the models of both sides see them."""
        accuracy = self.tallies[0].accuracy
        return [
            self.one(
                entry,
                f"{accuracy[entry]:.1%} of its pixels right"
                + (
                    "" if gain is None else f", {points(gain[entry])} points against the other side"
                ),
                both=gain is not None,
            )
            for entry in entries
        ]

    def one(self, entry: int, caption: str, both: bool = False) -> dict[str, Any]:
        """One patch: image, truth, prediction, errors; or with `both`, the other's prediction."""
        image, truth = self.source.show(entry)
        first, *others = (
            self.source.predicted(model, tally, entry, self.amp)
            for model, tally in zip(self.models, self.tallies, strict=True)
        )
        pictures = four_pictures(image, truth, first, self.source.mapping)
        titles = list(PICTURE_TITLES)
        if both:
            other = four_pictures(image, truth, others[0], self.source.mapping)
            pictures, titles = [*pictures[:3], other[2]], [*titles[:3], "The other's"]
        return {
            "name": self.source.names[entry],
            "caption": caption,
            "pictures": [
                # Class colours must stay what they are; photographs are smaller as JPEG.
                {"title": title, "uri": _data_uri(picture, photo=title in ("Image", "Errors"))}
                for title, picture in zip(titles, pictures, strict=True)
            ],
        }


def _data_uri(picture: Picture, photo: bool) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if photo:
        image.save(buffer, "JPEG", quality=85)
    else:
        image.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hex(color: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in color)


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> list[list[float | None]]:
    return [
        [float(p) / float(w) if w else None for p, w in zip(*row, strict=True)]
        for row in zip(part, np.broadcast_to(whole, part.shape), strict=True)
    ]


def _matrices(confusion: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {
            "title": "Of the true pixels (rows add up to 100%)",
            "rows": _shares(confusion, confusion.sum(1, keepdims=True)),
        },
        {
            "title": "Of the predicted pixels (columns add up to 100%)",
            "rows": _shares(confusion, confusion.sum(0, keepdims=True)),
        },
    ]


def _pairs(
    confusion: NDArray[np.int64], tally: Tally, mapping: ClassMapping, look: _Look
) -> list[dict[str, Any]]:
    """The pairs of truth and prediction with most wrong pixels, each with a patch."""
    wrong = confusion * ~np.eye(len(confusion), dtype=bool)
    total = confusion.sum()
    shown = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS].tolist():
        truth, prediction = divmod(place, len(confusion))
        if not wrong[truth, prediction]:
            break
        names = mapping.names
        caption = (
            f"{names[truth]} taken for {names[prediction]}, {wrong[truth, prediction] / total:.1%} "
            "of all pixels"
        )
        shown.append(look.one(int(tally.examples[truth, prediction]), caption))
    return shown


def _confidence(diagnosis: NDArray[np.int64]) -> dict[str, Any]:
    """Reliability diagram, and accuracy at boundaries, from int64 (2, 2, LEVELS + 1)."""
    counts = diagnosis.sum(0)
    total = int(counts.sum())
    found = calibration(counts)
    most = np.nanmax(found.share) if total else 1.0
    bars = []
    for index in range(BINS):
        if np.isnan(found.accuracy[index]):
            continue
        height = SIDE * float(found.accuracy[index])
        bars.append(
            {
                "x": SIDE * index // BINS,
                "y": round(SIDE - height, 1),
                "width": SIDE // BINS - 1,
                "height": round(height, 1),
                "opacity": round(0.25 + 0.75 * float(np.sqrt(found.share[index] / most)), 2),
                "title": f"confidence {found.confidence[index]:.1%}, right "
                f"{found.accuracy[index]:.1%}, {found.share[index]:.1%} of the pixels",
            }
        )
    places = []
    for name, part in zip(("interior", "boundary"), diagnosis.sum(2), strict=True):
        pixels = int(part.sum())
        places.append(
            {
                "name": name,
                "share": pixels / total if total else None,
                "right": int(part[1]) / pixels if pixels else None,
            }
        )
    return {
        "reliability": bars,
        "ece": found.error if total else None,
        "mean_confidence": float(counts.sum(0) @ np.arange(LEVELS + 1) / LEVELS / max(total, 1)),
        "mean_right": int(counts[1].sum()) / max(total, 1),
        "places": places,
    }


def _score_row(name: str, confusion: NDArray[np.int64]) -> dict[str, Any]:
    found = scores(confusion)
    known = not np.isnan(found.miou)
    return {
        "name": name,
        "pixels": int(confusion.sum()),
        "miou": found.miou if known else None,
        "accuracy": found.pixel_accuracy if known else None,
    }


def _bases(tally: Tally, source: ScoredSource) -> dict[str, Any]:
    rows = [
        _score_row(name if folder == "." else f"{folder}/{name}", confusion)
        for (folder, name), confusion in zip(source.base_images, tally.confusions, strict=True)
    ]
    rows.sort(key=lambda row: 2.0 if row["miou"] is None else row["miou"])
    return {"bases": rows[:BASES], "more_bases": max(0, len(rows) - BASES)}


def _by_folder(tally: Tally, source: ScoredSource) -> list[dict[str, Any]]:
    """Scores by folder; none where there is only one."""
    folders = np.array([folder for folder, _ in source.base_images])
    names = sorted(set(folders.tolist()))
    if len(names) < 2:
        return []
    return [
        _score_row(name, tally.confusions[folders == name].sum(0))
        | {"base_images": int((folders == name).sum())}
        for name in names
    ]


def _areas(
    confusion: NDArray[np.int64], mapping: ClassMapping, pixel_size: float | None
) -> list[dict[str, Any]]:
    total = int(confusion.sum())
    hectares = 0.0 if pixel_size is None else pixel_size**2 / 10_000
    return [
        {
            "class_name": name,
            "color": _hex(color),
            "true": int(true) / total,
            "predicted": int(predicted) / total,
            "ratio": int(predicted) / int(true) if true else None,
            "true_ha": int(true) * hectares,
            "predicted_ha": int(predicted) * hectares,
        }
        for name, color, true, predicted in zip(
            mapping.names, mapping.colors, confusion.sum(1), confusion.sum(0), strict=True
        )
    ]


def _read_run(model: Path) -> tuple[dict[str, Any], str]:
    """What `run.json` beside the model holds; else nothing, and why."""
    path = model.parent / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, f"No run.json beside the model: time, machine and advice of {model} are unknown."
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read ({error})."
    if not isinstance(run, dict):
        return {}, f"{path} is no run.json of this program."
    return run, ""


def _facts(
    rated: Rated, run: dict[str, Any], model: Model, seconds: float
) -> list[tuple[str, str]]:
    """Name and value of what is known of the training and of this evaluation."""
    training = rated.training
    facts = [(name, str(value)) for name, value in rated.options.items() if value is not None]
    counts = training.get("counts", {})
    if counts:
        facts.append(("patches", ", ".join(f"{count:,} {name}" for name, count in counts.items())))
    for name, key in (
        ("iterations of the run", "iterations"),
        ("best iteration", "best_iteration"),
        ("best validation mIoU", "best_val_miou"),
        ("final validation mIoU", "final_val_miou"),
        ("trained on", "machine"),
        ("device", "device"),
    ):
        if run.get(key) is not None:
            value = run[key]
            facts.append((name, f"{value:.4f}" if isinstance(value, float) else str(value)))
    if "seconds_of_last_start" in run:
        facts.append(("time of the last start", _duration(run["seconds_of_last_start"])))
    version, torch_version = training.get("salakseg"), training.get("torch")
    if version:
        facts.append(("trained with", f"salakseg {version}, torch {torch_version}"))
    device = model.generator.mean.device
    facts.append(
        (
            "this evaluation",
            f"salakseg {VERSION}, on {device}, {_duration(seconds)}",
        )
    )
    return facts


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
