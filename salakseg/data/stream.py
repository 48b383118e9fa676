"""shards/ → batches.

The order (`data.order`) does not depend on who reads, and resuming is a number. Of several
processes each reads its share of every batch of the same order.

Threads read and decode ahead, whole batches, and give them in order; decoding lets others run. What
they give is uint8, with what `augment` makes its views from: draws keyed by each sample's position.
"""

import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.classes import IGNORE_INDEX
from salakseg.data.augment import plan
from salakseg.data.local_tars import LocalTars
from salakseg.data.order import Order, blocks_of, repeats_for_rare_classes
from salakseg.data.patch_decoder import decoded_image, decoded_mask
from salakseg.data.shards import Shards
from salakseg.data.workers import cores, require_workers
from salakseg.distributed import local_world_size
from salakseg.errors import InputError
from salakseg.imagery.nodata import filled

# Batches that each thread reads ahead.
AHEAD = 2
MOST_THREADS = 4
PLACE = ("offset", "bytes", "crc")
LABELED, UNLABELED = "labeled", "unlabeled"


@dataclass
class Batch:
    """Decoded patches.

    Attributes:
        images: uint8 (B, C, P, P), 3 bands or as many as the set has. Patches smaller than P are
            padded below and on the right; what is not valid is in the mean colour of the patch's
            valid pixels.
        masks: uint8 (B, P, P), class indices or 255 (always where not valid), or None for
            unlabelled patches.
        valid: bool (B, P, P), False in the padding and where the patch is transparent: no ground,
            so nothing to learn.
        entries: int64 (B,), rows of the split's samples.
        positions: int64 (B,), positions in the stream; for a split read in order, the rows again.
        plan: float32 (B, 22), what `augment.plan` draws for its views; None for a split read in
            order, which is seen as it is.
    """

    images: Tensor
    masks: Tensor | None
    valid: Tensor
    entries: Tensor
    positions: Tensor
    plan: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """All that a step needs on `device`; from pinned memory without waiting for the copy."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """In memory that a GPU copies from by itself; done by the thread that read it."""
        return self._each(Tensor.pin_memory)

    def _each(self, moved: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            images=moved(self.images),
            masks=None if self.masks is None else moved(self.masks),
            valid=moved(self.valid),
            plan=None if self.plan is None else moved(self.plan),
        )


Request = list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]


class Patches:
    """Reads and decodes rows of one split, or of two at once; threads may share it."""

    def __init__(self, shards: Shards, splits: dict[str, str]) -> None:
        self.folder, self.patch_size = shards.folder, shards.patch_size
        self.channels = shards.channels
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
        self._tars = shards.tars or LocalTars(Path(shards.folder))
        # Set while nobody waits for what is being read.
        self.stopping = threading.Event()

    def follow(self, name: str, epoch: Callable[[int], NDArray[np.int64]], start: int) -> None:
        """Have fetched ahead what is going to be read: number of an epoch → rows in their turn,
        from the position `start` on."""
        shards, _, places = self.tables[name]
        self._tars.follow(self, name, shards, places[:, 0], epoch, start)

    def read_all(self, request: Request) -> dict[str, Batch]:
        """A `Batch` for each (name, rows, positions) of the request, by name."""
        for name, _, positions in request:
            self._tars.reached(self, name, positions)
        return {name: self.read(name, rows, positions) for name, rows, positions in request}

    def read(
        self, name: str, rows: NDArray[np.int64], positions: NDArray[np.int64] | None = None
    ) -> Batch:
        """Read the given rows of one split.

        Raises:
            InputError: a damaged shard.
        """
        shards, keys, places = self.tables[name]
        size, channels = self.patch_size, self.channels
        # In NumPy, which copies in the thread that asks: torch would share it out among more.
        images = np.zeros((len(rows), channels, size, size), np.uint8)
        valid = np.zeros((len(rows), size, size), np.bool_)
        with_masks = bool((places[rows, 4] > 0).all())
        masks = np.full((len(rows), size, size), IGNORE_INDEX, np.uint8)
        for i, row in enumerate(rows.tolist()):
            where = f"{self.folder}/{shards[row]}, {keys[row]}"
            image = decoded_image(self._content(shards[row], where, places[row, :3]), where)
            height, width = image.shape[1:]
            images[i, :, :height, :width] = image[:channels]
            valid[i, :height, :width] = image[channels] > 0 if len(image) > channels else True
            if not valid[i].all():
                images[i] = np.moveaxis(filled(np.moveaxis(images[i], 0, 2), valid[i]), 2, 0)
            if with_masks:
                mask = decoded_mask(self._content(shards[row], where, places[row, 3:]), where)
                masks[i, : mask.shape[0], : mask.shape[1]] = mask
        masks[~valid] = IGNORE_INDEX
        return Batch(
            torch.from_numpy(images),
            torch.from_numpy(masks) if with_masks else None,
            torch.from_numpy(valid),
            torch.from_numpy(rows),
            torch.from_numpy(rows if positions is None else positions),
        )

    def _content(self, shard: str, where: str, place: NDArray[np.int64]) -> bytearray:
        offset, length, crc = place.tolist()

        def read() -> bytearray | None:
            """None where it is not what it was."""
            try:
                content = self._tars.read_at(shard, offset, length, self.stopping)
            except OSError as error:
                raise InputError(f"{where}: cannot be read ({error.strerror})") from error
            return content if len(content) == length and zlib.crc32(content) == crc else None

        content = read()
        if content is None and self._tars.renew(shard, offset):
            content = read()
        if content is None:
            raise InputError(f"{where}: damaged; salakseg shard finds and packs damaged shards")
        return content


def reader_threads(given: int | None, device: torch.device) -> int:
    """How many threads read: as many as asked for; by default up to 4 on a GPU, one on a CPU.

    Raises:
        InputError: fewer than 0.
    """
    require_workers(given)
    if given is None:
        # On a CPU the network itself needs the cores.
        share = cores() // local_world_size()
        return 1 if device.type == "cpu" else min(MOST_THREADS, max(1, share // 2))
    return given


ReadAll = Callable[[Request], dict[str, Batch]]


def _batches(
    read_all: ReadAll,
    requests: Iterable[Request],
    num_workers: int,
    pin_memory: bool,
    stopping: threading.Event,
) -> Generator[dict[str, Batch]]:
    """What is requested, in order; 0 workers read in the thread that asks."""
    if num_workers == 0:
        for request in requests:
            yield _read(read_all, request, pin_memory)
        return
    stopping.clear()
    card = torch.cuda.current_device() if pin_memory else None
    threads = ThreadPoolExecutor(num_workers, "reader", _begin_on, (card,))
    ahead: deque[Future[dict[str, Batch]]] = deque()
    try:
        for request in requests:
            ahead.append(threads.submit(_read, read_all, request, pin_memory))
            if len(ahead) > AHEAD * num_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        stopping.set()
        threads.shutdown(cancel_futures=True)


def _read(read_all: ReadAll, request: Request, pin_memory: bool) -> dict[str, Batch]:
    batches = read_all(request)
    if pin_memory:
        return {name: batch.pin_memory() for name, batch in batches.items()}
    return batches


def _begin_on(card: int | None) -> None:
    """For a new thread, which would be on the first card and take memory of it."""
    if card is not None:
        torch.cuda.set_device(card)


def read_split(
    shards: Shards,
    split: str,
    batch_size: int,
    num_workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Every patch of a split once, in the order of `shards.split(split)`; whole patches.

    Args:
        num_workers: threads that read ahead; 0: none beside this one.
        rank, world_size: which of several processes this one is; they take the batches in turns.

    Raises:
        InputError: a damaged shard.
    """
    rows = np.arange(len(shards.split(split)))
    starts = range(rank * batch_size, len(rows), world_size * batch_size)
    parts = [rows[start : start + batch_size] for start in starts]
    requests = [[(split, part, part)] for part in parts]
    patches = Patches(shards, {split: split})
    patches.follow(split, lambda epoch: rows if epoch == 0 else rows[:0], 0)
    with closing(
        _batches(patches.read_all, requests, num_workers, pin_memory, patches.stopping)
    ) as batches:
        for batch in batches:
            yield batch[split]


class TrainingStream:
    """Endless pairs of a labelled and an unlabelled batch.

    Its whole state is `positions`: the position in each stream at which the next batch begins. A
    new TrainingStream with `start` set to it gives the same batches from there on.

    Args:
        shards: what to read.
        batch_size: labelled patches a batch, of all processes together.
        seed: of both orders, and of the views.
        unlabeled_batch_size: unlabelled patches a batch; 0 for labelled batches alone.
        left_out: rows of the labelled training patches that are not drawn.
        start: position of the first batch in each stream.
        num_workers: threads that read ahead; 0: none beside the one that iterates.
        rank, world_size: which of several processes this one is; each gets as many patches of a
            batch, one after the other, so the first of rank 1 follows the last of rank 0.

    Raises:
        InputError: no labelled patches, or fewer than a batch, or a batch that cannot be shared
            out; from the iterator: damaged shards.
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
        if not 1 <= batch_size <= len(labeled):
            raise InputError(
                f"--batch-size {batch_size}: must be from 1 to the number of labelled training "
                f"patches ({len(labeled)})"
            )
        if batch_size % world_size:
            raise InputError(
                f"--batch-size {batch_size}: is that of the run, and cannot be shared out evenly "
                f"among {world_size} processes; take a multiple of {world_size}"
            )
        splits = {LABELED: "train"}
        sizes = {LABELED: batch_size}
        if unlabeled_batch_size:
            splits[UNLABELED] = "unlabeled"
            sizes[UNLABELED] = unlabeled_batch_size
        self.positions = {name: 0 for name in splits} | (start or {})
        self._sizes, self._rank, self._world_size = sizes, rank, world_size
        self._patches, self._seed = Patches(shards, splits), seed
        self._num_workers, self._pin_memory = num_workers, pin_memory
        self._orders = {}
        for name, split in splits.items():
            samples = shards.split(split)
            repeats = None
            if name == LABELED:
                repeats = repeats_for_rare_classes(shards.class_pixels(samples))
                repeats[[] if left_out is None else left_out] = 0
            self._orders[name] = Order(
                blocks_of(samples),
                (samples.image_bytes + samples.mask_bytes).to_numpy(np.int64),
                seed,
                name,
                repeats,
            )
            self._patches.follow(name, self._orders[name].epoch, self.positions[name])

    def __iter__(self) -> Generator[tuple[Batch, Batch | None]]:
        """From `positions` on; close it to end the threads."""
        requests = self._requests(dict(self.positions))
        with closing(
            _batches(
                self._read_all,
                requests,
                self._num_workers,
                self._pin_memory,
                self._patches.stopping,
            )
        ) as batches:
            for batch in batches:
                for name, size in self._sizes.items():
                    self.positions[name] += size
                yield batch[LABELED], batch.get(UNLABELED)

    def _read_all(self, request: Request) -> dict[str, Batch]:
        batches = self._patches.read_all(request)
        for name, batch in batches.items():
            batch.plan = torch.from_numpy(plan(self._seed, name, batch.positions.numpy()))
        return batches

    def _requests(self, start: dict[str, int]) -> Iterator[Request]:
        """What to read, batch after batch, without end."""
        for step in count():
            request = []
            for name, order in self._orders.items():
                size = self._sizes[name]
                share = size // self._world_size
                positions = start[name] + step * size + self._rank * share + np.arange(share)
                request.append((name, order.at(positions), positions))
            yield request
