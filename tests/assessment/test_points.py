"""The files of an assessment: plans, and answers by whatever program they were given."""

import json
import re
from pathlib import Path

import numpy as np
import pyogrio
import pytest

from salakseg.assessment.points import Plan
from salakseg.assessment.score import assess_score
from salakseg.errors import InputError
from tests.assessment.samples import NAMES, answer, true_name


def test_answers_from_qgis_are_those_from_the_page(plan: Plan) -> None:
    path = answer(plan, true_name)
    expected = assess_score()
    path.unlink()
    meta, _, geometries, columns = pyogrio.raw.read(
        "assessment/points.gpkg", layer="points", return_fids=True
    )
    fields = dict(zip(meta["fields"], columns, strict=True))
    fields["reference"] = np.array([true_name(one) for one in plan.content["sample"]], object)
    order = np.argsort(fields["x"])  # as a table was sorted and saved
    pyogrio.raw.write(
        "assessment/points.gpkg",
        geometries[order],
        [column[order] for column in fields.values()],
        list(fields),
        layer="points",
        driver="GPKG",
        geometry_type="Point",
        crs=meta["crs"],
    )
    found = assess_score("assessment/points.gpkg")
    assert found["classes"] == expected["classes"] and found["answers"] == "points.gpkg"
    answer(plan, lambda one: NAMES[0])
    with pytest.raises(InputError, match="hold different answers"):
        assess_score()


def test_tables_of_spreadsheets_are_read(plan: Plan) -> None:
    answer(plan, true_name)
    expected = assess_score()["classes"]
    rows = [f"{int(one['id'])};;{true_name(one).upper()} " for one in plan.content["sample"]]
    text = "\r\n".join(["\ufeffid;note;reference", *rows])
    Path("assessment/reference.csv").write_text(text, encoding="utf-8", newline="")
    assert assess_score()["classes"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,reference\n001,Watter\n", "1 answer is none of Water, .*: Watter .point 001"),
        ("id,reference\n001,Water\n001,Wood\n", "001 comes twice"),
        ("id,reference\n999,Water\n", "999 is no point of this plan"),
        ("number,class\n1,Water\n", "has no columns id and reference"),
        ("id,reference\n001,\n", "no answers yet"),
    ],
)
def test_answers_that_are_none_are_a_line(plan: Plan, text: str, message: str) -> None:
    Path("assessment/reference.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        assess_score()
    assert not Path("assessment/assessment.json").exists()


def test_what_is_no_plan_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="salakseg assess plan makes it"):
        assess_score()
    Path("empty").mkdir()
    with pytest.raises(InputError, match=re.escape("holds no plan.json")):
        assess_score("empty")
    Path("empty/plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        assess_score("empty")


@pytest.mark.parametrize("part", ["maps", "sample", "zones", "strata", "basis", "id", "unit"])
def test_a_plan_without_a_part_is_a_line(plan: Plan, part: str) -> None:
    answer(plan, true_name)
    content = dict(plan.content)
    del content[part]
    Path("assessment/plan.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        assess_score()
