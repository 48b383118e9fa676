import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from salakseg.errors import WorkError
from salakseg.training import run_report
from salakseg.training.options import Options
from salakseg.training.run_report import check_disk, finish, tell_duration, tell_others


def a_run(folder: Path, **more: Any) -> Any:
    network = torch.nn.Linear(10, 10, bias=False)
    step = SimpleNamespace(
        generator=network,
        discriminator=None,
        recipe=SimpleNamespace(method="s4gan", lambda_st=1.0),
        self_trains=True,
        device=torch.device("cpu"),
    )
    return SimpleNamespace(
        **{
            "folder": folder,
            "step": step,
            "options": Options(num_steps=10, save_pred_every=4),
            "iteration": 10,
            "best_iteration": 0,
            "best_val_miou": float("-inf"),
            "val_confusion": None,
            "advice": [],
            "share_unlike": lambda _: None,
        }
        | more
    )


FINAL: Any = None  # what the stand-ins above look at


def test_the_room_that_checkpoints_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(run_report, "require_disk_space", lambda *given: asked.append(given[1]))
    check_disk(a_run(tmp_path), None)
    assert asked == [2 * 4 * 400]  # G, the teacher and two moments, of a hundred numbers; a pair
    assert "3 kept by the end (--keep-checkpoints N keeps fewer)" in capsys.readouterr().out
    check_disk(a_run(tmp_path), 1)
    assert "1 kept by the end\n" in capsys.readouterr().out
    monkeypatch.undo()
    with pytest.raises(WorkError):
        large = a_run(tmp_path)
        large.step.generator = torch.nn.Linear(1 << 24, 1 << 24, bias=False, device="meta")
        check_disk(large, None)


def test_the_end_of_a_run_without_validation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(a_run(tmp_path), FINAL, 1.0)["best_val_miou"] is None
    assert "final_model.pth" in capsys.readouterr().out
    content = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert content["iterations"] == 10 and content["options"]["num_steps"] == 10


def test_the_end_of_a_run_with_a_best_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, best_iteration=5, best_val_miou=0.5, val_confusion=np.eye(2, dtype=int))
    assert finish(run, FINAL, 1.0)["final_val_miou"] == 1
    assert "Best validation mIoU 0.5000 at iteration 5" in capsys.readouterr().out


@pytest.mark.parametrize(("share", "said"), [(0.72, True), (0.4, False)])
def test_it_says_where_most_unlabelled_patches_are_like_no_labelled_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float, said: bool
) -> None:
    content = finish(a_run(tmp_path, share_unlike=lambda _: share), FINAL, 1.0)
    assert content["unlike_labelled"] == share
    assert [one["rule"] for one in content["advice"]] == ["unlike the labelled"] * said
    assert ("72% of the unlabelled patches look like" in capsys.readouterr().out) is said


def test_it_says_nothing_of_what_was_not_to_teach(tmp_path: Path) -> None:
    run = a_run(tmp_path, share_unlike=lambda _: 0.72)
    run.step.recipe.lambda_st = 0.0
    assert finish(run, FINAL, 1.0)["advice"] == []


def test_it_says_at_the_end_too_that_they_did_not_teach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, share_unlike=lambda _: 0.4)  # what it became since it was decided
    run.step.self_trains = False
    assert [one["rule"] for one in finish(run, FINAL, 1.0)["advice"]] == ["unlike the labelled"]
    assert "is labelled: no unlabelled patch teaches. Label some" in capsys.readouterr().out


def test_what_is_told_on_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell_others(set())
    assert capsys.readouterr().out == ""
    tell_others({"b", "a"})
    assert "Of a, b torch has no form here" in capsys.readouterr().out
    tell_duration(a_run(tmp_path, iteration=5, options=Options(num_steps=4005)), 10.0)
    assert "about 2.2 h" in capsys.readouterr().out
