"""Files of tensors, ours and other programs'; read without ever running code in them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from salakseg.errors import InputError
from salakseg.files import StraightToDisk, atomic_path

# What a pickled NumPy number is made of, under both names that NumPy has had for it.
_NUMBER = np.float64().__reduce__()[0]
NUMPY_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    _NUMBER,
    (_NUMBER, "numpy.core.multiarray.scalar"),
]


def write_torch_file(path: Path, content: Any) -> None:
    """Write tensors and plain values atomically; `read_torch_file` is the way back."""
    # Given a name, torch.save writes it into the file, and the temporary one differs by process.
    with atomic_path(path) as temporary, StraightToDisk(temporary) as file:
        torch.save(content, file)


def read_torch_file(path: Path) -> Any:
    """Load a file of tensors and plain values, after checking that it is whole.

    `torch.load` does not verify a file; the CRCs of its zip archive do. Code is never run
    (`weights_only=True`).

    Raises:
        InputError: missing, damaged, not such a file, or with more than tensors and plain values.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save neither compresses nor writes folders; torch.load would take an entry that
            # is marked as a folder (0x10) for an empty one, and leave its tensor to chance.
            marks = (e.filename for e in archive.infolist() if e.compress_type or e.external_attr)
            damaged = next(marks, None) or archive.testzip()
        if damaged is not None:
            raise InputError(f"{path}: damaged ({damaged} fails its checksum)")
        # A NumPy number, as other programs' scores are, is a plain value too.
        with torch.serialization.safe_globals(NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged, or no file that torch.save wrote") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds more than tensors and plain values, so it was not loaded "
            "(a file that could run code is never opened)"
        ) from error
    except (RuntimeError, OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of another program: safetensors, or of torch, of any age.

    Raises:
        InputError: no such file, none of weights, or with more than tensors and plain values.
    """
    if zipfile.is_zipfile(path):
        content = read_torch_file(path)
    else:
        try:
            content = _read_unzipped(path)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise InputError(f"{path}: no file of weights ({said})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not is_state_dict(content):
        raise InputError(f"{path}: holds no state dict")
    return without_wrapper(content)


def _read_unzipped(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def is_state_dict(content: Any) -> bool:
    """Whether it is a dict of tensors."""
    return isinstance(content, dict) and all(isinstance(one, Tensor) for one in content.values())


def without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what `DataParallel` puts before its names."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def unfit(path: Path, network: str, why: str) -> InputError:
    """That the weights of a file are of another network."""
    return InputError(f"{path}: its weights do not fit {network} ({why})")
