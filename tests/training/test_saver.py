import pickle
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from salakseg.errors import InputError, WorkError
from salakseg.model.discriminator import Discriminator
from salakseg.model.weights import Model, load_model
from salakseg.training import saved_files
from salakseg.training.checkpoint import (
    LATEST,
    checkpoint_file,
    model_files,
    read_checkpoint,
)
from salakseg.training.saver import Saver, host_copy
from tests.training.saves import CLASSES, names, save, write


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
    state = {"a": layer.state_dict(), "b": {"inner": layer.state_dict()}, "c": [layer]}
    copied, tensors = host_copy(state)
    assert len(tensors) == 2
    assert copied["a"]["weight"] is copied["b"]["inner"]["weight"]
    assert copied["a"]["weight"] is not copied["a"]["bias"]
    assert copied["a"]["weight"].data_ptr() != layer.weight.data_ptr()


def test_the_next_copy_takes_the_memory_of_the_one_before() -> None:
    last = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = {"a": torch.ones(1000), "b": torch.ones(1000), "c": last, "d": torch.ones(7)}
    _, tensors = host_copy(state)
    memory = {tensor.data_ptr() for tensor in tensors}
    state = {"e": torch.zeros(2), **{name: tensor + 1 for name, tensor in state.items()}}
    copied, tensors = host_copy(state, tensors)
    assert memory < {tensor.data_ptr() for tensor in tensors}
    for name, tensor in state.items():
        assert torch.equal(copied[name], tensor)
        assert copied[name].stride() == tensor.stride()


def test_what_is_still_to_be_written_keeps_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.save

    def full_disk(content: object, file: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with Saver() as saver:
        monkeypatch.setattr(torch, "save", full_disk)
        saver.save({tmp_path / "best_model.pth": {"weights": torch.full((5,), 1.0)}})
        saver.wait()
        monkeypatch.setattr(torch, "save", original)
        saver.save({tmp_path / "other.pth": {"weights": torch.full((5,), 2.0)}})
    for name, value in (("best_model.pth", 1), ("other.pth", 2)):
        assert (torch.load(tmp_path / name, weights_only=True)["weights"] == value).all()


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
    monkeypatch.setattr("salakseg.training.saver.WAIT_TO_TELL", 0.1)
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
    original = saved_files.read_torch_file

    def noted(path: Path) -> Any:
        read.append(path)
        return original(path)

    monkeypatch.setattr(saved_files, "read_torch_file", noted)
    with Saver(keep_checkpoints=2) as saver:
        for iteration in (2, 3, 4):
            path = tmp_path / f"checkpoint_{iteration}.pth"
            saver.save(checkpoint_file(path, {"iteration": iteration, "best_val_miou": 0.0}))
    assert names(tmp_path) == {"checkpoint_3.pth", "checkpoint_4.pth"}
    assert read == [tmp_path / "checkpoint_1.pth"]
