"""Who answers the points of the demo's assessment: the farm itself, which knows what is where."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.assessment.points import ANSWERS, read_plan
from salakseg.classes import IGNORE_INDEX
from salakseg.console import console
from salakseg.imagery.reading import open_raster
from salakseg.mapping.outputs import csv_text

TRUTH = "farm_truth.png"
MAP = Path("predictions/farm_classes.tif")


def answer_by_truth(folder: Path = Path("assessment"), truth: Path = Path(TRUTH)) -> None:
    """Write `reference.csv`, as a person who makes no mistakes would."""
    plan = read_plan(folder)
    labels = _labels(truth)
    names = plan.mapping.names
    places = [(one["id"], one["row"], one["column"]) for one in plan.content["sample"]]
    rows = [(number, names[labels[row, column]]) for number, row, column in places]
    path = folder / ANSWERS
    path.write_text(csv_text([("id", "reference"), *rows]), encoding="utf-8", newline="\n")
    console.print(f"Here a person looks at {len(rows)} points; the drawn farm answers for itself")


def _labels(truth: Path) -> NDArray[np.uint8]:
    with Image.open(truth) as image:
        return np.asarray(image)


def tell_truth(out: Path) -> None:
    """Say, of the class that the map is most wrong about, its hectares as mapped, as estimated and
    in truth; and of how many classes the interval holds the truth."""
    content = json.loads((out / "assessment" / "assessment.json").read_text(encoding="utf-8"))
    labels = _labels(out / TRUTH)
    with open_raster(out / MAP) as raster:
        there = raster.read(1) != IGNORE_INDEX
    classes: list[dict[str, Any]] = content["classes"]
    counts = np.bincount(labels[there], minlength=len(classes))
    truth = counts / counts.sum()
    held = [
        one["share"]["low"] <= share <= one["share"]["high"]
        for one, share in zip(classes, truth, strict=False)
    ]
    off = [abs(one["mapped_share"] - share) for one, share in zip(classes, truth, strict=False)]
    worst = int(np.argmax(off))
    one, hectares = classes[worst], content["hectares"]
    console.print(
        f"{one['class_name']}: {one['mapped_share'] * hectares:.2f} ha mapped, "
        f"{one['hectares']['estimate']:.2f} ha estimated from {content['answered']} points "
        f"(95 %: {one['hectares']['low']:.2f} to {one['hectares']['high']:.2f}), "
        f"{truth[worst] * hectares:.2f} ha in truth. Of {len(held)} classes {sum(held)} have the "
        "truth in their interval"
    )
