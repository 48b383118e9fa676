"""The family of files in `checkpoints/`: written atomically in the background, read back, tidied.

| file | when | holds |
|---|---|---|
| `latest_checkpoint.pth`, `latest_model.pth`, `latest_model_D.pth` | every 100 iterations | all |
| `checkpoint_N.pth` | every 5,000 iterations and at the last | all |
| `best_model.pth`, `best_model_D.pth` | at each new best validation mIoU | weights |
| `final_model.pth`, `final_model_D.pth` | at the end | weights |

A run begins with a `latest_checkpoint.pth`, so that there is always one to go on from.

A `*_model.pth` is a model file (see `model.weights`), with the teacher's weights; a `*_model_D.pth`
holds D's state dict. `best_model_N.pth` is a best model of iteration N, kept when the run went back
to before it. A full checkpoint is a dictionary of tensors and plain Python values:

| key | what it is |
|---|---|
| `format` | "salakseg-checkpoint-2" |
| `iteration` | iterations done |
| `evaluation_due` | whether the evaluation after it was broken off, to be done again |
| `model_state`, `teacher_state`, `model_D_state` | state dicts of G, its running mean, and D |
| `optimizer_state`, `optimizer_D_state`, `scaler_state`, `scaler_D_state` | likewise |
| `confidence_histogram`, `image_trust` | which pixels and images are trusted |
| `totals`, `train_confusion` | sums since the last log line and the last evaluation |
| `positions` | the position in each stream at which the next batch begins |
| `best_val_miou`, `best_iteration` | of the best model so far |
| `val_confusion`, `val_confusions` | of the last evaluation, as in a model file, or None |
| `options` | the run's options |
| `mean`, `std` | normalisation of each band |
| `computed_with` | device, precision, versions: others give other last bits |
| `processes` | that the run was shared out among |
| `threads` | of torch on the CPU: another number gives other last bits, so it is kept |
| `wandb_id` | the run's id on Weights & Biases, or None |
| `classes`, `shards` | the class mapping, and the fingerprint of the shards |

There is no state of a random generator: every draw is a pure function of the seed and of what it is
for. Learning rates and ramps are pure functions of the iteration. A file of format 1 lacks
`evaluation_due`, `mean`, `std` and `computed_with`, and its run drew patches in another order.
"""

import math
from math import isclose
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.files import atomic_path
from salakseg.model.discriminator import Discriminator
from salakseg.model.torch_files import read_torch_file
from salakseg.model.weights import Model, model_content
from salakseg.training.saved_files import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_FORMATS,
    look_at,
    number_of,
    periodic,
)

LATEST = "latest_checkpoint.pth"
BEST = "best_model.pth"
# What a run leaves in its folder, the checkpoints first: without them it cannot be gone on with.
RUN_FILES = (
    *("*checkpoint*.pth", "*_model*.pth"),
    *("log*.csv", "timing*.csv", "curves.png", "run.json"),
)


def checkpoint_file(path: Path, content: dict[str, Any]) -> dict[Path, Any]:
    """What to write for a full checkpoint: path → content."""
    return {path: {"format": CHECKPOINT_FORMAT, **content}}


def model_files(
    folder: Path, name: str, model: Model, discriminator: Discriminator | None
) -> dict[Path, Any]:
    """What to write for `{name}_model.pth` and, where there is a D, `{name}_model_D.pth`."""
    files: dict[Path, Any] = {folder / f"{name}_model.pth": model_content(model)}
    if discriminator is not None:
        files[folder / f"{name}_model_D.pth"] = discriminator.state_dict()
    return files


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a full checkpoint.

    Raises:
        InputError: missing, damaged, or no full checkpoint.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") not in CHECKPOINT_FORMATS:
        raise InputError(f"{path}: no full checkpoint of this program")
    return content


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The whole checkpoint with the highest iteration; of equals, latest.

    Returns:
        Its path and content, and what was found damaged on the way, one line each.

    Raises:
        InputError: none is whole.
    """
    damaged: list[str] = []
    paths = [folder / LATEST, *(path for _, path in periodic(folder))]
    for path in sorted(paths, key=_stated_iteration, reverse=True):
        try:
            return path, read_checkpoint(path), damaged
        except InputError as error:
            damaged.append(str(error))
    found = f"{folder}: nothing to resume from ({'; '.join(damaged)})"
    models = [look_at(folder / name) for name in (BEST, "final_model.pth", "latest_model.pth")]
    whole = next((model for model in models if model.iteration is not None), None)
    if whole is None:
        raise InputError(f"{found}; start anew without --resume")
    raise InputError(
        f"{found}; the weights of {whole.path.name} are whole: --restore-from {whole.path} "
        f"--checkpoint-dir OTHER starts a new run from them (of iteration {whole.iteration}); the "
        "optimisers' state, the discriminator and the place in the run are lost"
    )


def _stated_iteration(path: Path) -> float:
    """The iteration that a checkpoint says it is of, its tensors not read, so not known to be
    whole; of a file that does not say, the one in its name, and latest is the latest."""
    try:
        return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["iteration"])
    except Exception:  # whatever a damaged file raises
        number = number_of(path)
        return math.inf if number is None else number


def holds_run(folder: Path) -> bool:
    """Whether there is a run to go on with."""
    return (folder / LATEST).exists() or any(folder.glob("checkpoint_*.pth"))


def refuse_to_overwrite(folder: Path) -> None:
    """Raise InputError where `folder` holds a run, or what somebody kept of one."""
    if holds_run(folder):
        raise InputError(
            f"{folder}: holds a run already; go on with it (salakseg train --resume), start over "
            "and lose it (--overwrite), or keep both (--checkpoint-dir OTHER)"
        )
    # A start that was killed before its first save leaves an empty log alone: that is no run.
    found = {path.name for pattern in RUN_FILES for path in folder.glob(pattern)}
    if kept := sorted(found - {"log.csv", "timing.csv"}):
        raise InputError(
            f"{folder}: holds {', '.join(kept[:3])}{' …' if kept[3:] else ''} of a run already; "
            "start over and lose that (--overwrite), or keep it (--checkpoint-dir OTHER)"
        )


def keep_best_aside(folder: Path, iteration: int) -> Path | None:
    """Before going on at `iteration`: keep a best model that is from later.

    The run does not know of it any more, and would overwrite it by one with a lower score.

    Returns:
        Its new path, `best_model_N.pth`, or None where there was nothing to keep.
    """
    best = look_at(folder / BEST)
    if best.iteration is None or best.iteration <= iteration:
        return None
    aside = folder / f"best_model_{best.iteration}.pth"
    # Copied, so that there is a best model while the run comes back to where it was.
    _copy_model(folder / BEST, aside)
    console.print(
        f"The best model so far is of iteration {best.iteration}, after the {iteration} to go on "
        f"from: kept as {aside}"
    )
    return aside


def best_iteration_in(folder: Path) -> int:
    """Of the best model; 0 where none is whole."""
    return look_at(folder / BEST).iteration or 0


def has_best(folder: Path, beside: Path, iteration: int, val_miou: float) -> bool:
    """Whether `best_model.pth` of `folder` is, whole, the best model that a checkpoint names.

    Where it is not, that model is looked for under the names that `folder`, and `beside`, where the
    checkpoint is, may have it by, and copied.
    """
    aside = f"best_model_{iteration}.pth"
    for path in (folder / BEST, folder / aside, beside / BEST, beside / aside):
        found = look_at(path)
        if found.iteration == iteration and isclose(found.val_miou or 0.0, val_miou):
            if path != folder / BEST:
                _copy_model(path, folder / BEST)
            return True
    return False


def _copy_model(model: Path, to: Path) -> None:
    """Copy a model, and its discriminator where it has one."""
    for source, target in ((model, to), (_discriminator_of(model), _discriminator_of(to))):
        if source.exists():
            with atomic_path(target) as temporary:
                copyfile(source, temporary)
        else:
            target.unlink(missing_ok=True)


def _discriminator_of(model: Path) -> Path:
    return model.with_name(f"{model.stem}_D.pth")
