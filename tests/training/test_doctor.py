import json
from pathlib import Path
from typing import Any

import pytest

from salakseg import train
from salakseg.errors import InputError
from salakseg.training.advice import UNLIKE_LABELLED, Advice, advice_on
from salakseg.training.doctor import doctor
from salakseg.training.run_log import read_log

# A good run of 300 iterations, batch size 8.
GOOD_LOG = """\
iteration,loss_ce,loss_fm,loss_st,loss_d,st_count,st_pixels,learning_rate,train_miou,val_miou,rank_correlation_d,rank_correlation_confidence,judge
100,0.860245,0.305745,0.534272,0.460259,7.55,0.865996,0.000697377,,,,,
100,,,,,,,,0.410772,0.408071,0.660606,0.951515,confidence
200,0.685679,0.803369,0.258389,0.217072,6.65,0.745694,0.000375388,,,,,
200,,,,,,,,0.520342,0.48097,0.733333,0.939394,confidence
300,0.662617,1.06068,0.223002,0.185073,6.47,0.704737,5.89645e-06,,,,,
300,,,,,,,,0.540362,0.46967,0.830303,0.963636,confidence
"""
GOOD_TIMING = """\
iteration,seconds,iterations_per_second,loading_share
100,123.134,0.812121,0.0481496
200,366.018,0.411721,0.0498708
300,458.268,1.084,0.0528181
"""
GOOD_OPTIONS = {"num_steps": 300, "lambda_st": 1.0, "threshold_st": "auto", "batch_size": 8}


def write_run(folder: Path, log: str = GOOD_LOG, **run: Any) -> Path:
    folder.mkdir()
    (folder / "log.csv").write_text(log, encoding="utf-8")
    (folder / "timing.csv").write_text(GOOD_TIMING, encoding="utf-8")
    content = {"options": GOOD_OPTIONS, "iterations": 300} | run
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_doctor_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    assert doctor(folder) == []
    assert capsys.readouterr().out == (
        f"{folder}: nothing is wrong with the numbers up to iteration 300 of 300 "
        "(log lines: 3, evaluations: 3)\n"
    )


def test_doctor_prints_its_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = GOOD_LOG.splitlines()
    log = [f"{head},iou Water,iou Road", *(f"{line},0.8,0.0" for line in lines)]
    advice = doctor(write_run(tmp_path / "run", "\n".join(log) + "\n"))
    assert [(a.rule, a.iteration) for a in advice] == [("never predicted: Road", 300)]
    assert capsys.readouterr().out.startswith("Iteration 300: Road has a validation IoU of 0 in 2")


def test_doctor_repeats_what_the_run_said_of_its_patches(tmp_path: Path) -> None:
    unlike = {"rule": UNLIKE_LABELLED, "iteration": 300, "text": "no unlabelled patch teaches"}
    flat = {"rule": "validation flat", "iteration": 300, "text": "of another version's rule"}
    folder = write_run(tmp_path / "run", advice=[flat, unlike])
    assert doctor(folder) == [Advice(**unlike)]


def test_doctor_on_a_run_that_has_not_ended(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        shards_dir=shards_dir,
        generator="tiny",
        encoder_weights="none",
        num_steps=2,
        batch_size=2,
        device="cpu",
    )
    Path("checkpoints/run.json").unlink()
    capsys.readouterr()
    advice = doctor()
    said = capsys.readouterr().out
    assert said.count("\n") == max(1, len(advice))
    assert {a.rule for a in advice} <= {"underfitting"}


def test_options_of_a_run_that_was_extended_since_are_not_taken(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", iterations=200)
    with pytest.raises(InputError, match=r"no run\.json of this log and no whole checkpoint"):
        doctor(folder)


def test_a_row_cut_short_by_a_power_cut_is_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", GOOD_LOG + "400,0.6")
    log, timing = read_log(folder)
    assert len(log) == 7 and len(timing) == 3
    assert advice_on(log, timing, **GOOD_OPTIONS, class_names=[]) == []


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (GOOD_LOG.rstrip("\n") + ",\n", "line 7 is none"),
        (GOOD_LOG + ",,,\n", "line 8 is none"),
        (GOOD_LOG + "9" * 400 + "\n", "line 8 is none"),
        ("iteration,loss_ce\n10,0.5\n", "has no column loss_d"),
        (GOOD_LOG.replace("train_miou", "miou"), "has no column train_miou"),
        ("", "has no column iteration"),
    ],
)
def test_a_damaged_log_is_one_line(tmp_path: Path, log: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"log\.csv: {message}"):
        doctor(write_run(tmp_path / "run", log))


def test_infinity_in_a_log_is_no_value(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", GOOD_LOG.replace("0.685679", "inf"))
    assert doctor(folder) == []


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_log(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no log\.csv"):
        read_log(tmp_path)
    folder = write_run(tmp_path / "run", GOOD_LOG.replace("0.685679", "much"))
    with pytest.raises(InputError, match=r"log\.csv: line 4 is none that training writes"):
        doctor(folder)
    (folder / "log.csv").write_text("a;b\n1;2\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no column iteration"):
        doctor(folder)
    write_run(tmp_path / "other", options={})
    with pytest.raises(InputError, match=r"not a run\.json"):
        doctor(tmp_path / "other")
