"""The tars of shards in a folder: bytes at places, in a random order, asked for by threads."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salakseg.data.order import BLOCK_BYTES

MOST_OPEN = 128
# Blocks that the system was asked to read ahead of time: those of some windows.
BLOCKS_REMEMBERED = 256
# Not on Windows: there a file has one place, so one thread at a time reads.
READS_AT_PLACES = hasattr(os, "preadv") and hasattr(os, "posix_fadvise")


class OpenFiles:
    """Keeps the files that were read last open; threads may share it."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, FileIO] = OrderedDict()
        self._blocks: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = threading.Lock()

    def read_at(self, path: str, offset: int, length: int) -> bytearray:
        """Bytes of a file, fewer where it ends before.

        Raises:
            OSError: as the system has it.
        """
        # bytearray: torch wants memory that it may write to.
        content = bytearray(length)
        left = memoryview(content)
        with self._lock:
            # While this name holds it, it is not closed, whoever's turn it is in `_files`.
            file = self._open(path)
            block = path, offset // BLOCK_BYTES
            known = block in self._blocks
            self._blocks[block] = None
            if len(self._blocks) > BLOCKS_REMEMBERED:
                self._blocks.popitem(last=False)
            # Network and FUSE file systems may give less than they were asked for.
            while not READS_AT_PLACES and left:
                file.seek(offset + length - len(left))
                if not (count := file.readinto(left)):
                    break
                left = left[count:]
        if READS_AT_PLACES:
            if not known:  # all of the block is wanted soon, at random places: as one long read
                start = block[1] * BLOCK_BYTES
                os.posix_fadvise(file.fileno(), start, BLOCK_BYTES, os.POSIX_FADV_WILLNEED)
            while left and (count := os.preadv(file.fileno(), [left], offset + length - len(left))):
                left = left[count:]
        return content[: length - len(left)]

    def _open(self, path: str) -> FileIO:
        file = self._files.pop(path, None) or FileIO(path)
        self._files[path] = file
        if len(self._files) > MOST_OPEN:
            self._files.popitem(last=False)
        return file

    def close(self, path: str) -> None:
        """Forget a file that was replaced, or is to be."""
        with self._lock:
            self._files.pop(path, None)


class LocalTars:
    """Tars that are here. `RemoteTars` answers to the same calls; here most are nothing to do."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, OpenFiles()

    def read_at(self, shard: str, offset: int, length: int, stopping: threading.Event) -> bytearray:
        """Bytes of a tar, fewer where it ends before; `OSError` as the system has it."""
        return self._files.read_at(f"{self._folder}{os.sep}{shard}", offset, length)

    def renew(self, shard: str, offset: int) -> bool:
        """Whether there is another source for what is damaged."""
        return False

    def follow(
        self,
        reader: object,
        name: str,
        shards: list[str],
        offsets: NDArray[np.int64],
        epoch: Callable[[int], NDArray[np.int64]],
        start: int,
    ) -> None:
        """What a reader is going to ask for."""

    def reached(self, reader: object, name: str, positions: NDArray[np.int64]) -> None:
        """How far a reader is."""
