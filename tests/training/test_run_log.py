import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salakseg.metrics import scores
from salakseg.training.run_log import LOG_COLUMNS, CsvLog, iou_columns, log_columns, read_rows


def test_a_resumed_log_has_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    whole = CsvLog(path, LOG_COLUMNS, 0)
    for iteration in (100, 200):
        whole.write({"iteration": iteration, "loss_ce": 1 / iteration})
    expected = path.read_bytes()
    whole.write({"iteration": 300, "loss_ce": 0.5})  # done after the last save: done again
    CsvLog(path, LOG_COLUMNS, 200)
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.split(b"\n", 1)[1],
        lambda content: content.replace(b",", b";"),
        lambda content: content.replace(b"100", b"1O0"),
        lambda content: content.replace(b"loss_ce", b"loss_\xff"),
        lambda content: content.replace(b"loss_ce", b"loss"),
        lambda content: content.replace(b"0.5", b"much"),
        lambda content: content[:-1] + b",\n",
        lambda content: b"\xef\xbb\xbf" + content,
    ],
)
def test_a_log_that_was_changed_is_kept_aside(
    tmp_path: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    CsvLog(path, LOG_COLUMNS, 0).write({"iteration": 100, "loss_ce": 0.5})
    changed = damage(path.read_bytes())
    path.write_bytes(changed)
    CsvLog(path, LOG_COLUMNS, 200).write({"iteration": 300})
    assert (tmp_path / "log_until_200.csv").read_bytes() == changed
    assert path.read_text(encoding="utf-8").count("\n") == 2
    assert "log_until_200.csv" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["edited", "gone", "held"])
def test_what_becomes_of_the_file_costs_a_run_nothing(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    log = CsvLog(path, LOG_COLUMNS, 0)
    log.write({"iteration": 100, "loss_ce": 0.5})
    if change == "edited":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b";"))
    else:
        path.unlink()
    if change == "held":
        path.mkdir()  # for a file that another program has open, on Windows
    for iteration in (200, 300):
        log.write({"iteration": iteration, "loss_ce": 0.4})
    said = capsys.readouterr().out
    assert said.count("Warning") == said.count("log.csv: cannot be written") == (change == "held")
    if change == "held":
        path.rmdir()
    log.write({"iteration": 400, "train_miou": np.float64(1 / 3), "judge": None})
    assert [row["iteration"] for row in read_rows(path)] == ["100", "200", "300", "400"]
    assert read_rows(path) == log.rows
    assert [file.name for file in tmp_path.iterdir()] == ["log.csv"]


def test_columns_that_came_later_are_empty_in_older_rows(tmp_path: Path) -> None:
    path = tmp_path / "timing.csv"
    CsvLog(path, ("iteration", "seconds"), 0).write({"iteration": 100, "seconds": 2})
    CsvLog(path, ("iteration", "seconds", "more"), 100)
    assert path.read_text(encoding="utf-8") == "iteration,seconds,more\n100,2,\n"


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    CsvLog(path, LOG_COLUMNS, 0).write({"iteration": 100})
    CsvLog(path, LOG_COLUMNS, 0)
    assert path.read_text(encoding="utf-8").count("\n") == 1


def test_the_log_has_a_column_a_class_and_absent_ones_are_empty(tmp_path: Path) -> None:
    names = ["Water", "Road, paved", "Absent"]
    val = scores(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]]))
    log = CsvLog(tmp_path / "log.csv", log_columns(names), 0)
    log.write({"iteration": 500, "val_miou": val.miou} | iou_columns(names, val))
    with open(tmp_path / "log.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == (*LOG_COLUMNS, "iou Water", "iou Road, paved", "iou Absent")
    assert (row["iou Water"], row["iou Road, paved"], row["iou Absent"]) == ("0.6", "0.6", "")
