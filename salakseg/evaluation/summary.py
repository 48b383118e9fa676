"""A model's tally → what `metrics.json` holds: scores with intervals, the size of a leak."""

from typing import Any

import numpy as np

from salakseg.data.problems import plural
from salakseg.evaluation.compare import Rated, points
from salakseg.evaluation.intervals import bootstrap_over, groups_with, interval
from salakseg.evaluation.shard_split import ShardSplit
from salakseg.evaluation.tally import ScoredSource, Tally
from salakseg.metrics import scores

METRICS_FORMAT = "salakseg-metrics-1"


def summarise(rated: Rated, source: ScoredSource) -> dict[str, Any]:
    confusions = rated.tally.confusions
    confusion = confusions.sum(0)
    result = scores(confusion)
    total = int(result.support.sum())
    draws = bootstrap_over(confusions)
    groups = groups_with(confusions)
    low, high = interval(draws.miou, len(confusions))
    classes = []
    for index, name in enumerate(source.mapping.names):
        bounds = interval(draws.iou[:, index], int(groups[index]))
        classes.append(
            {
                "class_name": name,
                "present": bool(result.support[index]),
                "iou": plain(result.iou[index]),
                "iou_low": plain(bounds[0]),
                "iou_high": plain(bounds[1]),
                **{
                    score: plain(getattr(result, score)[index])
                    for score in ("precision", "recall", "f1")
                },
                "support": int(result.support[index]),
                "support_share": int(result.support[index]) / total,
                "false_positives": int(result.false_positives[index]),
                "base_images": int(groups[index]),
            }
        )
    return {
        "format": METRICS_FORMAT,
        "model": {
            "file": rated.name,
            "generator": rated.generator,
            "iteration": rated.iteration,
        },
        "data": source.facts,
        "notes": [*source.notes, *rated.notes],
        "miou": result.miou,
        "miou_low": plain(low),
        "miou_high": plain(high),
        "pixel_accuracy": result.pixel_accuracy,
        "scored_pixels": total,
        "classes": classes,
        "confusion_matrix": confusion.tolist(),
    }


def plain(value: float) -> float | None:
    """A float as JSON has it: None for NaN."""
    return None if np.isnan(value) else float(value)


def leak_scores(tally: Tally, source: ShardSplit) -> dict[str, Any]:
    """Scores of the patches whose base image is in training too, and of the others."""
    result: dict[str, Any] = {}
    for name, chosen in (("in_training", source.leaky), ("apart", ~source.leaky)):
        confusions = tally.confusions[chosen]
        count = len(confusions)
        low, high = interval(bootstrap_over(confusions).miou, count) if count else (np.nan, np.nan)
        result[name] = {
            "base_images": count,
            "patches": int(chosen[source.owner].sum()),
            "miou": plain(scores(confusions.sum(0)).miou),
            "miou_low": plain(low),
            "miou_high": plain(high),
        }
    return result


def bounds_in_words(low: float | None, high: float | None) -> str:
    """An interval of scores, '' where there is none."""
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def leak_in_words(leak: dict[str, Any]) -> str:
    """What the two groups of patches say of the size of a leak."""
    parts = []
    for key, words in (
        ("in_training", "whose base image is in training"),
        ("apart", "whose base image is not"),
    ):
        group = leak[key]
        if group["miou"] is None:
            parts.append(f"no patches {words}")
            continue
        bounds = bounds_in_words(group["miou_low"], group["miou_high"])
        parts.append(
            f"{plural(group['patches'], 'patch', 'patches')} {words} (of {group['base_images']}): "
            f"mIoU {group['miou']:.4f}" + (f", 95% {bounds}" if bounds else "")
        )
    text = "Leak check: " + "; ".join(parts)
    scores_of = [leak[key]["miou"] for key in ("in_training", "apart")]
    if None not in scores_of:
        return (
            f"{text}; {points(scores_of[0] - scores_of[1])} mIoU, from the leak and from what "
            "else sets the photographs apart"
        )
    if leak["apart"]["base_images"]:
        return f"{text}: no leak"
    return (
        f"{text}, so the size of the leak is not to be had from this split; "
        "salakseg index --split-by base makes one without"
    )
