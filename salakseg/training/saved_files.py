"""Which files of a run there are, whole or damaged; the command that lists and tidies them."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from salakseg.console import console, progress
from salakseg.data.problems import plural
from salakseg.errors import InputError
from salakseg.files import format_bytes, lock_folder, require_folder
from salakseg.metrics import scores
from salakseg.model.torch_files import read_torch_file
from salakseg.model.weights import MODEL_FORMAT

CHECKPOINT_FORMAT = "salakseg-checkpoint-2"
CHECKPOINT_FORMATS = (CHECKPOINT_FORMAT, "salakseg-checkpoint-1")


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
        count = plural(len(going), "file")
        console.print(f"To remove: {', '.join(path.name for path in going)}")
        if not yes and not _agreed(f"Remove {count} ({size})? [y/N] "):
            console.print("Nothing removed")
            return files
        for path in going:
            path.unlink(missing_ok=True)
        console.print(f"Removed {count}, {size}")
        return [file for file in files if file.path not in going]


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody there to ask
        console.print("(--yes removes without asking)")
        return False


def _list(folder: Path) -> list[SavedFile]:
    paths = sorted(folder.glob("*.pth"), key=lambda path: (number_of(path) or -1, path.name))
    if not paths:
        console.print(f"{folder}: no model and no checkpoint")
        return []
    files: list[SavedFile] = []
    with progress("Checking", len(paths)) as bar:
        for path in paths:
            files.append(look_at(path))
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


def look_at(path: Path) -> SavedFile:
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


def number_of(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint_(\d+)\.pth", path.name)
    return int(match[1]) if match else None


def periodic(folder: Path) -> list[tuple[int, Path]]:
    """All `checkpoint_N.pth` with their N, the newest first."""
    numbered = [(number_of(path), path) for path in folder.glob("checkpoint_*.pth")]
    return sorted(((n, path) for n, path in numbered if n is not None), reverse=True)


def _older_than_newest(folder: Path, keep: int, whole: Container[Path] = ()) -> list[Path]:
    """The periodic checkpoints without the newest `keep` whole ones; [] where none is whole."""
    paths = [path for _, path in periodic(folder)]
    kept: list[Path] = []
    for path in paths:
        if len(kept) < keep and (path in whole or look_at(path).iteration is not None):
            kept.append(path)
    return [path for path in paths if path not in kept] if kept else []


def _leftovers(folder: Path) -> Iterator[Path]:
    return folder.glob(".partial-*")
