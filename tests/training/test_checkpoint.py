import io
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from salakseg.classes import ClassMapping
from salakseg.errors import InputError, WorkError
from salakseg.files import lock_folder
from salakseg.model.discriminator import Discriminator
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, load_model
from salakseg.training import checkpoint
from salakseg.training.checkpoint import (
    LATEST,
    Saver,
    checkpoint_file,
    checkpoints,
    has_best,
    host_copy,
    keep_best_aside,
    model_files,
    newest_checkpoint,
    prune,
    read_checkpoint,
    refuse_to_overwrite,
    remove_leftovers,
)

CLASSES = ClassMapping((("Water", (0, 0, 255), False), ("Land", (132, 41, 246), False)))


def write(files: dict[Path, Any]) -> None:
    with Saver() as saver:
        saver.save(files)


def save(folder: Path, name: str, iteration: int, best_val_miou: float = 0.5) -> Path:
    content = {"iteration": iteration, "best_val_miou": best_val_miou}
    write(checkpoint_file(folder / name, {**content, "weights": torch.arange(1000.0)}))
    return folder / name


@pytest.fixture(scope="module")
def model() -> Model:
    confusion = np.array([[3, 1], [0, 4]])  # IoU 3/4 and 4/5
    return Model(create_generator("tiny", 2, "none"), CLASSES, val_confusion=confusion)


def save_best(folder: Path, model: Model, iteration: int) -> None:
    model.iteration = iteration
    write(model_files(folder, "best", model, Discriminator(2, 16)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    content = read_checkpoint(save(tmp_path, LATEST, 7))
    assert content["iteration"] == 7
    assert torch.equal(content["weights"], torch.arange(1000.0))


def test_the_newest_whole_one_is_taken_and_damaged_ones_are_named(tmp_path: Path) -> None:
    save(tmp_path, "checkpoint_900.pth", 900)
    newest = save(tmp_path, "checkpoint_1000.pth", 1000)
    latest = save(tmp_path, LATEST, 1050)
    assert newest_checkpoint(tmp_path)[0] == latest
    latest.write_bytes(latest.read_bytes()[:-100])
    path, content, damaged = newest_checkpoint(tmp_path)
    assert (path, content["iteration"]) == (newest, 1000)
    assert len(damaged) == 1 and str(latest) in damaged[0]
    spoilt = bytearray(newest.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1  # only the archive's checksum tells
    newest.write_bytes(spoilt)
    assert newest_checkpoint(tmp_path)[1]["iteration"] == 900


def test_the_highest_iteration_is_taken_whatever_the_names_say(tmp_path: Path) -> None:
    latest = save(tmp_path, LATEST, 0)
    for iteration in (20, 40, 60):
        newest = save(tmp_path, f"checkpoint_{iteration}.pth", iteration)
    assert newest_checkpoint(tmp_path)[::2] == (newest, [])
    # Damaged ones in between are passed over, older ones not even looked at.
    newest.write_bytes(newest.read_bytes()[:-100])
    (tmp_path / "checkpoint_20.pth").write_bytes(b"")
    path, content, damaged = newest_checkpoint(tmp_path)
    assert (path.name, content["iteration"]) == ("checkpoint_40.pth", 40)
    assert len(damaged) == 1 and str(newest) in damaged[0]
    # A copy under another number is what it holds.
    (tmp_path / "checkpoint_900.pth").write_bytes(latest.read_bytes())
    (tmp_path / "checkpoint_1.pth").write_bytes(save(tmp_path, "x.pth", 50).read_bytes())
    assert newest_checkpoint(tmp_path)[0].name == "checkpoint_1.pth"
    assert newest_checkpoint(tmp_path)[1]["iteration"] == 50
    # Of equals it is latest, which says so.
    save(tmp_path, LATEST, 50)
    assert newest_checkpoint(tmp_path)[0] == latest


def test_a_checkpoint_of_an_earlier_version_is_one(tmp_path: Path) -> None:
    torch.save(
        {"format": "salakseg-checkpoint-1", "iteration": 3, "best_val_miou": 0.5},
        tmp_path / LATEST,
    )
    assert newest_checkpoint(tmp_path)[1]["iteration"] == 3
    assert checkpoints(tmp_path)[0].iteration == 3


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume from"):
        newest_checkpoint(tmp_path)


def test_what_models_are_left_is_said(tmp_path: Path) -> None:
    model = {"format": "salakseg-model-1", "iteration": 7, "val_confusion": None}
    torch.save(model, tmp_path / "final_model.pth")
    with pytest.raises(InputError, match=r"--restore-from .*final_model\.pth .*iteration 7"):
        newest_checkpoint(tmp_path)


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"format": "salakseg-model-1"}, tmp_path / "best_model.pth")
    with pytest.raises(InputError, match="no full checkpoint"):
        read_checkpoint(tmp_path / "best_model.pth")


def test_a_folder_with_a_run_is_refused(tmp_path: Path) -> None:
    refuse_to_overwrite(tmp_path)
    save(tmp_path, "checkpoint_10.pth", 10)
    with pytest.raises(InputError, match=r"--resume.*--overwrite.*--checkpoint-dir"):
        refuse_to_overwrite(tmp_path)


@pytest.mark.parametrize(
    "kept", ["best_model.pth", "best_model_20.pth", "final_model_D.pth", "run.json"]
)
def test_what_was_kept_of_a_run_is_refused_too(tmp_path: Path, kept: str) -> None:
    # A start that was killed before its first save is no run.
    (tmp_path / "log.csv").write_text("iteration\n", encoding="utf-8")
    refuse_to_overwrite(tmp_path)
    (tmp_path / kept).touch()
    with pytest.raises(InputError, match=f"{kept} of a run.*--overwrite.*--checkpoint-dir"):
        refuse_to_overwrite(tmp_path)


def test_a_failed_save_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, LATEST, 1)
    before = path.read_bytes()

    def full_disk(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(WorkError, match="No space"):
        save(tmp_path, LATEST, 2)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [LATEST]


# Damage


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


def emptied(data: bytes) -> bytes:
    return b""


DAMAGES = [cut, flip, emptied]


class Malice:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("it_ran"),)  # type: ignore[return-value]


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_file_of_the_family_may_be_damaged(
    tmp_path: Path, model: Model, damage: Callable[[bytes], bytes]
) -> None:
    save(tmp_path, "checkpoint_500.pth", 500)
    save(tmp_path, "checkpoint_1000.pth", 1000)
    save(tmp_path, LATEST, 1100)
    for name in ("best", "latest", "final"):
        write(model_files(tmp_path, name, model, Discriminator(2, 16)))
    for path in sorted(tmp_path.glob("*.pth")):
        good = path.read_bytes()
        path.write_bytes(damage(good))
        found = checkpoints(tmp_path)
        assert [file.path for file in found if file.damage] == [path]
        assert str(path) in next(file.damage for file in found if file.damage)
        expected = 1000 if path.name == LATEST else 1100
        assert newest_checkpoint(tmp_path)[1]["iteration"] == expected
        path.write_bytes(good)


def test_a_flipped_bit_never_gives_other_weights(tmp_path: Path) -> None:
    path = save(tmp_path, LATEST, 1)
    good, generator = path.read_bytes(), np.random.default_rng(0)
    # Data, and the directory at the end, which is where a damage could lead to another place.
    places = [*generator.integers(0, len(good), 100), *range(len(good) - 400, len(good))]
    refused = 0
    for place in places:
        spoilt = bytearray(good)
        spoilt[place] ^= 1 << generator.integers(8)
        path.write_bytes(spoilt)
        try:
            content = read_checkpoint(path)
        except InputError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # padding, dates
            assert content["iteration"] == 1
            assert torch.equal(content["weights"], torch.arange(1000.0))
    assert refused > len(places) / 2


def test_with_only_the_best_model_whole_it_says_how_to_use_it(tmp_path: Path, model: Model) -> None:
    save_best(tmp_path, model, 900)
    save(tmp_path, LATEST, 1000).write_bytes(b"")
    with pytest.raises(InputError, match=r"--restore-from .*best_model.pth .*900.* are lost"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("write", [torch.save, pickle.dump])
def test_a_malicious_file_does_not_run(tmp_path: Path, write: Callable[..., None]) -> None:
    data = io.BytesIO()
    write({"format": "salakseg-checkpoint-1", "iteration": Malice()}, data)
    (tmp_path / LATEST).write_bytes(data.getvalue())
    with pytest.raises(InputError, match="nothing to resume from"):
        newest_checkpoint(tmp_path)
    assert checkpoints(tmp_path)[0].damage
    assert not Path("it_ran").exists()
    Path.touch(*Malice().__reduce__()[1])
    assert Path("it_ran").exists()  # so it would have


# Saving in the background


def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make writing wait for the event."""
    original, go = torch.save, threading.Event()

    def save(content: object, file: BinaryIO) -> None:
        assert go.wait(30)
        original(content, file)

    monkeypatch.setattr(torch, "save", save)
    return go


def test_what_is_saved_is_the_state_at_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = held_back(monkeypatch)
    weights, positions = torch.zeros(3), [7]
    content = {"iteration": 1, "weights": weights, "inner": [{"positions": positions}]}
    with Saver() as saver:
        saver.save(checkpoint_file(tmp_path / LATEST, content))
        weights += 1
        positions[0] = 8
        go.set()
    saved = read_checkpoint(tmp_path / LATEST)
    assert saved["weights"].tolist() == [0, 0, 0]
    assert saved["inner"] == [{"positions": [7]}]


def test_the_bytes_are_those_of_a_save_in_the_foreground(tmp_path: Path, model: Model) -> None:
    discriminator = Discriminator(2, 16)
    optimizer = torch.optim.AdamW(model.generator.parameters())
    model.generator(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimizer.step()
    state = {
        "iteration": 1,
        "model_state": model.generator.network.state_dict(),
        "model_D_state": discriminator.state_dict(),
        "optimizer_state": optimizer.state_dict(),
    }
    front, back = tmp_path / "front", tmp_path / "back"
    files = model_files(back, "latest", model, discriminator)
    files |= checkpoint_file(back / LATEST, state)
    write(files)
    front.mkdir()
    for path, content in files.items():
        with open(front / path.name, "wb") as file:
            torch.save(content, file)
    assert names(front) == names(back) and len(names(back)) == 3
    for path in front.iterdir():
        assert path.read_bytes() == (back / path.name).read_bytes()
        torch.load(back / path.name, weights_only=True)
    assert load_model(back / "latest_model.pth").mapping == CLASSES


def test_a_tensor_of_two_files_is_copied_once() -> None:
    layer = torch.nn.Linear(2, 2)
    copied = host_copy({"a": layer.state_dict(), "b": {"inner": layer.state_dict()}, "c": [layer]})
    assert copied["a"]["weight"] is copied["b"]["inner"]["weight"]
    assert copied["a"]["weight"] is not copied["a"]["bias"]
    assert copied["a"]["weight"].data_ptr() != layer.weight.data_ptr()


def test_one_save_is_in_flight_and_the_next_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = held_back(monkeypatch)
    with Saver() as saver:
        saver.save(checkpoint_file(tmp_path / "checkpoint_1.pth", {"iteration": 1}))
        second = threading.Thread(
            target=saver.save,
            args=(checkpoint_file(tmp_path / "checkpoint_2.pth", {"iteration": 2}),),
        )
        second.start()
        second.join(0.2)
        assert second.is_alive() and not list(tmp_path.glob("checkpoint_*"))
        go.set()
        second.join(30)
        assert (tmp_path / "checkpoint_1.pth").exists()
    assert (tmp_path / "checkpoint_2.pth").exists()


def test_a_save_that_has_to_wait_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "WAIT_TO_TELL", 0.1)
    original = torch.save

    def slow(content: object, file: BinaryIO) -> None:
        threading.Event().wait(0.2)
        original(content, file)

    with Saver() as saver:
        for iteration in (1, 2):
            saver.save(checkpoint_file(tmp_path / LATEST, {"iteration": iteration}))
        assert not capsys.readouterr().out
        monkeypatch.setattr(torch, "save", slow)
        for iteration in (3, 4, 5):
            saver.save(checkpoint_file(tmp_path / LATEST, {"iteration": iteration}))
    said = capsys.readouterr().out
    assert said.count("Training waited") == said.count("\n") == 1
    assert "--save-latest-every" in said


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_a_full_disk_warns_once_and_saving_recovers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    original = torch.save

    def full_disk(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    def save_at(iteration: int, *more: str) -> None:
        content = {"iteration": iteration, "weights": torch.zeros(9)}
        saver.save({tmp_path / name: content for name in (*more, LATEST)})
        saver.wait()

    with Saver() as saver:
        save_at(1)
        before = (tmp_path / LATEST).read_bytes()
        monkeypatch.setattr(torch, "save", full_disk)
        save_at(2, "best_model.pth", "checkpoint_2.pth")
        save_at(3)
        assert names(tmp_path) == {LATEST}
        assert (tmp_path / LATEST).read_bytes() == before
        said = capsys.readouterr().out
        assert said.count("WARNING") == said.count("\n") == 1
        assert "best_model.pth: cannot be written" in said
        monkeypatch.setattr(torch, "save", original)
        save_at(4)
        assert "works again" in capsys.readouterr().out
    # The best model comes only once, so it was kept for another try.
    assert names(tmp_path) == {LATEST, "best_model.pth"}
    assert torch.load(tmp_path / "best_model.pth")["iteration"] == 2
    assert torch.load(tmp_path / LATEST)["iteration"] == 4


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_limit_of_the_system_on_file_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Saver() as saver:
        save(tmp_path, LATEST, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        try:
            saver.save(checkpoint_file(tmp_path / LATEST, {"weights": torch.zeros(1 << 20)}))
            saver.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "cannot be written (File too large)" in capsys.readouterr().out
        assert read_checkpoint(tmp_path / LATEST)["iteration"] == 1
        assert names(tmp_path) == {LATEST}
        saver.save(checkpoint_file(tmp_path / LATEST, {"iteration": 2}))
    assert read_checkpoint(tmp_path / LATEST)["iteration"] == 2


def test_a_last_save_that_failed_ends_the_run_loudly(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    saver = Saver()
    saver.save(checkpoint_file(tmp_path / "file" / LATEST, {"iteration": 1}))
    with pytest.raises(WorkError, match=r"latest_checkpoint.pth: cannot be written .*make room"):
        saver.close()


def test_an_error_of_the_run_is_not_hidden_by_one_of_a_save(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyboardInterrupt), Saver() as saver:
        saver.save(checkpoint_file(tmp_path / "file" / LATEST, {"iteration": 1}))
        raise KeyboardInterrupt


def test_a_bug_in_a_save_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    saver = Saver()
    saver.save({tmp_path / LATEST: {"not plain": lambda: 0}})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        saver.close()
    assert not names(tmp_path)


# Tidying


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


def test_the_saver_keeps_as_many_as_asked_for(tmp_path: Path) -> None:
    with Saver(keep_checkpoints=2) as saver:
        for iteration in (1, 2, 3):
            path = tmp_path / f"checkpoint_{iteration}.pth"
            saver.save(checkpoint_file(path, {"iteration": iteration, "best_val_miou": 0.0}))
    assert names(tmp_path) == {"checkpoint_2.pth", "checkpoint_3.pth"}
    with pytest.raises(InputError, match="--keep-checkpoints 0"):
        Saver(keep_checkpoints=0)


def test_what_the_saver_wrote_is_not_read_again_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "checkpoint_1.pth", 1)  # of an earlier start
    read: list[Path] = []
    original = checkpoint.read_torch_file

    def noted(path: Path) -> Any:
        read.append(path)
        return original(path)

    monkeypatch.setattr(checkpoint, "read_torch_file", noted)
    with Saver(keep_checkpoints=2) as saver:
        for iteration in (2, 3, 4):
            path = tmp_path / f"checkpoint_{iteration}.pth"
            saver.save(checkpoint_file(path, {"iteration": iteration, "best_val_miou": 0.0}))
    assert names(tmp_path) == {"checkpoint_3.pth", "checkpoint_4.pth"}
    assert read == [tmp_path / "checkpoint_1.pth"]


def test_a_best_model_from_after_the_place_to_go_on_from_is_kept_aside(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep_best_aside(tmp_path, 0) is None
    save_best(tmp_path, model, 900)
    assert keep_best_aside(tmp_path, 900) is None
    assert names(tmp_path) == {"best_model.pth", "best_model_D.pth"}
    assert keep_best_aside(tmp_path, 800) == tmp_path / "best_model_900.pth"
    assert names(tmp_path) == {
        *("best_model.pth", "best_model_D.pth", "best_model_900.pth", "best_model_900_D.pth")
    }
    assert "iteration 900, after the 800" in capsys.readouterr().out


MIOU = (3 / 4 + 4 / 5) / 2  # of `model`


def test_the_best_model_is_the_one_that_the_checkpoint_names(tmp_path: Path, model: Model) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    assert not has_best(here, beside, 800, MIOU)
    save_best(here, model, 900)
    save_best(beside, model, 800)
    (beside / "best_model_D.pth").unlink()
    assert not has_best(here, beside, 800, 0.7)  # of iteration 800, but of another run
    assert not has_best(here, here, 800, MIOU)
    assert has_best(here, beside, 800, MIOU)
    assert (here / "best_model.pth").read_bytes() == (beside / "best_model.pth").read_bytes()
    assert not (here / "best_model_D.pth").exists()  # the one of iteration 900
    keep_best_aside(here, 700)
    (here / "best_model.pth").write_bytes(b"")
    assert has_best(here, here, 800, MIOU)
    assert load_model(here / "best_model.pth").iteration == 800


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
    assert "Remove these 2 files" in questions[0]
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
