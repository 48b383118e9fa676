from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.training.options import Options
from salakseg.training.saved_files import CHECKPOINT_FORMAT
from salakseg.training.start import (
    options_of,
    read_start,
    require_classes,
    require_same_run,
    take_normalisation,
    tell_differences,
)


def checkpoint(shards: Shards) -> dict[str, Any]:
    return {
        "format": CHECKPOINT_FORMAT,
        "options": asdict(Options(num_steps=10)),
        "classes": shards.mapping.as_plain(),
        "shards": shards.fingerprint,
        "computed_with": {"device": "cpu", "torch": "1"},
    }


def test_options_are_those_of_the_run_unless_given(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    # Options that another version had are passed over.
    kept = checkpoint(shards)
    kept["options"]["of_another_version"] = 1
    assert options_of({"num_steps": 20}, kept) == Options(num_steps=20)
    assert "--num-steps is now 20, was 10" in capsys.readouterr().out
    assert options_of({"num_steps": 10}, kept) == Options(num_steps=10)
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="--seed 1: the run has 0, which cannot change"):
        options_of({"seed": 1}, kept)


def test_the_papers_method_has_the_papers_threshold() -> None:
    assert options_of({"method": "s4gan-paper"}, None).threshold_st == 0.6
    given = {"method": "s4gan-paper", "threshold_st": "0.9"}
    assert options_of(given, None).threshold_st == "0.9"


def test_other_shards_or_classes_are_another_run(shards: Shards) -> None:
    require_same_run(checkpoint(shards), shards)
    with pytest.raises(InputError, match="other shards"):
        require_same_run(checkpoint(shards) | {"shards": "x"}, shards)
    with pytest.raises(InputError, match="other classes"):
        require_same_run(checkpoint(shards) | {"classes": []}, shards)


def test_masks_of_one_class_are_warned_of_and_of_none_refused(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    require_classes(shards)
    assert capsys.readouterr().out == ""
    columns = {f"pixels {name}": 0 for name in shards.mapping.names}
    none = replace(shards, samples=shards.samples.assign(**columns))
    with pytest.raises(InputError, match="no mask of a training patch holds a pixel"):
        require_classes(none)
    require_classes(replace(shards, samples=none.samples.assign(**{"pixels Road": 9})))
    assert "hold Road alone" in capsys.readouterr().out


def test_only_what_differs_is_told(shards: Shards, capsys: pytest.CaptureFixture[str]) -> None:
    tell_differences(checkpoint(shards), {"device": "cpu", "torch": "1"})
    assert capsys.readouterr().out == ""
    tell_differences(checkpoint(shards), {"device": "cpu", "torch": "2"})
    said = capsys.readouterr().out
    assert "torch: 2, was 1" in said and "device" not in said


def test_the_normalisation_is_that_of_the_checkpoint(shards: Shards) -> None:
    network = create_generator("tiny", 3, "none")
    take_normalisation(network, {"mean": [0.1] * 3, "std": [0.2] * 3}, Options())
    assert network.mean.flatten().tolist() == pytest.approx([0.1] * 3)
    assert network.std.flatten().tolist() == pytest.approx([0.2] * 3)


def test_a_file_that_is_neither(tmp_path: Path) -> None:
    torch.save({"format": "else"}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="neither a checkpoint nor a model"):
        read_start(tmp_path / "a.pth")


def test_a_file_of_the_published_guide_is_a_start(tmp_path: Path) -> None:
    network = create_generator("guide-v3", 5, "none").network
    path = tmp_path / "latest_checkpoint.pth"
    torch.save({"iteration": 9, "model_state": network.state_dict()}, path)
    assert read_start(path) == (None, path)
