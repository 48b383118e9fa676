from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from salakseg.errors import InputError
from salakseg.training.checkpoint import (
    LATEST,
    newest_checkpoint,
    read_checkpoint,
    refuse_to_overwrite,
    save_checkpoint,
)


def save(folder: Path, name: str, iteration: int) -> Path:
    save_checkpoint(folder / name, {"iteration": iteration, "weights": torch.arange(1000.0)})
    return folder / name


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


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to resume from"):
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


def test_a_failed_save_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, LATEST, 1)
    before = path.read_bytes()

    def full_disk(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, LATEST, 2)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [LATEST]
