import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from salakseg.data.shards import Shards
from salakseg.metrics import scores
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model
from salakseg.training import tracking
from salakseg.training.tracking import Tracker, prediction_sheet

wandb = pytest.importorskip("wandb")

OPTIONS = {"batch_size": 4, "num_steps": 400, "threshold_st": "auto"}
ROW = {
    "iteration": 100,
    "loss_ce": 0.5,
    "loss_fm": 0.25,
    "loss_st": 0.125,
    "loss_d": 0.75,
    "st_count": 3.0,
    "st_pixels": 0.625,
    "learning_rate": 0.001,
}
TIMING = {
    "iteration": 100,
    "seconds": 10.0,
    "iterations_per_second": 8.0,
    "loading_share": 0.0625,
    "gpu_memory_mb": None,
}


@pytest.fixture(autouse=True)
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of nobody, without a network; wandb/ goes into `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()
    yield
    wandb.teardown()


def read_run(folder: Path) -> list[Any]:
    """The records of a `.wandb` file: a LevelDB log of protocol buffers after a 7-byte header."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, part, records = 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the end of a block is too short for a header
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            records.append(Record.FromString(part))
            part = b""
    return records


def history(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in r.history.item}
        for r in records
        if r.HasField("history")
    ]


def run_of(records: list[Any]) -> Any:
    return next(r.run for r in records if r.HasField("run"))


def offline_runs() -> list[Path]:
    """The folders of all runs so far, written to the end."""
    wandb.teardown()
    return sorted(Path.cwd().glob("wandb/offline-run-*"))


def test_what_is_logged_has_the_guides_names(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = Tracker()
    tracker.start(OPTIONS, mode="offline")
    assert tracker.active
    tracker.log_iteration(100, ROW, TIMING)
    val = scores(np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]]))
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    tracker.log_evaluation(
        100, 0.75, val, ["Water", "Road / path", "Absent"], {"Validation": picture}
    )
    tracker.finish()
    assert not tracker.active

    (folder,) = offline_runs()
    assert f"wandb sync {folder}" in capsys.readouterr().out
    records = read_run(folder)
    losses, evaluation = (
        {key: value for key, value in row.items() if not key.startswith("_")}
        for row in history(records)
    )
    assert losses == {
        "iteration": 100,
        "Training Loss/Cross Entropy": 0.5,
        "Training Loss/Feature Matching": 0.25,
        "Training Loss/Self-Training": 0.125,
        "Training Loss/Discriminator": 0.75,
        "Self-Training/Confidence Count": 3.0,
        "Self-Training/Trusted Pixel Rate": 0.625,
        "Self-Training/Image Acceptance Rate": 0.75,
        "Learning Rate/New Layers": 0.001,
        "Speed/Iterations per Second": 8.0,
        "Speed/Loading Share": 0.0625,
    }
    captions = evaluation["Predictions/captions"]
    assert {k: v for k, v in evaluation.items() if not k.startswith("Predictions/")} == {
        "iteration": 100,
        "Metrics/Training mIoU": 0.75,
        "Metrics/Validation mIoU": 0.6,
        "Per-class IoU/Water": 0.6,
        "Per-class IoU/Road / path": 0.6,
    }
    assert captions == ["Validation"]
    (path,) = (folder / "files/media/images").glob("*.png")
    assert (np.asarray(Image.open(path)) == picture).all()

    run = run_of(records)
    assert (run.project, run.run_id, run.run_group) == ("salakseg", tracker.run_id, tracker.run_id)
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config.items() >= OPTIONS.items()
    metrics = {
        r.metric.name or r.metric.glob_name: r.metric for r in records if r.metric.ByteSize()
    }
    assert metrics["*"].step_metric == "iteration"


def test_offline_a_resumed_run_is_a_new_one_in_the_same_group() -> None:
    first = Tracker()
    first.start(OPTIONS, mode="offline", project="seeds")
    first.finish()
    assert first.run_id is not None
    for _ in range(2):
        resumed = Tracker(first.run_id)
        resumed.start(OPTIONS, mode="offline", project="seeds")
        resumed.finish()
        assert resumed.run_id == first.run_id
    runs = [run_of(read_run(folder)) for folder in offline_runs()]
    assert len({run.run_id for run in runs}) == 3
    assert {run.run_group for run in runs} == {first.run_id}
    assert {run.project for run in runs} == {"seeds"}


def test_online_a_resumed_run_goes_on_under_its_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no server in a test: what it would be asked.
    asked: dict[str, Any] = {}

    def init(**arguments: Any) -> SimpleNamespace:
        asked.update(arguments)
        nothing = dict.fromkeys(("define_metric", "log", "finish"), lambda *_, **__: None)
        return SimpleNamespace(dir="wandb/run/files", url="https://wandb.example/abc", **nothing)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_PROJECT", "seeds")
    wandb.teardown()
    tracker = Tracker("abc")
    tracker.start(OPTIONS)
    use(tracker)
    assert (asked["id"], asked["group"], asked["resume"]) == ("abc", "abc", "allow")
    assert (asked["mode"], asked["project"]) == ("online", "seeds")
    assert capsys.readouterr().out == "W&B: https://wandb.example/abc\n"


@pytest.mark.parametrize("mode", [None, "online"])
def test_without_a_login_there_is_one_line(
    mode: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not even at a terminal does it ask.
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    tracker = Tracker("abc")
    tracker.start(OPTIONS, mode=mode)
    use(tracker)
    assert capsys.readouterr().out == "W&B: not logged in (wandb login), local logs only\n"
    assert tracker.run_id == "abc"
    assert not Path("wandb").exists()


def test_where_nobody_uses_it_it_is_not_even_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(tracking, "_logged_in", lambda: pytest.fail("asked"))
    Tracker().start(OPTIONS)
    assert capsys.readouterr().out == "W&B: not logged in (wandb login), local logs only\n"
    (tmp_path / ".netrc").touch()
    monkeypatch.delenv("NETRC")
    monkeypatch.setattr(tracking, "_logged_in", lambda: False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    Tracker().start(OPTIONS, mode="online")
    assert capsys.readouterr().out.startswith("W&B: not installed")
    assert tracking._used_here()


def use(tracker: Tracker) -> None:
    tracker.log_iteration(100, ROW, TIMING)
    tracker.log_evaluation(100, 0.5, None, [])
    tracker.log_iteration(200, ROW, TIMING)
    tracker.finish()


def test_disabled_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker()
    tracker.start(OPTIONS, mode="disabled")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    tracker.start(OPTIONS)
    use(tracker)
    assert capsys.readouterr().out == ""
    assert not Path("wandb").exists()


def test_logged_in_without_a_network_records_offline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("salakseg.training.tracking.START_SECONDS", 1)
    wandb.teardown()
    tracker = Tracker()
    tracker.start(OPTIONS)
    use(tracker)
    (folder,) = offline_runs()
    assert len(history(read_run(folder))) == 3
    out = capsys.readouterr().out
    assert out.startswith("Warning: W&B cannot be reached")
    assert out.endswith(f"wandb sync {folder}\n") and out.count("\n") == 1


def test_a_wandb_that_fails_at_start_is_one_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("no room\nmore of it")

    monkeypatch.setattr(wandb, "init", broken)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb.teardown()
    tracker = Tracker()
    tracker.start(OPTIONS, mode="online")
    use(tracker)
    assert capsys.readouterr().out == (
        "Warning: W&B failed (no room); local logs only from here on\n"
    )


@pytest.mark.parametrize("method", ["log", "finish"])
def test_a_wandb_that_fails_later_is_one_warning(
    method: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("gone")

    tracker = Tracker()
    tracker.start(OPTIONS, mode="offline")
    capsys.readouterr()
    monkeypatch.setattr(type(tracker._run), method, broken)
    use(tracker)
    out = capsys.readouterr().out
    (folder,) = Path.cwd().glob("wandb/offline-run-*")
    assert out.startswith("Warning: W&B failed (gone); ")
    assert out.endswith(f"wandb sync {folder}\n") and out.count("\n") == 1
    assert not tracker.active


def test_ctrl_c_stays_the_loops() -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    tracker = Tracker()
    tracker.start(OPTIONS, mode="offline")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    tracker.finish()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_pictures_of_validation_patches(shards: Shards) -> None:
    torch.manual_seed(0)
    model = Model(create_generator("tiny", shards.mapping.num_classes, "none"), shards.mapping)
    sheet = prediction_sheet(model, shards)
    Image.fromarray(sheet).save("sheet.png")
    # A model that learns something else shows in the third column alone.
    torch.nn.init.normal_(next(model.generator.parameters()))
    other = prediction_sheet(model, shards)
    changed = np.flatnonzero((sheet != other).any((0, 2)))
    assert len(changed) and changed.min() > sheet.shape[1] * 0.6
