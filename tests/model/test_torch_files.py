"""Files of tensors: what could run code is refused, whoever wrote it."""

import os
from pathlib import Path

import pytest
import torch

from salakseg.errors import InputError
from salakseg.model.torch_files import read_torch_file, read_weights


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f'echo "" > "{self.target}"',)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    torch.save(
        {"format": "salakseg-model-1", "state": Malicious(trace)},
        tmp_path / "model.pth",
        _use_new_zipfile_serialization=zipped,
    )
    for read in (read_torch_file, read_weights):
        with pytest.raises(InputError, match=r"model\.pth"):
            read(tmp_path / "model.pth")
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_other_programs_are_read_from_files_of_any_age(
    tmp_path: Path, zipped: bool
) -> None:
    state = {"module.a": torch.ones(2), "b": torch.zeros(1)}
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    assert sorted(read_weights(path)) == ["a", "b"]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth: damaged"):
        read_weights(path)
