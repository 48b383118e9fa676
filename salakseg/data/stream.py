"""shards/ → batches, in an order that is a pure function of the seed.

Position p of a stream is epoch p // N, place p % N. An epoch's order is: shards permuted, cut into
windows of a few shards (≤ 1 GB), samples permuted inside a window, all by counter-based draws keyed
(seed, stream, epoch). So reads stay inside a window that the page cache holds, the order does not
depend on workers, and resuming is a number. Under several processes, rank r of W takes the
positions r, r + W, … of the same order.

Workers only read and decode; what they return is uint8. Views are made from whole batches by
`augment`, with draws keyed by each sample's position.
"""

import os
import signal
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image

from salakseg.classes import IGNORE_INDEX
from salakseg.data.draws import draw_bits
from salakseg.data.shards import Shards
from salakseg.errors import InputError
from salakseg.imagery.nodata import filled

WINDOW_BYTES = 1_000_000_000
OPEN_SHARDS = 64
# A class whose share of the labelled pixels is under this part of an even share is rare, and a
# patch counts for it where it covers at least this part of the patch.
RARE_SHARE = 0.5
RARE_COVER = 0.01
MOST_REPEATS = 4
PLACE = ("offset", "bytes", "crc")
LABELED, UNLABELED = "labeled", "unlabeled"


@dataclass
class Batch:
    """Decoded patches.

    Attributes:
        images: uint8 (B, 3, P, P). Patches smaller than P are padded below and on the right; what
            is not valid is in the mean colour of the patch's valid pixels.
        masks: uint8 (B, P, P), class indices or 255 (always where not valid), or None for
            unlabelled patches.
        valid: bool (B, P, P), False in the padding: no ground, so nothing to learn.
        entries: int64 (B,), rows of the split's samples.
        positions: int64 (B,), positions in the stream; for a split read in order, the rows again.
    """

    images: Tensor
    masks: Tensor | None
    valid: Tensor
    entries: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> "Batch":
        """All pixels on `device`; from pinned memory without waiting for the copy."""
        return Batch(
            self.images.to(device, non_blocking=True),
            None if self.masks is None else self.masks.to(device, non_blocking=True),
            self.valid.to(device, non_blocking=True),
            self.entries,
            self.positions,
        )

    def pin_memory(self) -> "Batch":
        """Called by the loader where the device is a GPU."""
        return Batch(
            self.images.pin_memory(),
            None if self.masks is None else self.masks.pin_memory(),
            self.valid.pin_memory(),
            self.entries,
            self.positions,
        )


class Order:
    """The endless order of one stream: position → row of the split's samples.

    Args:
        shards: int64 (N,), the number of the shard that each row lies in.
        sizes: int64 (N,), bytes of each row.
        seed, stream: key of the draws.
        repeats: int64 (N,), how often each row stands in an epoch; None is once.
    """

    def __init__(
        self,
        shards: NDArray[np.int64],
        sizes: NDArray[np.int64],
        seed: int,
        stream: str,
        repeats: NDArray[np.int64] | None = None,
    ) -> None:
        self.rows = np.repeat(np.arange(len(shards)), 1 if repeats is None else repeats)
        self.shards = shards[self.rows]
        self.shard_sizes = np.bincount(shards, weights=sizes).astype(np.int64)
        self.seed, self.stream = seed, stream
        self._epoch = lru_cache(maxsize=2)(self._order_epoch)

    def __len__(self) -> int:
        """N, the entries of an epoch."""
        return len(self.rows)

    def _order_epoch(self, epoch: int) -> NDArray[np.int64]:
        key = (self.seed, f"{self.stream} order", epoch)
        count = len(self.shard_sizes)
        bits = draw_bits(*key, count + len(self))
        turn = np.argsort(bits[:count], kind="stable")
        window = np.empty(count, np.int64)
        window[turn] = _cut(self.shard_sizes[turn])
        return self.rows[np.lexsort((bits[count:], window[self.shards]))]

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows at the given positions."""
        epochs, places = np.divmod(positions, len(self))
        return np.array(
            [self._epoch(int(e))[p] for e, p in zip(epochs, places, strict=True)], np.int64
        )


def _cut(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the window of each shard: as many in turn as fit `WINDOW_BYTES`, at least one."""
    windows, window, filled = [], 0, 0
    for size in sizes.tolist():
        if filled and filled + size > WINDOW_BYTES:
            window, filled = window + 1, 0
        filled += size
        windows.append(window)
    return np.array(windows, np.int64)


def repeats_for_rare_classes(class_pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each labelled patch stands in an epoch: repeat factors of Gupta et al. 2019.

    "LVIS: A Dataset for Large Vocabulary Instance Segmentation", appendix B, on shares of pixels:
    class c with share f_c gets r_c = √(t / f_c), with t half of an even share; a patch takes the
    largest r_c of the classes that cover 1 % of it, rounded, from 1 to 4.

    Args:
        class_pixels: int64 (N, K).

    Returns:
        int64 (N,).
    """
    total = class_pixels.sum()
    if total == 0:
        return np.ones(len(class_pixels), np.int64)
    share = class_pixels.sum(0) / total
    wanted = RARE_SHARE / class_pixels.shape[1]
    factor = np.sqrt(wanted / np.maximum(share, 1e-12))
    cover = class_pixels / np.maximum(class_pixels.sum(1, keepdims=True), 1)
    largest = np.where(cover >= RARE_COVER, factor, 0).max(1)
    return np.clip(np.rint(largest), 1, MOST_REPEATS).astype(np.int64)


Request = list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]


class Patches(Dataset[dict[str, Batch] | str]):
    """Reads and decodes rows of one split, or of two at once: a worker's whole job.

    An index is a list of (name, rows, positions); the result has a `Batch` a name, or a string:
    what is wrong with the shards. (An exception would reach the user with a worker's traceback.)
    """

    def __init__(self, shards: Shards, splits: dict[str, str]) -> None:
        self.folder, self.patch_size = shards.folder, shards.patch_size
        self.tables = {}
        for name, split in splits.items():
            samples = shards.split(split)
            self.tables[name] = (
                samples.shard.tolist(),
                samples.key.tolist(),
                samples[
                    [f"{part}_{what}" for part in ("image", "mask") for what in PLACE]
                ].to_numpy(np.int64),
            )
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    def __getitem__(
        self,
        index: Request,
    ) -> dict[str, Batch] | str:
        try:
            return {name: self.read(name, rows, positions) for name, rows, positions in index}
        except InputError as error:
            return str(error)

    def read(
        self, name: str, rows: NDArray[np.int64], positions: NDArray[np.int64] | None = None
    ) -> Batch:
        """Read the given rows of one split."""
        shards, keys, places = self.tables[name]
        size = self.patch_size
        images = torch.zeros(len(rows), 3, size, size, dtype=torch.uint8)
        valid = torch.zeros(len(rows), size, size, dtype=torch.bool)
        with_masks = bool((places[rows, 4] > 0).all())
        masks = torch.full((len(rows), size, size), IGNORE_INDEX, dtype=torch.uint8)
        for i, row in enumerate(rows.tolist()):
            where = f"{self.folder / shards[row]}, {keys[row]}"
            image = self._decode(shards[row], where, places[row, :3], ImageReadMode.RGB)
            images[i, :, : image.shape[1], : image.shape[2]] = image
            valid[i, : image.shape[1], : image.shape[2]] = True
            shown = filled(images[i].permute(1, 2, 0).numpy(), valid[i].numpy())
            images[i] = torch.from_numpy(shown).permute(2, 0, 1)
            if with_masks:
                mask = self._decode(shards[row], where, places[row, 3:], ImageReadMode.UNCHANGED)
                masks[i, : mask.shape[1], : mask.shape[2]] = mask[0]
        return Batch(
            images,
            masks if with_masks else None,
            valid,
            torch.from_numpy(rows),
            torch.from_numpy(rows if positions is None else positions),
        )

    def _decode(
        self, shard: str, where: str, place: NDArray[np.int64], mode: ImageReadMode
    ) -> Tensor:
        offset, length, crc = place.tolist()
        try:
            file = self._open(shard)
            file.seek(offset)
            # bytearray: torch wants memory that it may write to.
            content = bytearray(file.read(length))
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror})") from error
        if len(content) != length or zlib.crc32(content) != crc:
            raise InputError(f"{where}: damaged; salakseg shard finds and packs damaged shards")
        try:
            return decode_image(torch.frombuffer(content, dtype=torch.uint8), mode)
        except RuntimeError as error:
            raise InputError(f"{where}: cannot be decoded ({error})") from error

    def _open(self, shard: str) -> BinaryIO:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        file = open(self.folder / shard, "rb", buffering=0)  # noqa: SIM115
        # A window's shards are all read soon, at random places: ask for each as one long read.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        self._files[shard] = file
        if len(self._files) > OPEN_SHARDS:
            self._files.popitem(last=False)[1].close()
        return self._files[shard]

    def __getstate__(self) -> dict[str, object]:
        """Open files stay behind when a worker is started."""
        return {**self.__dict__, "_files": OrderedDict()}


def leave_interrupts_to_the_main_process(_: int) -> None:
    """Ctrl-C reaches a whole terminal; the main process alone decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batches(
    patches: Patches,
    requests: "list[Request] | _Requests",
    num_workers: int,
    pin_memory: bool,
) -> Iterator[dict[str, Batch]]:
    loader = DataLoader(
        patches,
        batch_size=None,
        sampler=requests,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_interrupts_to_the_main_process,
        prefetch_factor=4 if num_workers else None,
        # Its own generator: the loader's base seed must not be drawn from torch's global one.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch


def read_split(
    shards: Shards, split: str, batch_size: int, num_workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """Every patch of a split once, in the order of `shards.split(split)`; whole patches.

    Raises:
        InputError: a damaged shard.
    """
    rows = np.arange(len(shards.split(split)))
    requests = [
        [(split, part, part)]
        for part in np.split(rows, np.arange(batch_size, len(rows), batch_size))
        if len(part)
    ]
    for batch in _batches(Patches(shards, {split: split}), requests, num_workers, pin_memory):
        yield batch[split]


class _Requests:
    """What the loader asks workers for, batch after batch, without end."""

    def __init__(
        self, orders: dict[str, tuple[Order, int, int]], rank: int, world_size: int
    ) -> None:
        self.orders, self.rank, self.world_size = orders, rank, world_size

    def __iter__(self) -> Iterator[Request]:
        step = 0
        while True:
            request = []
            for name, (order, start, batch_size) in self.orders.items():
                local = np.arange(step * batch_size, (step + 1) * batch_size)
                positions = start + local * self.world_size + self.rank
                request.append((name, order.at(positions), positions))
            yield request
            step += 1


class TrainingStream:
    """Endless pairs of a labelled and an unlabelled batch.

    Its whole state is `positions`: the position in each stream at which the next batch begins. A
    new TrainingStream with `start` set to it gives the same batches from there on.

    Args:
        shards: what to read.
        batch_size: labelled patches a batch and process.
        seed: of both orders.
        unlabeled_batch_size: unlabelled patches a batch; 0 for labelled batches alone.
        left_out: rows of the labelled training patches that are not drawn.
        start: position of the first batch in each stream.
        rank, world_size: which of several processes this one is.

    Raises:
        InputError: no labelled patches, or fewer than a batch; from the iterator: damaged shards.
    """

    def __init__(
        self,
        shards: Shards,
        batch_size: int,
        *,
        seed: int,
        unlabeled_batch_size: int = 0,
        left_out: NDArray[np.int64] | None = None,
        start: dict[str, int] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        labeled = shards.split("train")
        if labeled.empty:
            raise InputError(
                f"{shards.folder}: no labelled training patches; S4GAN needs some masks: "
                "add them to masks/, then index and shard again"
            )
        if not 1 <= batch_size * world_size <= len(labeled):
            raise InputError(
                f"--batch-size {batch_size}: must be from 1 to the number of labelled training "
                f"patches ({len(labeled)})"
            )
        splits = {LABELED: "train"}
        sizes = {LABELED: batch_size}
        if unlabeled_batch_size:
            splits[UNLABELED] = "unlabeled"
            sizes[UNLABELED] = unlabeled_batch_size
        self.positions = {name: 0 for name in splits} | (start or {})
        self._steps = {name: sizes[name] * world_size for name in splits}
        orders = {}
        for name, split in splits.items():
            samples = shards.split(split)
            repeats = None
            if name == LABELED:
                repeats = repeats_for_rare_classes(shards.class_pixels(samples))
                repeats[[] if left_out is None else left_out] = 0
            order = Order(
                samples.shard.factorize()[0].astype(np.int64),
                (samples.image_bytes + samples.mask_bytes).to_numpy(np.int64),
                seed,
                name,
                repeats,
            )
            orders[name] = (order, self.positions[name], sizes[name])
        self._source = _batches(
            Patches(shards, splits), _Requests(orders, rank, world_size), num_workers, pin_memory
        )

    def __iter__(self) -> Iterator[tuple[Batch, Batch | None]]:
        for batch in self._source:
            for name, step in self._steps.items():
                self.positions[name] += step
            yield batch[LABELED], batch.get(UNLABELED)
