"""An unfinished map on disk, so that a prediction that was killed goes on where it was.

In: blocks of labels, confidence and image, of probabilities where they are asked for. Out: any
window of them. All are raw files of fixed layout (uint8, a byte a pixel, three of the image, row by
row) in a hidden folder beside the maps, with `state.npz`: the blocks that are safely in them, what
the next block needs of the last one, and the key of everything that the pixels depend on. A scratch
of another key is discarded.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from salakseg.distributed import from_first, is_first, rank, world_size
from salakseg.errors import InputError
from salakseg.files import atomic_path, lock_folder
from salakseg.imagery.drawing import Picture, averaged
from salakseg.mapping.classify import Block

# A state holds up to some 50 MB; so often it costs next to nothing.
SAVE_SECONDS = 10.0
BANDS = ("labels", "confidence")
# The image is kept for people to look at: of a larger one, shrunk by 2, 4, 8, …
IMAGE_SIDE = 16384


def step_to_fit(shape: tuple[int, int], side: int) -> int:
    """By how much to shrink, 1, 2, 4, …, so that the longer side is `side` pixels at most."""
    step = 1
    while max(shape) > side * step:
        step *= 2
    return step


def image_step(shape: tuple[int, int]) -> int:
    """By how much an image of `shape` is shrunk."""
    return step_to_fit(shape, IMAGE_SIDE)


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
        classes: those whose probability is kept, 0 … classes - 1.
        discarded: a scratch of something else was here.
        part: which part of the blocks this process makes, "" for all.
    """

    folder: Path
    shape: tuple[int, int]
    key: dict[str, Any]
    sums: NDArray[np.uint32]
    done: int = 0
    pixels: int = 0
    carried: NDArray[np.float32] | None = None
    classes: int = 0
    discarded: bool = False
    part: str = ""

    @property
    def state(self) -> Path:
        """What is safely in the files, of this process's part."""
        return self.folder / f"state{self.part}.npz"

    @property
    def image_step(self) -> int:
        """By how much the image is shrunk."""
        return image_step(self.shape)

    def shrunk_shape(self, step: int) -> tuple[int, int]:
        """Height and width of the image, shrunk by `step`."""
        return ceil(self.shape[0] / step), ceil(self.shape[1] / step)

    def path(self, band: str) -> Path:
        """The raw file of "labels", "confidence", "image", "probability-0", …"""
        return self.folder / f"{band}.raw"

    def window(self, band: str, row: int, column: int, height: int, width: int) -> NDArray[Any]:
        """uint8 (height, width), cut off at the image's edge."""
        return read_raw(self.path(band), self.shape, row, column, height, width)

    def image_path(self, step: int) -> Path:
        """The raw file of the image, shrunk by `step`; `keep` makes that of `image_step`."""
        return self.path("image" if step == self.image_step else f"image-{step}")

    def image(self, row: int, rows: int, step: int) -> Picture:
        """Rows of the image, shrunk by `step`; cut off at its edge."""
        height, width = self.shrunk_shape(step)
        rows = max(0, min(rows, height - row))
        values = np.fromfile(
            self.image_path(step), np.uint8, rows * width * 3, offset=row * width * 3
        )
        return values.reshape(rows, width, 3)

    def keep(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Write each block as it passes, and every few seconds what is needed to go on after it."""
        with ExitStack() as stack:
            files = [stack.enter_context(open(self.path(band), "r+b")) for band in self._sizes()]
            saved = time.monotonic()
            for block in blocks:
                place, width = (block.row, block.column), self.shape[1]
                _write(files[0], width, *place, block.labels)
                _write(files[1], width, *place, block.confidence)
                self._write_image(files[2], block)
                shares = () if block.probabilities is None else block.probabilities
                for file, values in zip(files[3:], shares, strict=True):
                    _write(file, width, *place, values)
                self.done += 1
                self.pixels += block.labels.size
                # The user of the block adds to the sums before it asks for the next one.
                yield block
                if time.monotonic() - saved >= SAVE_SECONDS:
                    self._save(files, block.carried.cpu().numpy())
                    saved = time.monotonic()
            if self.done:
                self._save(files, None)

    def _write_image(self, file: BinaryIO, block: Block) -> None:
        """Each pixel that is kept is the mean of what the block with its first pixel has of it: a
        block that is made again after an interruption writes the same."""
        step = self.image_step
        row, column = ceil(block.row / step), ceil(block.column / step)
        image = block.image[row * step - block.row :, column * step - block.column :]
        if image.size:
            image = image if step == 1 else averaged(image, step)
            _write(file, self.shrunk_shape(step)[1], row, column, image)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each raw file."""
        return (
            {band: prod(self.shape) for band in BANDS}
            | {"image": 3 * prod(self.shrunk_shape(self.image_step))}
            | {probability(index): prod(self.shape) for index in range(self.classes)}
        )

    def _save(self, files: Sequence[BinaryIO], carried: NDArray[np.float32] | None) -> None:
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        with atomic_path(self.state) as temporary:
            np.savez(
                temporary,
                key=np.array(json.dumps(self.key)),
                done=np.array([self.done, self.pixels]),
                carried=np.zeros(0, np.float32) if carried is None else carried,
                sums=self.sums,
            )

    def _load(self) -> bool:
        """Take over what is there, where it is whole and of the same key."""
        try:
            with np.load(self.state, allow_pickle=False) as state:
                if json.loads(str(state["key"])) != self.key:
                    return False
                sizes = self._sizes()
                if any(self.path(band).stat().st_size != sizes[band] for band in sizes):
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


def probability(index: int) -> str:
    """The band of a class's probability."""
    return f"probability-{index}"


def _write(file: BinaryIO, width: int, row: int, column: int, values: NDArray[np.uint8]) -> None:
    """Write a window (h, w) or (h, w, 3) of a raw file that is `width` pixels wide."""
    channels = prod(values.shape[2:])
    if values.shape[1] == width:
        file.seek(row * width * channels)
        file.write(np.ascontiguousarray(values).data)
        return
    for line, pixels in enumerate(values, row):
        file.seek((line * width + column) * channels)
        file.write(pixels.tobytes())


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
    folder: Path,
    shape: tuple[int, int],
    key: dict[str, Any],
    sums: NDArray[np.uint32],
    classes: int = 0,
) -> Iterator[Scratch]:
    """Go on with the map in `folder`, or begin it; on success `folder` is gone afterwards.

    Several processes may have it together: the first one makes it, and ends it after the others.

    It stays after an interruption or failed work (memory, disk), to go on with; not after an
    `InputError`, which would come again.

    Args:
        shape: height and width of the image.
        key: plain values that everything in the map depends on.
        sums: zeros, that `keep` saves with the blocks.
        classes: of how many to keep the probabilities.

    Raises:
        InputError: another process works on this map.
    """
    part = f"-{rank() + 1}-of-{world_size()}" if world_size() > 1 else ""
    # With other bands half a map is another half: it would have holes in them.
    kept = key | ({"probabilities": classes} if classes else {})
    scratch = Scratch(folder, shape, kept, sums, classes=classes, part=part)
    if not is_first():
        from_first(lambda: None)  # it is there
        scratch._load()
        yield scratch
        return
    try:
        with lock_folder(folder, "this map"):
            there = scratch.state.exists()
            if not scratch._load():
                scratch.discarded = there
                _empty(folder)
                for band, size in scratch._sizes().items():
                    make_raw(scratch.path(band), (size, 1))
            from_first(lambda: None)
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
