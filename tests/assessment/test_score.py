"""Scoring: what the answers say, and what is said of answers that are missing or none."""

import csv
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from salakseg.assessment.plan import assess_plan
from salakseg.assessment.points import Plan
from salakseg.assessment.score import assess_score
from salakseg.errors import InputError
from tests.assessment.samples import TRUTH, answer, class_map, mapped, true_name


def test_the_intervals_hold_the_truth(plan: Plan) -> None:
    answer(plan, true_name)
    found = assess_score()
    there = mapped() < 3
    truth = np.bincount(TRUTH[there], minlength=3) / there.sum()
    for one, share in zip(found["classes"], truth, strict=True):
        assert one["share"]["low"] <= share <= one["share"]["high"]
        hectares = there.sum() * 0.01 / 10_000
        assert one["hectares"]["estimate"] == pytest.approx(
            one["share"]["estimate"] * hectares, rel=2e-3
        )
    right = (mapped() == TRUTH)[there].mean()
    assert found["overall_accuracy"]["low"] <= right <= found["overall_accuracy"]["high"]
    assert found["notes"] == [] and found["answered"] == 300


def test_missing_answers_are_said_and_change_no_more_than_chance(plan: Plan) -> None:
    answer(plan, lambda one: true_name(one) if int(one["id"]) <= 200 else "")
    some = assess_score()
    assert some["answered"] == 200 and "100 of 300 points have no answer" in some["notes"][0]
    answer(plan, lambda one: true_name(one) if int(one["id"]) % 50 else "Cannot Tell")
    assert assess_score()["answered"] == 294


def test_too_few_in_a_class_of_the_map_is_said(plan: Plan) -> None:
    first = next(one["id"] for one in plan.content["sample"] if one["class"] == 0)
    answer(plan, lambda one: true_name(one) if one["class"] or one["id"] == first else "")
    assert any("One point alone has an answer in what is mapped as Water" in note
               for note in assess_score()["notes"])  # fmt: skip
    answer(plan, lambda one: true_name(one) if one["class"] else "")
    found = assess_score()
    assert any(
        "No point has an answer in what is mapped as Water" in note for note in found["notes"]
    )
    assert found["classes"][0]["mapped_share"] == 0
    assert found["hectares"] == pytest.approx((mapped() < 3).sum() * 1e-6 * 0.85, rel=0.1)
    answer(plan, lambda one: true_name(one) if int(one["id"]) < 60 else "")
    assert any("Fewer than 20 points" in note for note in assess_score()["notes"])


def test_ground_that_is_no_class_of_the_map_has_an_area(plan: Plan) -> None:
    answer(plan, lambda one: "none of these" if one["column"] > 100 else true_name(one))
    last = assess_score()["classes"][-1]
    assert (last["class_name"], last["users_accuracy"]) == ("none of these", None)
    assert last["share"]["low"] < 1 / 3 < last["share"]["high"]


def test_another_map_is_judged_by_the_same_points(plan: Plan, tmp_path: Path) -> None:
    answer(plan, true_name)
    old = assess_score()
    (tmp_path / "new").mkdir()
    better = class_map(tmp_path / "new" / "field", mapped(0.95))
    new = assess_score(maps=[better])
    # The ground is what it is; the map is better, and its matrix is no longer the strata's.
    for one, other in zip(old["classes"], new["classes"], strict=True):
        assert one["share"] == other["share"]
    right = (mapped(0.95) == TRUTH)[mapped() < 3].mean()
    accuracy = new["overall_accuracy"]
    assert accuracy["low"] <= right <= accuracy["high"]
    assert accuracy["estimate"] > old["overall_accuracy"]["estimate"]
    beside = class_map(tmp_path / "new" / "less", mapped()[:60])
    with pytest.raises(InputError, match="has no class at"):
        assess_score(maps=[beside])


def test_a_map_that_was_made_anew_is_said(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(plan, true_name)
    with rasterio.open(tmp_path / "field_classes.tif", "r+") as raster:
        raster.update_tags(KEY="other")
    assess_score()
    assert "was made anew since it was planned" in capsys.readouterr().out


def test_zones_with_enough_points_have_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_map(tmp_path / "field", mapped())
    with rasterio.open(tmp_path / "field_classes.tif") as raster:
        left, bottom, right, top = raster.bounds
    middle = left + 0.9 * (right - left)
    boxes = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    pyogrio.raw.write(
        "z.gpkg",
        shapely.to_wkb(np.array(boxes, object)),
        [np.array([1, 2])],
        ["block"],
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32748",
    )
    plan = assess_plan([tmp_path / "field_classes.tif"], points=300, zones="z.gpkg")
    answer(plan, true_name)
    most, least = assess_score()["zones"]
    assert "1 zone has fewer than 30 answers" in capsys.readouterr().out or least["classes"]
    inside = (mapped() < 3)[:, :135]
    truth = np.bincount(TRUTH[:, :135][inside], minlength=3) / inside.sum()
    for one, share in zip(most["classes"], truth, strict=True):
        assert one["share"]["low"] <= share <= one["share"]["high"]
    assert most["hectares"] == pytest.approx(inside.sum() * 1e-6, rel=2e-3)
    with open("assessment/areas_by_zone.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["zone"] == "1" and rows[0]["class"] == "Water"
