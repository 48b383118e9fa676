"""Writing files so that a good one is never replaced by part of another, and checking them."""

import errno
import hashlib
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

from salakseg.errors import InputError, WorkError

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_SCAN = 0xDA  # the segment after which the picture's own data begin

AT_ONCE = 1 << 26  # bytes

_locked: set[Path] = set()


def jpeg_is_cut_off(content: bytes) -> bool:
    """Whether a JPEG file ends, or goes on with something else, before its picture does. Decoders
    make up the rest in silence. What some cameras append after the picture is no matter."""
    if content.endswith(JPEG_END):
        return False
    place = len(JPEG_START)
    while content[place : place + 1] == b"\xff":
        kind, length = content[place + 1 : place + 2], content[place + 2 : place + 4]
        place += 1 if kind == b"\xff" else 2 + int.from_bytes(length, "big")
        if kind == bytes([JPEG_SCAN]):
            return JPEG_END not in content[place:]
    return True


def is_cut_off_jpeg(path: Path | str) -> bool:
    """Whether a file is a JPEG, and cut off; most are read at their ends alone."""
    with open(path, "rb") as file:
        if file.read(2) != JPEG_START:
            return False
        file.seek(-2, os.SEEK_END)
        if file.read() == JPEG_END:
            return False
        file.seek(0)
        return jpeg_is_cut_off(file.read())


@contextmanager
def atomic_path(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success flush it to disk and rename it to `path`.

    The temporary file keeps the extension (image writers choose the format by it) and begins with
    a dot, so that no listing of results shows it. On any error it is removed; `path` stays. Many
    small files are better flushed together: `flushed=False`, and `flush` before any file says that
    they are there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield temporary
        if flushed:
            flush([temporary], one_by_one=True)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class StraightToDisk(BufferedWriter):
    """A new file that does not stay in the system's memory, piece by piece, where it can be asked.

    For large files that are seldom read: else each takes half a gigabyte of the system's memory,
    from the data that is read again and again, and finding it takes longer than writing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(str(path), "wb"))
        self._pending = 0

    def write(self, content: Any, /) -> int:
        count = super().write(content)
        self._pending += count
        if self._pending >= AT_ONCE:
            self._let_go()
        return count

    def close(self) -> None:
        try:
            if not self.closed:
                self._let_go()
        finally:
            super().close()

    def _let_go(self) -> None:
        self._pending = 0
        if hasattr(os, "posix_fadvise"):
            self.flush()
            os.fdatasync(self.fileno())  # only what is on disk can be let go
            os.posix_fadvise(self.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def flush(paths: Iterable[Path], one_by_one: bool = sys.platform != "linux") -> None:
    """Have written files on the disk, not only in the system's memory, when this returns."""
    if not one_by_one:
        os.sync()  # of Linux, where it waits; a flush a file costs a disk a turn or more
        return
    for path in paths:
        # "r+b": Windows flushes only handles that may write.
        with open(path, "r+b") as file:
            os.fsync(file.fileno())


def old_folder(path: Path) -> Path:
    """Where `replace_folder` puts what was at `path`; left there, with nothing at `path`, if it is
    killed between its two steps."""
    return path.with_name(f".old-{path.name}")


def replace_folder(new: Path, path: Path) -> None:
    """Give a whole folder the name `path`, on the same disk, in the place of what has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = old_folder(path)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def lock_folder(folder: Path, what: str) -> Iterator[None]:
    """Have `folder` for oneself, by a lock on the file `.lock` in it that the system gives back.

    A process that is killed leaves the file behind, but no lock on it; nor do its children hold it.
    On a file system that knows no locks, there is none.

    Args:
        folder: made where it is missing.
        what: what needs it, as in "training".

    Raises:
        InputError: another process, or this one, has it; or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made ({error.strerror}), so {what} cannot begin; take another "
            "folder"
        ) from error
    # Removing `.lock` at the end would let a third process lock a new file while a second one gets
    # the lock of the removed one; so it stays.
    path = folder.resolve() / ".lock"
    taken = InputError(
        f"{folder}: another salakseg works in it, so {what} cannot; wait until it ends, or take "
        "another folder"
    )
    # A process never conflicts with itself, and closing any second handle would end its lock.
    if path in _locked:
        raise taken
    with open(path, "ab") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise taken from error
        _locked.add(path)
        try:
            yield
        finally:
            _locked.remove(path)


@contextmanager
def claims_in(folder: Path) -> Iterator["Claims"]:
    """Share out work by name among the processes that work in `folder`, on any machine.

    A process that is killed gives back what it had. On a file system that knows no locks every
    process gets everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claims = Claims(folder / ".claims")
    try:
        yield claims
    finally:
        claims.close()


class Claims:
    """See `claims_in`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "ab")  # noqa: SIM115 (closed by `close`)

    def take(self, name: str) -> bool:
        """Whether the work of this name is ours from here on; False while another process has it.

        Now and then two names count as one.
        """
        while True:
            try:
                _lock(self._file.fileno(), _place(name))
            except OSError as error:
                return error.errno not in (errno.EACCES, errno.EAGAIN)
            if os.fstat(self._file.fileno()).st_nlink:
                return True
            self._file.close()  # the last of the others has just removed it
            self._file = open(self._path, "ab")  # noqa: SIM115

    def give_back(self, name: str) -> None:
        """Let others have it."""
        with suppress(OSError):
            _unlock(self._file.fileno(), _place(name))

    def close(self) -> None:
        """Leave nothing behind where no other process has work; Windows removes no open file."""
        with suppress(OSError):
            if sys.platform == "win32":
                self._file.close()
            else:
                _lock(self._file.fileno(), length=0)  # all of it
            self._path.unlink()
        self._file.close()


def _place(name: str) -> int:
    # Windows counts places in files by 31 bits there.
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) & 0x7FFFFFFF


def _lock(descriptor: int, place: int = 0, length: int = 1) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, place, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        # Not flock: its lock goes with the open file, which forked loader workers share, so those
        # that outlive a killed training would hold it. This one belongs to the process alone.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, place)


def _unlock(descriptor: int, place: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, place, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk that holds `folder`, or would."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise `WorkError` unless the disk that holds `folder` has `needed` bytes free."""
    free = free_bytes(folder)
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
