"""Writing files so that a good one is never replaced by part of another, and checking them."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salakseg.errors import InputError, WorkError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success flush it to disk and rename it to `path`.

    The temporary file keeps the extension (image writers choose the format by it) and begins with
    a dot, so that no listing of results shows it. On any error it is removed; `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        # "r+b": Windows flushes only handles that may write.
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise `WorkError` unless the disk that holds `folder` has `needed` bytes free."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise WorkError(
            f"{folder}: {what} needs {format_bytes(needed)}, the disk has {format_bytes(free)} "
            "free; make room, or choose a folder on another disk"
        )


def format_bytes(count: float) -> str:
    """1536 → '1.5 KB' (steps of 1024)."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def require_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder, else raise `InputError` that names it."""
    if not path.exists():
        raise InputError(f"{path}: no such folder; {what}")
    if not path.is_dir():
        raise InputError(f"{path}: is a file, not a folder; {what}")
    return path
