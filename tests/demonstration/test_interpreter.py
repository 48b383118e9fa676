"""The farm as its own interpreter."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.assessment.plan import assess_plan
from salakseg.assessment.score import assess_score
from salakseg.classes import packaged_class_mapping, read_class_mapping
from salakseg.demonstration.interpreter import TRUTH, answer_by_truth, tell_truth


def test_it_answers_by_what_was_drawn_and_tells_the_truth(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = read_class_mapping(packaged_class_mapping())
    with Image.open(drawn / TRUTH) as image:
        truth = np.asarray(image)
    with rasterio.open(drawn / "farm.tif") as raster:
        profile, there = raster.profile, raster.read(1) > 0
    labels = np.where(np.arange(truth.shape[1]) % 4, truth, 0).astype(np.uint8)
    labels[~there] = 255
    Path("predictions").mkdir()
    with rasterio.open(
        "predictions/farm_classes.tif", "w", **profile | {"count": 1, "photometric": None}
    ) as raster:
        raster.write(labels, 1)
        names = {f"CLASS_{index}": name for index, name in enumerate(mapping.names)}
        raster.update_tags(**names, IMAGE=str(drawn / "farm.tif"))
    Path(TRUTH).write_bytes((drawn / TRUTH).read_bytes())
    plan = assess_plan(["predictions/farm_classes.tif"], points=150)
    answer_by_truth()
    found = assess_score()
    capsys.readouterr()
    tell_truth(Path())
    numbers = re.findall(r"\d+\.\d+", capsys.readouterr().out)
    _, estimate, low, high, true = map(float, numbers)
    assert low <= true <= high and low < estimate < high
    right = {one["id"]: mapping.names[truth[one["row"], one["column"]]]
             for one in plan.content["sample"]}  # fmt: skip
    lines = Path("assessment/reference.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert dict(line.split(",") for line in lines) == right
    assert json.loads(Path("assessment/assessment.json").read_text(encoding="utf-8")) == found
