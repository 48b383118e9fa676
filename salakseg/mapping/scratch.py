"""An unfinished map on disk, so that a prediction that was killed goes on where it was.

In: blocks of labels and confidence. Out: any window of them. Both are raw files of fixed layout
(uint8, a byte a pixel, row by row) in a hidden folder beside the maps, with `state.npz`: the blocks
that are safely in them, what the next block needs of the last one, and the key of everything that
the pixels depend on. A scratch of another key is discarded.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError
from salakseg.files import atomic_path, lock_folder
from salakseg.mapping.classify import Block

# A state holds up to some 50 MB; so often it costs next to nothing.
SAVE_SECONDS = 10.0
BANDS = ("labels", "confidence")


@dataclass
class Scratch:
    """An unfinished map.

    Attributes:
        folder: where it is; also for other files that the map is made of.
        shape: height and width of the image.
        done: blocks that are in the files.
        pixels: in these blocks.
        carried: float32 (K, rows, columns), what the last of them carried, or None.
        sums: whatever else was added up over these blocks, to be kept with them.
        discarded: a scratch of something else was here.
    """

    folder: Path
    shape: tuple[int, int]
    key: dict[str, Any]
    sums: NDArray[np.uint32]
    done: int = 0
    pixels: int = 0
    carried: NDArray[np.float32] | None = None
    discarded: bool = False

    def path(self, band: str) -> Path:
        """The raw file of "labels" or "confidence"."""
        return self.folder / f"{band}.raw"

    def window(self, band: str, row: int, column: int, height: int, width: int) -> NDArray[Any]:
        """uint8 (height, width), cut off at the image's edge."""
        return read_raw(self.path(band), self.shape, row, column, height, width)

    def keep(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Write each block as it passes, and every few seconds what is needed to go on after it."""
        with ExitStack() as stack:
            files = [stack.enter_context(open(self.path(band), "r+b")) for band in BANDS]
            saved = time.monotonic()
            for block in blocks:
                self._write(files[0], block, block.labels)
                self._write(files[1], block, block.confidence)
                self.done += 1
                self.pixels += block.labels.size
                # The user of the block adds to the sums before it asks for the next one.
                yield block
                if time.monotonic() - saved >= SAVE_SECONDS:
                    self._save(files, block.carried.cpu().numpy())
                    saved = time.monotonic()
            if self.done:
                self._save(files, None)

    def _write(self, file: BinaryIO, block: Block, values: NDArray[np.uint8]) -> None:
        width = self.shape[1]
        if values.shape[1] == width:
            file.seek(block.row * width)
            file.write(np.ascontiguousarray(values).data)
            return
        for row, line in enumerate(values, block.row):
            file.seek(row * width + block.column)
            file.write(line.tobytes())

    def _save(self, files: Sequence[BinaryIO], carried: NDArray[np.float32] | None) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        with atomic_path(self.folder / "state.npz") as temporary:
            np.savez(
                temporary,
                key=np.array(json.dumps(self.key)),
                done=np.array([self.done, self.pixels]),
                carried=np.zeros(0, np.float32) if carried is None else carried,
                sums=self.sums,
            )

    def _load(self) -> bool:
        """Take over what is there, where it is whole and of the same key."""
        size = self.shape[0] * self.shape[1]
        try:
            with np.load(self.folder / "state.npz", allow_pickle=False) as state:
                if json.loads(str(state["key"])) != self.key:
                    return False
                if any(self.path(band).stat().st_size != size for band in BANDS):
                    return False
                if state["sums"].shape != self.sums.shape:
                    return False
                self.sums[...] = state["sums"]
                self.carried = state["carried"] if state["carried"].size else None
                self.done, self.pixels = state["done"].tolist()
        # What a damaged archive raises is not one kind of error.
        except Exception:
            return False
        return True


def read_raw(
    path: Path, shape: tuple[int, int], row: int, column: int, height: int, width: int
) -> NDArray[np.uint8]:
    """A window of a raw file, a byte a pixel, of an image of `shape`; cut off at its edge."""
    if column == 0 and width >= shape[1]:
        rows = max(0, min(height, shape[0] - row))
        values = np.fromfile(path, np.uint8, rows * shape[1], offset=row * shape[1])
        return values.reshape(rows, shape[1])
    # Mapped anew each time: pages of a mapping count as memory for as long as it lasts.
    whole = np.memmap(path, np.uint8, "r", shape=shape)
    return np.array(whole[row : row + height, column : column + width])


def make_raw(path: Path, shape: tuple[int, int]) -> None:
    """Make a raw file, a byte a pixel, for an image of `shape`."""
    with path.open("wb") as file:
        file.truncate(shape[0] * shape[1])


def write_raw(
    path: Path, shape: tuple[int, int], row: int, column: int, values: NDArray[np.uint8]
) -> None:
    """Write a window of a raw file, see `read_raw`."""
    whole = np.memmap(path, np.uint8, "r+", shape=shape)
    whole[row : row + values.shape[0], column : column + values.shape[1]] = values


@contextmanager
def open_scratch(
    folder: Path, shape: tuple[int, int], key: dict[str, Any], sums: NDArray[np.uint32]
) -> Iterator[Scratch]:
    """Go on with the map in `folder`, or begin it; on success `folder` is gone afterwards.

    It stays after an interruption or failed work (memory, disk), to go on with; not after an
    `InputError`, which would come again.

    Args:
        shape: height and width of the image.
        key: plain values that everything in the map depends on.
        sums: zeros, that `keep` saves with the blocks.

    Raises:
        InputError: another process works on this map.
    """
    try:
        with lock_folder(folder, "this map"):
            scratch = Scratch(folder, shape, key, sums)
            there = (folder / "state.npz").exists()
            if not scratch._load():
                scratch.discarded = there
                _empty(folder)
                for band in BANDS:
                    make_raw(scratch.path(band), shape)
            try:
                yield scratch
            except InputError:
                _empty(folder)
                raise
            _empty(folder)
    finally:
        # The lock stays where another process has it, the rest where there is something to go on.
        if not any(path.name != ".lock" for path in folder.iterdir()):
            with suppress(OSError):
                (folder / ".lock").unlink()
                folder.rmdir()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != ".lock":
            path.unlink(missing_ok=True)
