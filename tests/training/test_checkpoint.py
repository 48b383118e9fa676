import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salakseg.errors import InputError
from salakseg.model.discriminator import Discriminator
from salakseg.model.weights import Model, load_model
from salakseg.training.checkpoint import (
    LATEST,
    has_best,
    keep_best_aside,
    model_files,
    newest_checkpoint,
    read_checkpoint,
    refuse_to_overwrite,
)
from salakseg.training.saved_files import checkpoints
from tests.training.saves import names, save, save_best, write


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


# Tidying


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
