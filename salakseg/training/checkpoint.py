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
| `mean`, `std` | normalisation of the three bands |
| `computed_with` | device, precision, versions: others give other last bits |
| `threads` | of torch on the CPU: another number gives other last bits, so it is kept |
| `wandb_id` | the run's id on Weights & Biases, or None |
| `classes`, `shards` | the class mapping, and the fingerprint of the shards |

There is no state of a random generator: every draw is a pure function of the seed and of what it is
for. Learning rates and ramps are pure functions of the iteration. A file of format 1 lacks
`evaluation_due`, `mean`, `std` and `computed_with`, and its run drew patches in another order.
"""

import math
import re
import time
from collections.abc import Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from shutil import copyfile
from typing import Any, Self

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from salakseg.console import console, progress
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, format_bytes, lock_folder, require_folder
from salakseg.metrics import scores
from salakseg.model.discriminator import Discriminator
from salakseg.model.weights import (
    MODEL_FORMAT,
    Model,
    model_content,
    read_torch_file,
    write_torch_file,
)

CHECKPOINT_FORMAT = "salakseg-checkpoint-2"
CHECKPOINT_FORMATS = (CHECKPOINT_FORMAT, "salakseg-checkpoint-1")
LATEST = "latest_checkpoint.pth"
# Seconds for which a save may be waited for before it is worth a line.
WAIT_TO_TELL = 2
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


class Saver:
    """Writes files of the family in the background, one save at a time.

    A save that fails costs a warning, not the run: the files of the save before stay, and the next
    save tries again. As a context manager it closes itself, and then does not hide an error that
    ends the block.

    Args:
        keep_checkpoints: after each `checkpoint_N.pth`, keep only this many of them; None: all.
    """

    def __init__(self, keep_checkpoints: int | None = None) -> None:
        if keep_checkpoints is not None and keep_checkpoints < 1:
            raise InputError(f"--keep-checkpoints {keep_checkpoints}: must be at least 1")
        self._keep = keep_checkpoints
        # Its thread is no daemon: Python does not end before the file in hand is whole.
        self._thread = ThreadPoolExecutor(1, "saver")
        self._in_flight: Future[None] | None = None
        self._unwritten: dict[Path, Any] = {}
        self._failed: WorkError | None = None
        self._whole: set[Path] = set()
        self._waiting_told = False

    def save(self, files: dict[Path, Any]) -> None:
        """Copy all tensors of `files` (path → content) to memory of their own, write in order.

        Returns when they are copied; waits for the save before. Contents are dictionaries and
        lists of tensors on any device and plain values. Where one file fails, those after it are
        not written: a checkpoint names the best model that came before it.
        """
        began = time.monotonic()
        self.wait()
        waited = time.monotonic() - began
        if waited >= WAIT_TO_TELL and not self._waiting_told:
            self._waiting_told = True
            console.print(
                f"Training waited {waited:.0f} s for the save before to reach the disk; a higher "
                "--save-latest-every waits less often (train --resume takes it)"
            )
        # A best model that could not be written comes only once; it goes first.
        files = {**{p: c for p, c in self._unwritten.items() if p not in files}, **files}
        self._in_flight = self._thread.submit(self._write, host_copy(files))

    def wait(self) -> None:
        """Return when nothing is being written: before a fork, say, or before reading a file."""
        if self._in_flight is not None:
            self._in_flight.result()
            self._in_flight = None

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            WorkError: it failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._thread.shutdown()

    def _write(self, files: dict[Path, Any]) -> None:
        path = Path()
        try:
            for path in list(files):
                write_torch_file(path, files[path])
                del files[path]  # its memory is free for the next snapshot
                self._whole.add(path)
                if self._keep is not None and _number(path) is not None:
                    prune(path.parent, self._keep, self._whole)
        except (OSError, RuntimeError) as error:
            if self._failed is None:
                console.print(
                    f"WARNING: {path}: cannot be written ({_reason(error)}). Training goes on, "
                    "the files of the save before stay, the next save tries again: make room"
                )
            self._failed = saving_failed(path, error)
            # Periodic ones are not kept for another try: they would pile up in memory.
            self._unwritten = {p: c for p, c in files.items() if _number(p) is None}
        else:
            if self._failed is not None:
                console.print("Saving works again")
            self._failed, self._unwritten = None, {}


def host_copy(content: Any) -> Any:
    """A copy in host memory of all tensors in nested dictionaries, lists and tuples.

    A tensor that is in it more than once is copied once. On CUDA the copies run side by side, with
    one wait at the end.
    """
    copies: dict[Any, Tensor] = {}
    copied = _host_copy(content, copies)
    for device in {key[0] for key in copies if key[0].type == "cuda"}:
        torch.cuda.synchronize(device)
    return copied


def _host_copy(content: Any, copies: dict[Any, Tensor]) -> Any:
    if isinstance(content, Tensor):
        # Each state_dict() gives new objects for the same memory.
        where = (content.device, content.data_ptr())
        key = (*where, content.dtype, content.shape, content.stride())
        if key not in copies:
            copies[key] = content.detach().to("cpu", non_blocking=content.is_cuda, copy=True)
        return copies[key]
    if isinstance(content, dict):
        # Not `{}`: a state dict has an attribute, the versions of its modules.
        copied = copy(content)
        for name, value in content.items():
            copied[name] = _host_copy(value, copies)
        return copied
    if isinstance(content, list | tuple):
        return type(content)(_host_copy(value, copies) for value in content)
    return content


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
    models = [_look_at(folder / name) for name in (BEST, "final_model.pth", "latest_model.pth")]
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
        number = _number(path)
        return math.inf if number is None else number


def refuse_to_overwrite(folder: Path) -> None:
    """Raise InputError where `folder` holds a run, or what somebody kept of one."""
    if (folder / LATEST).exists() or any(folder.glob("checkpoint_*.pth")):
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
    best = _look_at(folder / BEST)
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
    return _look_at(folder / BEST).iteration or 0


def has_best(folder: Path, beside: Path, iteration: int, val_miou: float) -> bool:
    """Whether `best_model.pth` of `folder` is, whole, the best model that a checkpoint names.

    Where it is not, that model is looked for under the names that `folder`, and `beside`, where the
    checkpoint is, may have it by, and copied.
    """
    aside = f"best_model_{iteration}.pth"
    for path in (folder / BEST, folder / aside, beside / BEST, beside / aside):
        found = _look_at(path)
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


def prune(folder: Path, keep: int, whole: Container[Path] = ()) -> list[Path]:
    """Remove all but the newest `keep` whole `checkpoint_N.pth`; where none is whole, nothing.

    Args:
        whole: files that are known to be, and need not be read to tell.

    Returns:
        What was removed.
    """
    going = _older_than_newest(folder, keep, whole)
    for path in going:
        path.unlink(missing_ok=True)
    return going


def remove_leftovers(folder: Path) -> None:
    """Remove what killed saves left behind; only under the lock of `folder`."""
    for path in _leftovers(folder):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SavedFile:
    """A file of the family.

    Attributes:
        path: where it is.
        size: in bytes.
        iteration: that it was saved at; None where it does not say.
        val_miou: of a model, on the validation patches; of a full checkpoint, of the best model
            before it; None where not known.
        damage: what is wrong with it, "" for a whole one.
    """

    path: Path
    size: int
    iteration: int | None = None
    val_miou: float | None = None
    damage: str = ""


def checkpoints(
    checkpoint_dir: Path | str = Path("checkpoints"), *, clean: bool = False, yes: bool = False
) -> list[SavedFile]:
    """List what a run has saved, whole or damaged, and tidy it.

    Args:
        checkpoint_dir: the folder of a run.
        clean: remove all `checkpoint_N.pth` but the newest whole one, and what killed saves left;
            latest, best and final stay.
        yes: remove without asking.

    Returns:
        What is there, after the clean-up.

    Raises:
        InputError: no such folder, or (with `clean`) a training works in it.
    """
    folder = require_folder(Path(checkpoint_dir), "train first: salakseg train")
    if not clean:
        return _list(folder)
    with lock_folder(folder, "the clean-up"):
        files = _list(folder)
        going = [*_older_than_newest(folder, 1), *_leftovers(folder)]
        if not going:
            console.print("Nothing to remove")
            return files
        size = format_bytes(sum(path.stat().st_size for path in going))
        console.print(f"To remove: {', '.join(path.name for path in going)}")
        if not yes and not _agreed(f"Remove these {len(going)} files ({size})? [y/N] "):
            console.print("Nothing removed")
            return files
        for path in going:
            path.unlink(missing_ok=True)
        console.print(f"Removed {len(going)} files, {size}")
        return [file for file in files if file.path not in going]


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody there to ask
        console.print("(--yes removes without asking)")
        return False


def _list(folder: Path) -> list[SavedFile]:
    paths = sorted(folder.glob("*.pth"), key=lambda path: (_number(path) or -1, path.name))
    if not paths:
        console.print(f"{folder}: no model and no checkpoint")
        return []
    files: list[SavedFile] = []
    with progress("Checking", len(paths)) as bar:
        for path in paths:
            files.append(_look_at(path))
            bar.advance()
    table = Table("File", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("Iteration", "Val mIoU", "Size"):
        table.add_column(column, justify="right")
    table.add_column("State")
    for file in files:
        table.add_row(
            file.path.name,
            "" if file.iteration is None else str(file.iteration),
            "" if file.val_miou is None else f"{file.val_miou:.4f}",
            format_bytes(file.size),
            "damaged" if file.damage else "whole",
        )
    console.print(table)
    console.print("Val mIoU of a checkpoint: of the best model before it")
    for file in files:
        if file.damage:
            console.print(file.damage)
    return files


def _look_at(path: Path) -> SavedFile:
    size = path.stat().st_size if path.exists() else 0
    try:
        content = read_torch_file(path)
    except InputError as error:
        return SavedFile(path, size, damage=str(error))
    try:
        kind = content.get("format")
        if kind in CHECKPOINT_FORMATS:
            miou = float(content["best_val_miou"])
        elif kind == MODEL_FORMAT:
            confusion = content["val_confusion"]
            miou = float("nan") if confusion is None else scores(confusion).miou
        else:  # a discriminator's state dict
            return SavedFile(path, size)
        known = miou if abs(miou) <= 1 else None  # not -inf, before the first evaluation; not NaN
        return SavedFile(path, size, int(content["iteration"]), known)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return SavedFile(path, size, damage=f"{path}: parts missing ({error})")


def _number(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint_(\d+)\.pth", path.name)
    return int(match[1]) if match else None


def periodic(folder: Path) -> list[tuple[int, Path]]:
    """All `checkpoint_N.pth` with their N, the newest first."""
    numbered = [(_number(path), path) for path in folder.glob("checkpoint_*.pth")]
    return sorted(((n, path) for n, path in numbered if n is not None), reverse=True)


def _older_than_newest(folder: Path, keep: int, whole: Container[Path] = ()) -> list[Path]:
    """The periodic checkpoints without the newest `keep` whole ones; [] where none is whole."""
    paths = [path for _, path in periodic(folder)]
    kept: list[Path] = []
    for path in paths:
        if len(kept) < keep and (path in whole or _look_at(path).iteration is not None):
            kept.append(path)
    return [path for path in paths if path not in kept] if kept else []


def _leftovers(folder: Path) -> Iterator[Path]:
    return folder.glob(".partial-*")


def _reason(error: BaseException) -> str:
    # torch.save reports a full disk as a RuntimeError about a position, over the system's error.
    while not isinstance(error, OSError) and error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or (str(error) or repr(error)).splitlines()[0]


def saving_failed(path: Path, error: OSError | RuntimeError) -> WorkError:
    """What to tell where a file of the family cannot be written."""
    return WorkError(
        f"{path}: cannot be written ({_reason(error)}); the files of the last save are "
        "whole: make room, then salakseg train --resume"
    )
