"""The family of files in `checkpoints/`, written atomically, and the way back from them.

| file | when | holds |
|---|---|---|
| `latest_checkpoint.pth`, `latest_model.pth`, `latest_model_D.pth` | every 100 iterations | all |
| `checkpoint_N.pth` | every 5,000 iterations and at the last | all |
| `best_model.pth`, `best_model_D.pth` | at each new best validation mIoU | weights |
| `final_model.pth`, `final_model_D.pth` | at the end | weights |

A `*_model.pth` is a model file (see `model.weights`), with the teacher's weights; a `*_model_D.pth`
holds D's state dict. A full checkpoint is a dictionary of tensors and plain Python values:

| key | what it is |
|---|---|
| `format` | "salakseg-checkpoint-1" |
| `iteration` | iterations done |
| `model_state`, `teacher_state`, `model_D_state` | state dicts of G, its running mean, and D |
| `optimizer_state`, `optimizer_D_state`, `scaler_state`, `scaler_D_state` | likewise |
| `confidence_histogram`, `image_trust` | which pixels and images are trusted |
| `totals`, `train_confusion` | sums since the last log line and the last evaluation |
| `positions` | the position in each stream at which the next batch begins |
| `best_val_miou`, `best_iteration` | of the best model so far |
| `options` | the run's options |
| `classes`, `shards` | the class mapping, and the fingerprint of the shards |

There is no state of a random generator: every draw is a pure function of the seed and of what it is
for. Learning rates and ramps are pure functions of the iteration.
"""

import re
from pathlib import Path
from typing import Any

import torch

from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path
from salakseg.model.discriminator import Discriminator
from salakseg.model.weights import Model, read_torch_file, save_model

CHECKPOINT_FORMAT = "salakseg-checkpoint-1"
LATEST = "latest_checkpoint.pth"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a full checkpoint atomically."""
    _save(path, {"format": CHECKPOINT_FORMAT, **content})


def _save(path: Path, content: dict[str, Any]) -> None:
    # An open file: given a path, torch writes its temporary name into the archive.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def save_models(folder: Path, name: str, model: Model, discriminator: Discriminator | None) -> None:
    """Write `{name}_model.pth` and, where there is a D, `{name}_model_D.pth`."""
    save_model(folder / f"{name}_model.pth", model)
    if discriminator is not None:
        _save(folder / f"{name}_model_D.pth", discriminator.state_dict())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a full checkpoint.

    Raises:
        InputError: missing, damaged, or no full checkpoint.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{path}: no full checkpoint of this program")
    return content


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest whole checkpoint: latest, else the periodic one with the highest number.

    Returns:
        Its path and content, and what was found damaged on the way, one line each.

    Raises:
        InputError: none is whole.
    """
    numbered = {
        int(match[1]): path
        for path in folder.glob("checkpoint_*.pth")
        if (match := re.fullmatch(r"checkpoint_(\d+)\.pth", path.name))
    }
    candidates = [folder / LATEST, *(numbered[number] for number in sorted(numbered, reverse=True))]
    damaged: list[str] = []
    for path in candidates:
        try:
            return path, read_checkpoint(path), damaged
        except InputError as error:
            damaged.append(str(error))
    raise InputError(
        f"{folder}: nothing to resume from ({damaged[0]}); start anew without --resume"
    )


def refuse_to_overwrite(folder: Path) -> None:
    """Raise InputError where `folder` holds a run."""
    if (folder / LATEST).exists() or any(folder.glob("checkpoint_*.pth")):
        raise InputError(
            f"{folder}: holds a run already; go on with it (salakseg train --resume), start over "
            "and lose it (--overwrite), or keep both (--checkpoint-dir OTHER)"
        )


def saving_failed(path: Path, error: OSError) -> WorkError:
    """What to tell where a file of the family cannot be written."""
    return WorkError(
        f"{path}: cannot be written ({error.strerror or error}); the files of the last save are "
        "whole: make room, then salakseg train --resume"
    )
