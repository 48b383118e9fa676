import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salakseg import train
from salakseg.data.shards import Shards
from salakseg.distributed import joined
from salakseg.errors import InputError
from salakseg.files import lock_folder
from salakseg.model.weights import load_model
from salakseg.training import loop, probes, start
from salakseg.training import run as run_module
from salakseg.training.advice import Advice
from salakseg.training.checkpoint import read_checkpoint
from tests.processes import call, ended, started
from tests.training.test_checkpoint import DAMAGES


def small_run(shards: Path, **options: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "shards_dir": shards,
        "generator": "tiny",
        "encoder_weights": "none",
        "num_steps": 6,
        "batch_size": 2,
        "eval_every": 4,
        "save_pred_every": 4,
        "save_latest_every": 2,
        "device": "cpu",
    }
    return train(**(defaults | options))


@pytest.fixture(scope="module")
def whole_run(shards_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished `small_run`, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        patch.setenv("WANDB_MODE", "disabled")
        small_run(shards_dir)
        return Path("checkpoints").resolve()


@pytest.fixture
def finished(whole_run: Path, tmp_path: Path) -> None:
    """`checkpoints/` is a copy of it."""
    shutil.copytree(whole_run, tmp_path / "checkpoints")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state"])


def same(a: Path, b: Path) -> bool:
    left, right = tensors(a), tensors(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_the_family_of_files(shards_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(shards_dir)
    assert {path.name for path in Path("checkpoints").iterdir()} == {
        "latest_checkpoint.pth",
        "latest_model.pth",
        "latest_model_D.pth",
        "best_model.pth",
        "best_model_D.pth",
        "checkpoint_4.pth",
        "checkpoint_6.pth",
        "final_model.pth",
        "final_model_D.pth",
        "log.csv",
        "curves.png",
        "timing.csv",
        "run.json",
        ".lock",
    }
    said = capsys.readouterr().out
    assert "Iter 6/6 | Loss_CE: " in said
    assert "Evaluating at iteration 4" in said
    assert "✓ New best validation mIoU" in said
    assert run["best_iteration"] in (4, 6)

    model = load_model(Path("checkpoints/final_model.pth"))
    assert model.mapping.names == ["Water", "Building", "Road", "Vegetation", "Land"]
    assert model.patch_size == 128
    assert model.val_confusion is not None and model.val_confusion.sum() > 0
    assert model.val_confusions is not None and len(model.val_confusions) == 2
    assert (model.val_confusions.sum(0) == model.val_confusion).all()
    assert model.training["options"]["generator"] == "tiny"
    # What it was trained on is described where a person will use it, not every 100 iterations.
    assert model.applicability is not None
    assert model.applicability.labelled.shape == (36, 96)
    assert load_model(Path("checkpoints/best_model.pth")).applicability is not None
    assert load_model(Path("checkpoints/latest_model.pth")).applicability is None
    content = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))
    for key in (
        *("iteration", "model_state", "model_D_state", "optimizer_state", "optimizer_D_state"),
        "best_val_miou",
    ):
        assert key in content


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Which share the work: the bits are the same all the same."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_a_resumed_run_ends_with_the_same_bits(shards_dir: Path) -> None:
    whole, parted = Path("whole"), Path("parted")
    small_run(shards_dir, checkpoint_dir=whole)
    small_run(shards_dir, checkpoint_dir=parted)
    # As a kill after iteration 5 leaves it.
    for name in ("final_model.pth", "checkpoint_6.pth", "run.json"):
        (parted / name).unlink()
    (parted / "checkpoint_4.pth").replace(parted / "latest_checkpoint.pth")
    train(shards_dir=shards_dir, checkpoint_dir=parted, resume=True, device="cpu", num_workers=1)
    assert same(whole / "final_model.pth", parted / "final_model.pth")
    assert same(whole / "best_model.pth", parted / "best_model.pth")
    assert (whole / "log.csv").read_bytes() == (parted / "log.csv").read_bytes()


@pytest.mark.usefixtures("finished")
def test_a_run_killed_before_its_final_model_gets_the_same_one(shards_dir: Path) -> None:
    final = Path("checkpoints/final_model.pth")
    expected = final.read_bytes()  # with the scores of the last evaluation
    final.unlink()
    train(shards_dir=shards_dir, resume=True, device="cpu")
    assert final.read_bytes() == expected


@pytest.mark.usefixtures("finished")
def test_a_resumed_run_keeps_its_number_of_threads_and_gives_back_ours(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    seen: list[int] = []
    original = loop.Step.__call__

    def noted(self: loop.Step, *batches: Any) -> None:
        seen.append(torch.get_num_threads())
        original(self, *batches)

    monkeypatch.setattr(loop.Step, "__call__", noted)
    state = torch.random.get_rng_state()
    try:
        torch.set_num_threads(threads + 1)
        train(shards_dir=shards_dir, resume=True, device="cpu", num_steps=7)
        assert seen == [threads]
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


class PowerCut(Exception):
    pass


def test_a_newer_periodic_checkpoint_is_not_passed_over_for_latest(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, checkpoint_dir=Path("whole"), save_pred_every=2, eval_every=6)

    def cut(_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(loop.Run, "take_losses", cut)
        small_run(shards_dir, save_pred_every=2, save_latest_every=100, eval_every=6)
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"] == 0
    capsys.readouterr()
    train(shards_dir=shards_dir, resume=True, device="cpu")
    said = capsys.readouterr().out.replace(os.sep, "/")
    assert "Going on from checkpoints/checkpoint_4.pth, iteration 4" in said
    assert same(Path("whole/final_model.pth"), Path("checkpoints/final_model.pth"))


def test_the_folder_is_locked_before_it_is_read(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run(shards_dir, num_steps=1)
    monkeypatch.setattr(start, "newest_checkpoint", pytest.fail)
    with (
        lock_folder(Path("checkpoints"), "training"),
        pytest.raises(InputError, match="another salakseg works in it"),
    ):
        train(shards_dir=shards_dir, resume=True, device="cpu")


def test_a_run_that_came_and_went_meanwhile_is_not_overwritten(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def late(folder: Path, what: str) -> Iterator[None]:
        with lock_folder(folder, what):
            (folder / "latest_checkpoint.pth").touch()
            yield

    monkeypatch.setattr(loop, "lock_folder", late)
    with pytest.raises(InputError, match="holds a run already"):
        small_run(shards_dir, num_steps=1)
    assert Path("checkpoints/latest_checkpoint.pth").stat().st_size == 0


def test_nothing_to_resume_from_leaves_nothing_behind(shards_dir: Path) -> None:
    with pytest.raises(InputError, match="mistyped: no such folder; nothing to resume from"):
        train(shards_dir=shards_dir, checkpoint_dir="mistyped", resume=True)
    assert not Path("mistyped").exists()


@pytest.mark.parametrize("form", ["resume", "restored", "weights", "older"])
def test_the_encoders_normalisation_comes_back(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    import segmentation_models_pytorch as smp

    # An encoder whose ImageNet weights want other values than most; the hub is asked for both.
    original = smp.create_model

    def without_hub(architecture: str, encoder: str, weights: object, **options: Any) -> Any:
        return original(architecture, encoder, None, **options)

    monkeypatch.setattr(smp, "create_model", without_hub)
    monkeypatch.setattr(
        smp.encoders, "get_preprocessing_params", lambda _: {"mean": [0.5] * 3, "std": [0.25] * 3}
    )
    # What is not asked about here is left out.
    monkeypatch.setattr(
        run_module, "confusions_on_split", lambda *_, **__: np.eye(5, dtype=np.int64)[None]
    )
    monkeypatch.setattr(loop.Run, "described_model", lambda run, *_: run.model())
    options = {"generator": "fpn-mobilenet_v2", "method": "supervised", "eval_every": 100}
    small_run(shards_dir, num_steps=1, encoder_weights="imagenet", **options)
    latest = Path("checkpoints/latest_checkpoint.pth")
    folder = Path("again")
    if form == "weights":
        small_run(
            shards_dir,
            restore_from=Path("checkpoints/final_model.pth"),
            checkpoint_dir=folder,
            num_steps=1,
            **options,
        )
    elif form == "restored":
        train(shards_dir=shards_dir, restore_from=latest, checkpoint_dir=folder, device="cpu")
    else:
        content = torch.load(latest, weights_only=True)
        if form == "older":
            for key in ("mean", "std", "computed_with", "evaluation_due"):
                del content[key]
            content["format"] = "salakseg-checkpoint-1"
            torch.save(content, latest)
        folder = Path("checkpoints")
        train(shards_dir=shards_dir, resume=True, num_steps=2, device="cpu")
    model = load_model(folder / "final_model.pth")
    assert model.generator.mean.flatten().tolist() == [0.5] * 3
    assert model.generator.std.flatten().tolist() == [0.25] * 3


def test_what_differs_from_the_run_so_far_is_told(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, num_steps=1)
    capsys.readouterr()
    train(shards_dir=shards_dir, resume=True, num_steps=2, device="cpu")
    said = capsys.readouterr().out
    assert "Not computed as so far" not in said and "earlier version" not in said
    latest = Path("checkpoints/latest_checkpoint.pth")
    content = torch.load(latest, weights_only=True)
    content["computed_with"] |= {"torch": "1.0", "device": "A card", "cuDNN": "9"}
    torch.save(content, latest)
    train(
        shards_dir=shards_dir,
        resume=True,
        num_steps=3,
        device="cpu",
        deterministic=False,
        amp=False,
    )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Not computed" in line]
    for part in ("torch: 2", "was 1.0", "was A card", "deterministic: no, was yes"):
        assert part in line
    # From here on it is so computed.
    assert read_checkpoint(latest)["computed_with"]["deterministic"] == "no"


def test_a_run_of_an_earlier_version_goes_on_and_it_says_that_its_draws_are_others(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, num_steps=2)
    latest = Path("checkpoints/latest_checkpoint.pth")
    content = torch.load(latest, weights_only=True)
    for key in ("mean", "std", "computed_with", "evaluation_due"):
        del content[key]
    torch.save(content | {"format": "salakseg-checkpoint-1"}, latest)
    Path("checkpoints/checkpoint_2.pth").unlink()
    capsys.readouterr()
    for steps, told in ((3, 1), (4, 0)):
        run = train(shards_dir=shards_dir, resume=True, num_steps=steps, device="cpu")
        assert run["iterations"] == steps
        assert capsys.readouterr().out.count("begun by an earlier version") == told


def test_the_model_is_the_same_with_workers(shards_dir: Path) -> None:
    for workers in (0, 2):
        small_run(shards_dir, checkpoint_dir=Path(f"w{workers}"), num_workers=workers, num_steps=3)
    assert same(Path("w0/final_model.pth"), Path("w2/final_model.pth"))


def test_another_seed_gives_another_model(shards_dir: Path) -> None:
    for seed in (0, 1):
        small_run(shards_dir, checkpoint_dir=Path(f"s{seed}"), num_steps=1, seed=seed)
    assert not same(Path("s0/final_model.pth"), Path("s1/final_model.pth"))


def test_supervised_has_no_discriminator_and_uses_every_label(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, method="supervised", num_steps=2)
    assert not list(Path("checkpoints").glob("*_D.pth"))
    said = capsys.readouterr().out
    assert "36 labelled patches, 18 for validation" in said


def test_labels_are_kept_back_only_where_there_are_judges_to_choose_from(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probes, "PROBE_SHARE", 0.25)
    options = {"num_steps": 1, "overwrite": True, "eval_every": 100}
    for more, kept in (
        ({"method": "s4gan"}, 9),
        ({"method": "s4gan", "threshold_st": 0.6}, 0),
        ({"method": "s4gan-paper"}, 0),
        ({"method": "supervised"}, 0),
    ):
        small_run(shards_dir, **options, **more)
        said = capsys.readouterr().out
        assert ("kept to judge" in said) == bool(kept)


def test_photographs_like_nothing_that_is_labelled_do_not_teach(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, checkpoint_dir="like")
    assert "that is labelled: self-training sets in" in capsys.readouterr().out
    monkeypatch.setattr(run_module.Run, "share_unlike", lambda *_: 0.75)
    content = small_run(shards_dir)
    said = capsys.readouterr().out
    assert "Iteration 1: 75% of the unlabelled patches look like nothing" in said
    assert "self-training sets in" not in said and "Image trust" not in said
    assert content["advice"][-1]["rule"] == "unlike the labelled"
    small_run(shards_dir, checkpoint_dir="all", without=["likeness"])
    assert not same(Path("checkpoints/final_model.pth"), Path("all/final_model.pth"))
    assert same(Path("like/final_model.pth"), Path("all/final_model.pth"))
    # Gone on with after iteration 4, as it was decided before.
    whole = Path("checkpoints/final_model.pth").rename("whole.pth")
    Path("checkpoints/checkpoint_4.pth").replace("checkpoints/latest_checkpoint.pth")
    Path("checkpoints/checkpoint_6.pth").unlink()
    monkeypatch.setattr(run_module.Run, "share_unlike", lambda *_: 0.0)
    small_run(shards_dir, resume=True)
    assert same(whole, Path("checkpoints/final_model.pth"))


def test_the_question_whether_they_teach_is_broken_off_and_asked_again(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Before iteration 4 of 20.
    small_run(shards_dir, num_steps=20, checkpoint_dir="whole")
    features_of = run_module.features_of

    def stopped(model: Any, *arguments: Any) -> Any:
        if model.iteration == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        return features_of(model, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "features_of", stopped)
        small_run(shards_dir, num_steps=20)
    assert "Stopped after iteration 3, nothing is lost" in capsys.readouterr().out
    content = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))
    assert (content["iteration"], content["self_trains"]) == (3, None)
    train(shards_dir=shards_dir, resume=True, device="cpu")
    assert capsys.readouterr().out.count("Iteration 4: ") == 1
    assert same(Path("whole/final_model.pth"), Path("checkpoints/final_model.pth"))


def test_the_papers_threshold_is_the_default_of_its_method_alone(shards_dir: Path) -> None:
    for method, given, expected in (
        ("s4gan-paper", {}, 0.6),
        ("s4gan-paper", {"threshold_st": "0.2"}, "0.2"),
        ("s4gan", {}, "auto"),
    ):
        run = small_run(shards_dir, method=method, num_steps=1, overwrite=True, **given)
        assert run["options"]["threshold_st"] == expected


def test_the_automatic_batch_size_is_the_default_on_a_cpu_and_said(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(shards_dir, batch_size="auto", num_steps=1)
    assert run["options"]["batch_size"] == 4
    assert "--batch-size auto: 4, as without it" in capsys.readouterr().out


def labelled_as(shards: Shards, split: str, pixels: list[int]) -> Shards:
    """The shards, as if each patch of the split held so many pixels of each class."""
    samples = shards.samples.copy()
    columns = [f"pixels {name}" for name in shards.mapping.names]
    samples.loc[samples.split == split, columns] = pixels
    return replace(shards, samples=samples)


def test_masks_without_any_class_are_refused(
    shards: Shards, shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "read_shards", lambda *_: labelled_as(shards, "train", [0] * 5))
    with pytest.raises(InputError, match=r"no mask .* any class \(Water, .*preview.png") as error:
        small_run(shards_dir)
    assert "\n" not in str(error.value)
    assert not Path("checkpoints").exists()


def test_masks_of_one_class_are_warned_of(
    shards: Shards,
    shards_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = labelled_as(shards, "train", [0, 0, 9, 0, 0])
    monkeypatch.setattr(loop, "read_shards", lambda *_: one)
    small_run(shards_dir, num_steps=1)
    assert "hold Road alone, of 5 classes" in capsys.readouterr().out


def test_validation_patches_without_any_class_score_nothing(
    shards: Shards,
    shards_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "read_shards", lambda *_: labelled_as(shards, "val", [0] * 5))
    run = small_run(shards_dir)
    said = capsys.readouterr().out
    assert run["best_val_miou"] is None and "inf" not in said
    assert "No validation patch holds a class: best_model.pth will not be written" in said
    assert not Path("checkpoints/best_model.pth").exists()


def test_a_damaged_shard_ends_the_run_in_a_line(shards_dir: Path) -> None:
    shutil.copytree(shards_dir, "damaged")
    path = Path("damaged/labeled-train-000000.tar")
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:2000] + bytes(len(content) - 2000))
    with pytest.raises(InputError, match="damaged; salakseg shard finds") as error:
        small_run(Path("damaged"), num_workers=2)
    assert "\n" not in str(error.value)
    assert not [t for t in threading.enumerate() if t.name.startswith("reader")]


def test_without_unlabelled_patches_it_says_so(
    shards: Shards,
    shards_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labelled = shards.samples[shards.samples.split != "unlabeled"]
    bare = Shards(shards.folder, shards.mapping, 128, None, labelled, "")
    monkeypatch.setattr(loop, "read_shards", lambda *_: bare)
    small_run(shards_dir, num_steps=1)
    assert "training on the labelled ones alone" in capsys.readouterr().out


def test_a_folder_with_a_run_is_refused_and_overwrite_starts_over(shards_dir: Path) -> None:
    small_run(shards_dir, num_steps=2)
    with pytest.raises(InputError, match="--resume"):
        small_run(shards_dir, num_steps=2)
    small_run(shards_dir, num_steps=1, overwrite=True)
    assert not Path("checkpoints/checkpoint_2.pth").exists()


def test_going_back_in_a_run_leaves_nothing_of_what_came_after(shards_dir: Path) -> None:
    small_run(shards_dir, save_pred_every=2)
    back = {"restore_from": Path("checkpoints/checkpoint_2.pth"), "overwrite": True}
    train(shards_dir=shards_dir, device="cpu", num_steps=3, save_pred_every=100, **back)
    names = {path.name for path in Path("checkpoints").glob("checkpoint_*")}
    assert names == {"checkpoint_2.pth", "checkpoint_3.pth"}
    # What was left behind is not gone on with.
    Path("checkpoints/latest_checkpoint.pth").unlink()
    run = train(shards_dir=shards_dir, resume=True, device="cpu", num_steps=4)
    assert run["iterations"] == 4
    # Another run in the folder goes as a whole.
    small_run(shards_dir, checkpoint_dir=Path("other"), num_steps=1, save_pred_every=1)
    back["restore_from"] = Path("other/checkpoint_1.pth")
    train(shards_dir=shards_dir, device="cpu", num_steps=2, save_pred_every=100, **back)
    names = {path.name for path in Path("checkpoints").glob("checkpoint_*")}
    assert names == {"checkpoint_2.pth"}


def test_the_best_model_named_at_the_end_is_the_file(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(**options: Any) -> dict[str, Any]:
        # So high a rate that nothing better comes.
        options = {"learning_rate": 0.8, "num_steps": 12, "eval_every": 100} | options
        return train(shards_dir=shards_dir, device="cpu", **options)

    def holds(folder: str) -> int:
        return load_model(Path(folder, "best_model.pth")).iteration

    small_run(shards_dir, eval_every=2)
    shutil.copytree("checkpoints", "back")
    shutil.copytree("checkpoints", "damaged")
    best = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["best_iteration"]
    # Into another folder it is taken along.
    latest = Path("checkpoints/latest_checkpoint.pth")
    run = end(restore_from=latest, checkpoint_dir=Path("extended"))
    assert run["best_iteration"] == holds("extended")
    # Back to where it is not known which one was the best: what comes is.
    older = read_checkpoint(Path("back/checkpoint_4.pth"))
    older["best_iteration"] = 1
    torch.save(older, "back/checkpoint_4.pth")
    run = end(restore_from=Path("back/checkpoint_4.pth"), checkpoint_dir="back", overwrite=True)
    assert run["best_iteration"] == holds("back") == 12
    assert "has no whole best model of iteration 1; its score" in capsys.readouterr().out
    # Damaged, and nowhere else.
    Path("damaged/best_model.pth").write_bytes(b"")
    run = end(resume=True, checkpoint_dir="damaged")
    assert run["best_iteration"] == holds("damaged") == 12
    assert f"has no whole best model of iteration {best}; its score" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["edited", "held"])
def test_a_log_that_others_touch_is_not_worth_a_run(
    shards_dir: Path, change: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    original, log = loop.Step.__call__, Path("checkpoints/log.csv")

    def touched(self: loop.Step, iteration: int, *batches: Any) -> None:
        if iteration == 3:
            if change == "edited":
                log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes())
            else:
                log.unlink()
                log.mkdir()
        original(self, iteration, *batches)

    monkeypatch.setattr(loop.Step, "__call__", touched)
    assert small_run(shards_dir, eval_every=2)["iterations"] == 6
    assert capsys.readouterr().out.count("Warning") == (change == "held")
    if change == "edited":
        assert log.read_text(encoding="utf-8").startswith("iteration,")


def test_two_trainings_in_one_folder(shards_dir: Path) -> None:
    with (
        lock_folder(Path("checkpoints"), "training"),
        pytest.raises(InputError, match="another salakseg works in it"),
    ):
        small_run(shards_dir, num_steps=1)


def test_only_the_newest_checkpoints_are_kept(shards_dir: Path) -> None:
    small_run(shards_dir, save_pred_every=1, keep_checkpoints=2)
    kept = {path.name for path in Path("checkpoints").glob("checkpoint_*.pth")}
    assert kept == {"checkpoint_5.pth", "checkpoint_6.pth"}


def test_advice_is_in_the_summary(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = Advice("overfitting", 4, "label other photos")
    monkeypatch.setattr(run_module, "advice_on", lambda log, *_, **__: [advice] if log else [])
    run = small_run(shards_dir, eval_every=4)
    assert run["advice"] == [{"rule": "overfitting", "iteration": 4, "text": "label other photos"}]
    said = capsys.readouterr().out
    assert said.count("label other photos") == 2  # at the evaluation, and at the end
    head, summary = said.split("Advice on this run:")
    assert "Advice: label other photos" in head
    assert "Iteration 4: label other photos" in summary


def test_a_finished_run_can_be_extended(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, num_steps=2)
    run = train(
        shards_dir=shards_dir,
        restore_from=Path("checkpoints/latest_checkpoint.pth"),
        checkpoint_dir=Path("extended"),
        num_steps=4,
        device="cpu",
    )
    assert run["iterations"] == 4
    assert run["options"]["generator"] == "tiny"
    assert "--num-steps is now 4, was 2" in capsys.readouterr().out


def test_weights_alone_start_a_new_run_and_it_says_what_is_lost(
    shards_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, num_steps=2)
    run = small_run(
        shards_dir,
        restore_from=Path("checkpoints/best_model.pth"),
        checkpoint_dir=Path("again"),
        num_steps=1,
    )
    assert run["iterations"] == 1
    said = capsys.readouterr().out
    assert "Starting at iteration 0 with the weights of" in said and "are lost" in said


def test_ctrl_c_finishes_the_iteration_saves_and_says_how_to_go_on(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = threading.Event()
    original = loop.Step.__call__

    def noted(self: loop.Step, *batches: Any) -> None:
        original(self, *batches)
        started.set()

    def interrupt() -> None:
        started.wait(60)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Step, "__call__", noted)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        small_run(shards_dir, num_steps=10_000, eval_every=10_000, save_latest_every=10_000)
    thread.join()
    assert "salakseg train --resume" in capsys.readouterr().out
    done = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"]
    assert 1 <= done < 10_000


@pytest.mark.parametrize("during", ["the score", "the description"])
@pytest.mark.parametrize("iteration", [4, 6])  # 6 is the last
def test_an_evaluation_is_broken_off_and_done_again(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, during: str, iteration: int
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    # Always the best so far, so that it is described.
    always = property(lambda _: -1.0, lambda *_: None)
    monkeypatch.setattr(loop.Run, "best_val_miou", always, raising=False)
    small_run(shards_dir, checkpoint_dir=Path("whole"))
    name = "confusions_on_split" if during == "the score" else "features_of"
    original = getattr(run_module, name)

    def stopped(model: Any, *arguments: Any, **options: Any) -> Any:
        if model.iteration == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        return original(model, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, name, stopped)
        small_run(shards_dir, save_latest_every=100)
    content = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))
    assert (content["iteration"], content["evaluation_due"]) == (iteration, True)
    # A kill in the middle of the evaluation that is done again leaves its row in the log.
    rows = Path("checkpoints/log.csv").read_text(encoding="utf-8")
    whole = Path("whole/log.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    assert rows == "".join(whole[: 3 if iteration == 4 else 5])
    Path("checkpoints/log.csv").write_text(
        "".join(whole[: 4 if iteration == 4 else 6]), encoding="utf-8"
    )
    train(shards_dir=shards_dir, resume=True, device="cpu", save_latest_every=2)
    for name in ("final_model.pth", "log.csv"):
        assert Path("whole", name).read_bytes() == Path("checkpoints", name).read_bytes()
    assert same(Path("whole/best_model.pth"), Path("checkpoints/best_model.pth"))


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
@pytest.mark.slow
def test_sigterm_to_the_whole_group_of_a_run_with_readers_loses_nothing(shards_dir: Path) -> None:
    small_run(shards_dir, checkpoint_dir=Path("whole"), num_steps=30, eval_every=100)
    options = ["--generator", "tiny", "--encoder-weights", "none", "--num-steps", "30"]
    options += ["--batch-size", "2", "--eval-every", "100", "--save-pred-every", "100"]
    options += ["--save-latest-every", "2", "--num-workers", "2", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "salakseg", "train", "--shards-dir", str(shards_dir), *options],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not Path("checkpoints/latest_model.pth").exists() and process.poll() is None:
        time.sleep(0.02)
    for _ in range(2):  # as `timeout` sends it
        os.killpg(process.pid, signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    done = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"]
    assert f"Stopped after iteration {done}, nothing is lost" in said
    train(shards_dir=shards_dir, resume=True, device="cpu")
    assert same(Path("whole/final_model.pth"), Path("checkpoints/final_model.pth"))
    assert Path("whole/log.csv").read_bytes() == Path("checkpoints/log.csv").read_bytes()


def test_a_second_signal_stops_at_once(shards_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salakseg.signals.SECONDS_OF_ONE", 0)

    def endless(self: loop.Step, *batches: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        pytest.fail("went on")

    monkeypatch.setattr(loop.Step, "__call__", endless)
    with pytest.raises(KeyboardInterrupt):
        small_run(shards_dir)
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"] == 0


def test_operations_that_are_not_deterministic_are_told_once(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    original = loop.Step.__call__

    def step(self: loop.Step, *batches: Any) -> None:
        original(self, *batches)
        # As of adaptive_avg_pool2d's backward on CUDA.
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))

    monkeypatch.setattr(loop.Step, "__call__", step)
    before = list(warnings.filters)
    small_run(shards_dir, num_steps=3)
    said, errors = capfd.readouterr()
    assert said.count("Of put_ torch has no form here that gives the same bits each time") == 1
    assert "deterministic" not in errors
    assert list(warnings.filters) == before


@pytest.mark.parametrize("method", ["s4gan", "supervised"])
def test_in_float16_a_resumed_run_ends_with_the_same_bits(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    # What GPUs before Ampere take; there the scale of the losses is a state of its own.
    monkeypatch.setattr(loop, "autocast_dtype", lambda *_: torch.float16)
    small_run(shards_dir, method=method)
    state = read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))
    assert state["scaler_state"]["scale"] > 0
    expected = Path("checkpoints/final_model.pth").rename("expected.pth")
    for name in ("latest_checkpoint.pth", "checkpoint_6.pth"):
        Path("checkpoints", name).unlink()
    train(shards_dir=shards_dir, resume=True, device="cpu")
    assert same(expected, Path("checkpoints/final_model.pth"))
    assert all(t.isfinite().all() for t in tensors(expected).values())


def test_a_run_of_another_precision_goes_on_in_float16(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(shards_dir, num_steps=2)
    monkeypatch.setattr(loop, "autocast_dtype", lambda *_: torch.float16)
    train(shards_dir=shards_dir, resume=True, num_steps=4, device="cpu", batch_size="auto")
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["scaler_state"]["scale"] > 0
    said = capsys.readouterr().out
    assert "--batch-size auto: the run keeps its 2" in said and "float16, was" in said


def test_log_has_a_row_every_hundred_iterations_and_one_an_evaluation(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 3)
    small_run(shards_dir)
    with open("checkpoints/log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["iteration"], bool(row["loss_ce"]), bool(row["val_miou"])) for row in rows] == [
        ("3", True, False),
        ("4", False, True),
        ("6", True, False),
        ("6", False, True),
    ]


def test_a_model_whose_features_overflow_is_like_nothing(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = run_module.features_of
    monkeypatch.setattr(run_module, "features_of", lambda *given: features(*given) + np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        small_run(shards_dir, num_steps=1)
    assert load_model(Path("checkpoints/best_model.pth")).applicability is None


def test_a_checkpoint_is_never_replaced_by_one_with_nan(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Step.__call__

    def spoil(self: loop.Step, iteration: int, *batches: Any) -> None:
        original(self, iteration, *batches)
        if iteration == 3:
            self.totals += torch.nan

    monkeypatch.setattr(loop.Step, "__call__", spoil)
    with pytest.raises(loop.WorkError, match="iteration 4: the losses are no numbers"):
        small_run(shards_dir, eval_every=100)  # no log line before the save at 4
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"] == 2


@pytest.mark.slow
def test_killed_in_the_middle_a_run_ends_with_the_same_bits(shards_dir: Path) -> None:
    # The long form is benchmarks/reliability/kill_resume.py.
    small_run(shards_dir, checkpoint_dir=Path("whole"), num_steps=40, eval_every=20)
    options = ["--generator", "tiny", "--encoder-weights", "none", "--num-steps", "40"]
    options += ["--batch-size", "2", "--eval-every", "20", "--save-pred-every", "4"]
    command = [sys.executable, "-m", "salakseg", "train", "--shards-dir", str(shards_dir)]
    command += ["--checkpoint-dir", "killed", "--device", "cpu"]
    # Another number of threads would give other last bits.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([*command, *options, "--save-latest-every", "2"], env=environment)
    latest = Path("killed/latest_checkpoint.pth")
    while not Path("killed/latest_model.pth").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert read_checkpoint(latest)["iteration"] < 40
    train(shards_dir=shards_dir, checkpoint_dir=Path("killed"), resume=True, device="cpu")
    assert same(Path("whole/final_model.pth"), Path("killed/final_model.pth"))
    assert Path("whole/log.csv").read_bytes() == Path("killed/log.csv").read_bytes()


# A run in which the first save of the file `name` from iteration 6 on stops half-way, for good.
HALF_WRITTEN = """
import io, sys, time
from pathlib import Path
import torch
from salakseg import train

original = torch.save

def save(content, file):
    data = io.BytesIO()
    original(content, data)
    if sys.argv[2] in file.name and content["iteration"] >= 6:
        file.write(data.getvalue()[: data.tell() // 2])
        file.flush()
        Path("half_written").touch()
        time.sleep(1000)
    file.write(data.getvalue())

torch.save = save
torch.set_num_threads(int(sys.argv[3]))
train(shards_dir=sys.argv[1], checkpoint_dir="killed", device="cpu",
      generator="tiny", encoder_weights="none", num_steps=12, batch_size=2,
      eval_every=6, save_pred_every=4, save_latest_every=2)
"""


@pytest.mark.parametrize("name", ["latest_checkpoint.pth", "best_model.pth"])
@pytest.mark.slow
def test_killed_inside_a_save_a_run_ends_with_the_same_bits(shards_dir: Path, name: str) -> None:
    small_run(shards_dir, checkpoint_dir=Path("whole"), num_steps=12, eval_every=6)
    arguments = [str(shards_dir), name, str(torch.get_num_threads())]
    process = subprocess.Popen([sys.executable, "-c", HALF_WRITTEN, *arguments])
    while not Path("half_written").exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(list(Path("killed").glob(f".partial-*-{name}"))) == 1
    assert read_checkpoint(Path("killed/latest_checkpoint.pth"))["iteration"] == 4
    train(shards_dir=shards_dir, checkpoint_dir=Path("killed"), resume=True, device="cpu")
    assert not list(Path("killed").glob(".partial-*"))
    for file in ("final_model.pth", "best_model.pth", "log.csv"):
        assert Path("whole", file).read_bytes() == Path("killed", file).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("finished")
def test_a_damaged_checkpoint_is_passed_over_and_the_bits_are_the_same(
    shards_dir: Path, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, expected = Path("checkpoints"), tensors(Path("checkpoints/final_model.pth"))
    damaged = [folder / "latest_checkpoint.pth", folder / "checkpoint_6.pth"]
    for path in damaged:
        path.write_bytes(damage(path.read_bytes()))
    train(shards_dir=shards_dir, resume=True, device="cpu")
    said = capsys.readouterr().out
    assert all(f"Passed over: {path}" in said for path in damaged)
    assert "Going on from checkpoints/checkpoint_4.pth" in said.replace(os.sep, "/")
    again = tensors(folder / "final_model.pth")
    assert all(torch.equal(again[key], expected[key]) for key in expected)
    for path in sorted(folder.glob("*_model.pth")):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(InputError, match=re.escape(str(path))):
            small_run(shards_dir, restore_from=path, checkpoint_dir=Path("other"))


def test_a_full_disk_keeps_the_last_good_file(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, saves = torch.save, []

    def fills_up(content: Any, file: Any) -> None:
        saves.append(file)
        if len(saves) > 4:  # the one at the start and the first of the family went well
            raise OSError(28, "No space left on device")
        original(content, file)

    monkeypatch.setattr(torch, "save", fills_up)
    with pytest.raises(loop.WorkError, match="make room"):
        small_run(shards_dir, eval_every=100)
    assert read_checkpoint(Path("checkpoints/latest_checkpoint.pth"))["iteration"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 100}, r"--batch-size 100: .*\(36\)"),
        ({"batch_size": "much"}, "--batch-size much: must be auto or a number"),
        ({"method": "supervised", "without": ["cutmix"]}, "--without cutmix: is a part of"),
        ({"method": "magic"}, "--method magic"),
        ({"threshold_st": "high"}, "--threshold-st high"),
        ({"threshold_st": "2"}, "--threshold-st 2"),
        ({"num_steps": 0}, "--num-steps"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"generator": "resnet"}, "--generator resnet"),
        ({"encoder_weights": "missing.pth"}, "--encoder-weights missing.pth"),
        ({"device": "cuda:77"}, "--device cuda:77"),
        ({"num_workers": -1}, "--num-workers -1"),
        ({"restore_from": Path("missing.pth")}, "missing.pth: no such file"),
        ({"shards_dir": Path("nowhere")}, "salakseg shard"),
        ({"resume": True, "restore_from": Path("x.pth")}, "--restore-from from x.pth: give one"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing_behind(
    shards_dir: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        small_run(shards_dir, **options)
    assert "\n" not in str(error.value)
    assert not Path("checkpoints").exists()


def test_what_cannot_change_on_resume(shards_dir: Path) -> None:
    small_run(shards_dir, num_steps=1)
    for given in ({"generator": "fpn-mobilenet_v2"}, {"encoder_weights": "imagenet"}):
        with pytest.raises(InputError, match=r"cannot change"):
            train(shards_dir=shards_dir, resume=True, device="cpu", **given)


OF_SEVERAL = {
    "generator": "tiny",
    "encoder_weights": "none",
    "batch_size": 6,
    "num_steps": 5,
    "eval_every": 3,
    "save_latest_every": 100,
    "device": "cpu",
    "amp": False,
}


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(shards_dir: Path) -> None:
    def run_of(folder: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
        with open(f"{folder}/log.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return rows, read_checkpoint(Path(f"{folder}/latest_checkpoint.pth"))

    call(3, "tests.training.test_loop:in_three", str(shards_dir))
    shutil.copytree("three", "shared")
    call(2, "tests.training.test_loop:in_two", str(shards_dir))
    train(shards_dir=shards_dir, checkpoint_dir="shared", resume=True, device="cpu")
    train(shards_dir=shards_dir, checkpoint_dir="alone", **OF_SEVERAL)  # type: ignore[arg-type]

    # As many processes give the same bits, stopped or not.
    assert Path("two/log.csv").read_bytes() == Path("two-stopped/log.csv").read_bytes()
    _, unbroken = run_of("two")
    _, stopped = run_of("two-stopped")
    for name in ("model_state", "teacher_state", "model_D_state"):
        for key, value in unbroken[name].items():
            assert torch.equal(value, stopped[name][key]), key
    # Others give the same samples, views and decisions, and nearly the same numbers.
    rows, whole = run_of("alone")
    for folder in ("two", "shared"):
        others, checkpoint = run_of(folder)
        assert checkpoint["positions"] == whole["positions"]
        for row, other in zip(rows, others, strict=True):
            for name, value in row.items():
                if value and name != "judge":
                    near = 1e-3 if name.startswith("loss") else 0.02
                    assert float(other[name]) == pytest.approx(float(value), abs=near), name


def in_three(shards_dir: str) -> None:
    _stop_after(2, shards_dir=shards_dir, checkpoint_dir="three", **OF_SEVERAL)


def in_two(shards_dir: str) -> None:
    with joined():
        here = {"shards_dir": shards_dir, "resume": True, "device": "cpu"}
        _stop_after(4, checkpoint_dir="shared", **here)
        both = OF_SEVERAL | {"shards_dir": shards_dir}
        train(checkpoint_dir="two", **both)  # type: ignore[arg-type]
        _stop_after(3, checkpoint_dir="two-stopped", **both)
        train(checkpoint_dir="two-stopped", **here)  # type: ignore[arg-type]


def _stop_after(iteration: int, **options: Any) -> None:
    """Stop a run by a signal to the last of its processes, in the middle of an iteration."""
    step = loop.Step.__call__

    def stopping(self: Any, number: int, *batches: Any) -> None:
        step(self, number, *batches)
        if number == iteration and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop.Step, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(**options)


@pytest.mark.slow
def test_a_process_that_fails_ends_all_with_one_line(shards_dir: Path) -> None:
    # Rank 1 alone has shards that are damaged.
    shutil.copytree(shards_dir, "damaged")
    for tar in Path("damaged").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    script = """
import os, sys
from salakseg.cli import main

main([*sys.argv[2:], "--shards-dir", ("damaged", sys.argv[1])[os.environ["RANK"] == "0"]])
"""
    words = "train --batch-size 6 --generator tiny --encoder-weights none --device cpu --no-wandb"
    (code, said), (other_code, other_said) = ended(
        started(2, "-c", script, str(shards_dir), *words.split())
    )
    assert (code, other_code) == (1, 2)
    assert "Error" not in said and "Traceback" not in said + other_said
    assert other_said.count("Error: ") == 1 and "damaged; salakseg shard finds" in other_said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_torchrun_goes_on_after_a_process_was_killed(shards_dir: Path) -> None:
    script = """
import os, signal, sys
from salakseg.cli import main
from salakseg.training import loop

step = loop.Step.__call__
first_try = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

def dying(self, number, *batches):
    if number == 4 and first_try and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, number, *batches)

loop.Step.__call__ = dying
main(sys.argv[1:])
"""
    Path("dying.py").write_text(script, encoding="utf-8")
    words = f"train --shards-dir {shards_dir} --batch-size 6 --generator tiny --device cpu "
    words += "--no-wandb --encoder-weights none --num-steps 5 --save-latest-every 2"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--max-restarts", "1", "dying.py", *words.split()),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "ended without a word" in done.stderr
    assert "Going on from checkpoints/latest_checkpoint.pth, iteration 2" in done.stdout
    assert done.stdout.count("Done. Best") == 1
