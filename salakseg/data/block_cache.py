"""Blocks of shards that were fetched, in a folder of bounded size that processes share.

A file a block, named by what it holds: SHA-256 of the tar, first byte, byte after the last. So two
sets of shards never take each other's, a set that was moved is known again, and a changed one is
not taken for the old. A block gets its name when it is whole. Other processes wait, by the system's
locks, while one of them fetches the same block or makes room.
"""

import os
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock

from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, format_bytes, free_bytes

GIGABYTE = 10**9
DEFAULT_GIGABYTES = 50
NAME = re.compile(r"[0-9a-f]{64}-(\d+)-(\d+)")
LOCKS = 256
# Seconds after which what another set left is taken for done with, and what is half written too.
IDLE, LEFT_BEHIND = 3600, 86400


class Block(NamedTuple):
    """A part of a tar: its SHA-256, and from which byte to which."""

    tar: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.tar}-{self.start}-{self.end}"


class BlockCache:
    """The folder.

    Args:
        folder: made where it is missing; None: the system's place for caches.
        gigabytes: how much it may hold; None: 50 GB, at most half of what the disk has.
        needed: bytes without which the reader would fetch the same again and again.

    Raises:
        InputError: `gigabytes` is less than is needed.
        WorkError: the disk is too small, the folder cannot be made.
    """

    def __init__(self, folder: Path | None, gigabytes: float | None, needed: int) -> None:
        self.folder = folder or Path(platformdirs.user_cache_dir("salakseg", appauthor=False))
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as error:
            raise self._unwritable(error) from error
        if gigabytes is None:
            room = (free_bytes(self.folder) + sum(self._held().values())) // 2
            self.limit = min(DEFAULT_GIGABYTES * GIGABYTE, room)
            if self.limit < needed:
                raise WorkError(
                    f"{self.folder}: half of what the disk has is {format_bytes(room)}, the shards "
                    f"need {format_bytes(needed)} at a time; make room, choose a --cache-dir on "
                    "another disk, or allow more with --cache-size"
                )
        else:
            self.limit = int(gigabytes * GIGABYTE)
            if self.limit < needed:
                least = -(-needed // 10**7) / 100
                raise InputError(
                    f"--cache-size {gigabytes:g}: at least {least:g} (gigabytes), which is what "
                    "reading these shards takes at a time"
                )

    def path(self, block: Block) -> Path:
        """Where a block is, or would be."""
        return self.folder / block.name

    def holds(self, block: Block) -> bool:
        """Whether it is there, and whole by its size; that counts as a use."""
        path = self.path(block)
        try:
            if path.stat().st_size != block.end - block.start:
                return False
            os.utime(path)
        except OSError:
            return False
        return True

    def fetching(self, block: Block) -> FileLock:
        """To hold while it is fetched: one process at a time, and of it one thread."""
        return self._locked(f"{zlib.crc32(block.name.encode()) % LOCKS:03}")

    def put(self, block: Block, content: bytes, next_uses: Callable[[], dict[str, float]]) -> None:
        """Keep a block, and let go of others where that takes more room than there is.

        First goes what other sets left an hour ago and more, the oldest before; then what is in
        `next_uses` (names, and how far off each is needed again), the farthest before; then the
        rest, the oldest before. Blocks that somebody has open are readable on to him.

        Raises:
            WorkError: the disk is full, or the folder cannot be written.
        """
        try:
            with self._locked("room"):
                self._make_room(len(content), next_uses)
                # Not flushed: of a power cut its size or its checksums tell.
                with atomic_path(self.path(block), flushed=False) as temporary:
                    temporary.write_bytes(content)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self, block: Block) -> None:
        """Because it is damaged."""
        with suppress(OSError):
            self.path(block).unlink()

    def _make_room(self, needed: int, next_uses: Callable[[], dict[str, float]]) -> None:
        held = self._held()
        excess = sum(held.values()) + needed - self.limit
        if excess <= 0:
            return
        excess += self.limit // 50  # not for each block anew
        far, now = next_uses(), time.time()

        def turn(name: str) -> tuple[int, float]:
            if name in far:
                return 1, -far[name]
            used = 0.0
            with suppress(OSError):
                used = (self.folder / name).stat().st_mtime
            return (0 if now - used > IDLE else 2), used

        for name in sorted(held, key=turn):
            if excess <= 0:
                return
            with suppress(OSError):  # Windows keeps what somebody reads; others remove, too
                (self.folder / name).unlink()
                excess -= held[name]

    def _held(self) -> dict[str, int]:
        """Bytes of each block that is there; by their names, which takes no look at the files."""
        found = filter(None, map(NAME.fullmatch, os.listdir(self.folder)))  # noqa: PTH208
        return {name[0]: int(name[2]) - int(name[1]) for name in found}

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(".partial-*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                    path.unlink()

    def _locked(self, name: str) -> FileLock:
        return FileLock(self.folder / "locks" / name)

    def _unwritable(self, error: OSError) -> WorkError:
        return WorkError(
            f"{self.folder}: cannot keep shards ({error.strerror or error}); choose another folder "
            "with --cache-dir"
        )
