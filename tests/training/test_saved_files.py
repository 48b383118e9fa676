from pathlib import Path

import pytest

from salakseg.errors import InputError
from salakseg.files import lock_folder
from salakseg.model.weights import Model
from salakseg.training.checkpoint import (
    LATEST,
)
from salakseg.training.saved_files import checkpoints, prune, remove_leftovers
from tests.training.saves import names, save, save_best


def test_only_the_newest_periodic_ones_are_kept(tmp_path: Path, model: Model) -> None:
    for iteration in (900, 1000, 2000, 10_000):
        save(tmp_path, f"checkpoint_{iteration}.pth", iteration)
    save(tmp_path, LATEST, 10_000)
    save_best(tmp_path, model, 500)
    (tmp_path / "checkpoint_10000.pth").write_bytes(b"damaged")
    kept = {LATEST, "best_model.pth", "best_model_D.pth", "checkpoint_1000.pth"}
    removed = prune(tmp_path, 2)
    assert {path.name for path in removed} == {"checkpoint_10000.pth", "checkpoint_900.pth"}
    assert names(tmp_path) == {*kept, "checkpoint_2000.pth"}


def test_where_none_is_whole_none_is_removed(tmp_path: Path) -> None:
    for iteration in (1, 2, 3):
        (tmp_path / f"checkpoint_{iteration}.pth").write_bytes(b"damaged")
    assert prune(tmp_path, 1) == []
    assert len(names(tmp_path)) == 3


def test_what_is_there_is_listed(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "checkpoint_1000.pth", 1000, 0.625)
    save(tmp_path, "checkpoint_900.pth", 900, float("-inf"))
    save(tmp_path, LATEST, 1100).write_bytes(b"no zip")
    save_best(tmp_path, model, 1000)
    files = checkpoints(str(tmp_path))
    assert [(file.path.name, file.iteration, file.val_miou) for file in files] == [
        ("best_model.pth", 1000, pytest.approx((3 / 4 + 4 / 5) / 2)),
        ("best_model_D.pth", None, None),
        (LATEST, None, None),
        ("checkpoint_900.pth", 900, None),
        ("checkpoint_1000.pth", 1000, 0.625),
    ]
    assert [file.path.name for file in files if file.damage] == [LATEST]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[0]: line for line in lines if line}
    assert rows["best_model.pth"][1:3] == ["1000", "0.7750"]
    assert rows["best_model.pth"][-1] == "whole" and rows[LATEST][-1] == "damaged"
    assert checkpoints(tmp_path) == files
    with pytest.raises(InputError, match="no such folder"):
        checkpoints(tmp_path / "missing")


@pytest.mark.parametrize(("answer", "removes"), [("y", True), ("n", False), ("", False)])
def test_the_clean_up_asks(
    tmp_path: Path,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    removes: bool,
) -> None:
    for iteration in (1, 2):
        save(tmp_path, f"checkpoint_{iteration}.pth", iteration)
    save(tmp_path, LATEST, 2)
    save_best(tmp_path, model, 1)
    (tmp_path / ".partial-1-checkpoint_3.pth").write_bytes(b"half")
    before = names(tmp_path)
    going = {"checkpoint_1.pth", ".partial-1-checkpoint_3.pth"}
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return answer

    monkeypatch.setattr("builtins.input", ask)
    files = checkpoints(tmp_path, clean=True)
    assert "Remove 2 files" in questions[0]
    assert names(tmp_path) - {".lock"} == (before - going if removes else before)
    assert all(file.path.exists() for file in files)


def test_the_clean_up_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    for iteration in (1, 2):
        save(tmp_path, f"checkpoint_{iteration}.pth", iteration)
    assert len(checkpoints(tmp_path, clean=True)) == 2
    assert [file.iteration for file in checkpoints(tmp_path, clean=True, yes=True)] == [2]
    assert names(tmp_path) == {"checkpoint_2.pth", ".lock"}


def test_the_clean_up_keeps_away_from_a_training(tmp_path: Path) -> None:
    save(tmp_path, LATEST, 1)
    with lock_folder(tmp_path, "training"), pytest.raises(InputError, match="clean-up"):
        checkpoints(tmp_path, clean=True, yes=True)


def test_leftovers_of_killed_saves_are_removed(tmp_path: Path) -> None:
    save(tmp_path, LATEST, 1)
    (tmp_path / ".partial-7-latest_model.pth").touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {LATEST}
