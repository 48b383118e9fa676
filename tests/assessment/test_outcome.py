"""What was found, as tables, page and text."""

import csv
import json
from pathlib import Path

import pytest

from salakseg.assessment.outcome import AREA_COLUMNS, _interval, _number
from salakseg.assessment.plan import assess_plan
from salakseg.assessment.points import Plan
from salakseg.assessment.score import assess_score
from tests.assessment.samples import NAMES, answer, class_map, mapped, true_name


def test_without_a_crs_there_are_shares_and_no_hectares(tmp_path: Path) -> None:
    path = class_map(tmp_path / "photo", mapped(), crs=None, transform=None)
    answer(assess_plan([path], points=150), true_name)
    found = assess_score()
    assert found["hectares"] is None and found["classes"][0]["hectares"] is None
    with open("assessment/areas.csv", encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["hectares_low"] == ""


def test_the_files_say_the_same(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    answer(plan, true_name)
    found = assess_score()
    assert json.loads(Path("assessment/assessment.json").read_text(encoding="utf-8")) == found
    with open("assessment/areas.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == AREA_COLUMNS
    assert [row["class"] for row in rows] == NAMES
    for row, one in zip(rows, found["classes"], strict=True):
        for kind, column in (("share", "estimated_share"), ("users_accuracy", "users_accuracy")):
            assert float(row[column]) == pytest.approx(one[kind]["estimate"], abs=1e-6)
        assert float(row["share_low"]) == pytest.approx(one["share"]["low"], abs=1e-6)
    assert "300 points checked" in rows[0]["interval"]
    types = Path("assessment/areas.csvt").read_text(encoding="utf-8").strip().split(",")
    assert types[AREA_COLUMNS.index("points")] == '"Integer64"'
    page = Path("assessment/report.html").read_text(encoding="utf-8")
    assert "http" not in page and "Land &amp; sand" in page
    said = " ".join(capsys.readouterr().out.split())
    overall = found["overall_accuracy"]
    assert f"Overall accuracy {overall['estimate']:.1%} (95 %: {overall['low']:.1%} to" in said


@pytest.mark.parametrize(
    ("value", "whole", "text"),
    [(0.0123456, 0.5, "0.0123"), (1.23456, 2.8, "1.235"), (1234.5, 56789, "1,234"),
     (33.333, 100, "33.3")],
)  # fmt: skip
def test_numbers_have_four_digits_of_the_whole(value: float, whole: float, text: str) -> None:
    assert _number(value, whole) == text
    assert _interval(dict.fromkeys(("estimate", "low", "high"), value), whole).startswith(text)
    assert _interval(None, whole) == "–"
