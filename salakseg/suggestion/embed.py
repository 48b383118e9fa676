"""Patches → features, streamed from shards/ into a file of half-precision numbers.

In: the patches that are trained on or could be (splits train and unlabeled; their masks are not
opened) and a network. Out: `features.f16`, a row a patch, and `features.json`, which says what it
was made from. A row holds the averages over the patch of the encoder's last three stages and, where
the network is a trained model, how unsure it is there and what it expects to see.

The file grows by whole blocks. A run that was stopped goes on after the last of them; a file made
by another encoder or from other shards is made again.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.console import console, progress
from salakseg.data.shards import Shards
from salakseg.data.stream import read_split
from salakseg.device import autocast_dtype, out_of_memory_is
from salakseg.distributed import everyones, from_first, is_first, rank, world_size
from salakseg.errors import InputError, WorkError
from salakseg.files import require_disk_space, write_text
from salakseg.model.applicability import Scaling
from salakseg.model.features import Enough, stage_means, stage_outputs
from salakseg.model.generator import Generator
from salakseg.model.weights import Model
from salakseg.suggestion.strategies import UNCERTAINTIES

FEATURES, HEADER = "features.f16", "features.json"
FORMAT = "salakseg-features-1"
# Rows that are written at a time, about; and rows that are read at a time.
WRITTEN = 256
BLOCK = 1024
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Features:
    """What `embed` made; N patches, D features, K classes.

    Attributes:
        patches: the samples of the shards, N rows in the order of `values`.
        values: float16 (N, D), or (N, D + 3 + K) of a trained model: features, the averages over
            the patch of 1 − confidence, 1 − margin and entropy / log K (each 0 to 1, large where
            the model is unsure), and of each class's probability. On disk.
        size: D.
    """

    patches: pd.DataFrame
    values: NDArray[np.float16]
    size: int

    @cached_property
    def _scaling(self) -> Scaling:
        total, squares = np.zeros(self.size), np.zeros(self.size)
        for start in range(0, len(self.values), BLOCK):
            block = self.values[start : start + BLOCK, : self.size].astype(np.float64)
            total += block.sum(0)
            squares += (block**2).sum(0)
        return Scaling.of(total, squares, len(self.values))

    def directions(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Standardised features of length 1, float32 (rows, D): a product of two is a similarity.

        What does not differ from the mean has one direction of its own, so that alike is alike.
        """
        features = self._scaling.standardised(self.values[rows, : self.size])
        length = np.linalg.norm(features, axis=1, keepdims=True)
        features[length[:, 0] == 0] = 1
        return features / np.where(length == 0, np.sqrt(np.float32(self.size)), length)

    @property
    def warm(self) -> bool:
        """Whether a trained model made them."""
        return self.values.shape[1] > self.size

    def unsure(self, kind: str) -> NDArray[np.float32]:
        """float32 (N,): 1 − confidence, 1 − margin or entropy, 0 to 1; of a trained model only."""
        return self.values[:, self.size + UNCERTAINTIES.index(kind)].astype(np.float32)

    @property
    def class_shares(self) -> NDArray[np.float32]:
        """float32 (N, K): the share of each patch that the model gives to each class."""
        return self.values[:, self.size + len(UNCERTAINTIES) :].astype(np.float32)


def pool_of(shards: Shards) -> pd.DataFrame:
    """The patches that are trained on or could be, those of one base image and split together."""
    samples = shards.samples
    return samples[samples.split.isin(("train", "unlabeled"))].reset_index(drop=True)


def embed(
    shards: Shards,
    model: Model,
    *,
    out: Path,
    trained: bool,
    batch_size: int | None = None,
    num_workers: int = 0,
    amp: bool | None = None,
) -> Features:
    """Features of every patch of `pool_of(shards)`; only what is missing is computed. Of several
    processes each computes its share of the batches; the first one writes, and gets them.

    Args:
        model: whose encoder it is.
        out: folder of the two files.
        trained: whether the model's predictions mean something and are to be kept too.
        batch_size: patches at a time; None: by device.
        amp: mixed precision; None: where the device is fast at it.

    Raises:
        InputError: a network whose stages are not known; damaged shards.
        WorkError: disk full, out of memory.
    """
    pool = pool_of(shards)
    device = model.generator.mean.device
    if batch_size is None:
        batch_size = 64 if device.type == "cuda" else 16
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be 1 or more")
    # Without predictions to keep, a decoder, often dearer than the encoder, need not run.
    with stage_outputs(model.generator, stop=not trained) as stages:
        side = shards.patch_size
        blank = torch.zeros(1, shards.channels, side, side, dtype=torch.uint8, device=device)
        size = _row(model, blank, stages, False, amp).shape[1]
        columns = size + (len(UNCERTAINTIES) + model.mapping.num_classes if trained else 0)
        header = {
            "format": FORMAT,
            "shards": shards.fingerprint,
            "encoder": _identity(model.generator, trained, autocast_dtype(device, amp)),
            "rows": len(pool),
            "columns": columns,
            "features": size,
        }
        path = out / FEATURES
        # Whole batches, so that a run that goes on computes the same batches.
        block = batch_size * -(-WRITTEN // batch_size)
        done = from_first(lambda: _rows_done(out, header, block))
        missing = len(pool) - done
        if missing:
            if is_first():
                needed = missing * columns * 2
                require_disk_space(out, needed, "keeping the features of the patches")
            # Under one split of its own, read_split reads the rest of the pool in its order.
            rest = pool.iloc[done:].assign(split="pool", mask_bytes=0)
            source = replace(shards, samples=rest)
            try:
                with (
                    out_of_memory_is(f"{device}: use a smaller --batch-size"),
                    progress("Embedding", len(pool)) as bar,
                    open(path if is_first() else os.devnull, "ab") as file,
                ):
                    bar.advance(done)
                    batches = read_split(
                        source,
                        "pool",
                        batch_size,
                        num_workers,
                        device.type == "cuda",
                        rank(),
                        world_size(),
                    )
                    rows: list[NDArray[np.float16]] = []
                    for _ in range(-(-missing // (batch_size * world_size()))):
                        batch = next(batches, None)
                        own = np.zeros((0, columns), np.float16)
                        if batch is not None:
                            images = batch.images.to(device, non_blocking=True)
                            own = _row(model, images, stages, trained, amp)
                        rows += everyones(own)
                        bar.advance(sum(map(len, rows[-world_size() :])))
                        if sum(map(len, rows)) >= block:
                            _append(file, rows)
                    _append(file, rows)
            except OSError as error:
                raise WorkError(f"{path}: cannot be written ({error.strerror})") from error
    if not is_first():
        return Features(pool, np.zeros((0, columns), np.float16), size)
    return Features(pool, np.memmap(path, np.float16, "r", shape=(len(pool), columns)), size)


def _append(file: Any, rows: list[NDArray[np.float16]]) -> None:
    for row in rows:
        file.write(row.tobytes())
    rows.clear()
    file.flush()
    if is_first():
        os.fsync(file.fileno())


def _rows_done(out: Path, header: dict[str, Any], block: int) -> int:
    """How many rows of a file that fits `header` are there, in whole blocks; the rest is cut off.

    A file that does not fit is removed, with a word.
    """
    path, header_path = out / FEATURES, out / HEADER
    try:
        found = json.loads(header_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != header:
        if path.exists():
            same = isinstance(found, dict) and found.get("shards") == header["shards"]
            reason = "by another encoder" if same else "from other shards"
            console.print(f"{path}: made {reason}, so it is made again")
        path.unlink(missing_ok=True)
        write_text(header_path, json.dumps(header, indent=1) + "\n")
        return 0
    if not path.exists():
        return 0
    row_bytes = 2 * header["columns"]
    rows = path.stat().st_size // row_bytes
    if rows < header["rows"]:
        rows -= rows % block
        console.print(f"{path}: going on after {rows} of {header['rows']} patches")
    rows = min(rows, header["rows"])
    os.truncate(path, rows * row_bytes)
    return rows


def _identity(generator: Generator, trained: bool, dtype: torch.dtype | None) -> str:
    """Tells encoders apart: by network, weights and precision."""
    digest = sha256(f"{generator.name} {trained} {dtype}".encode())
    for key, value in generator.state_dict().items():
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _row(
    model: Model, images: Tensor, stages: list[Tensor], trained: bool, amp: bool | None
) -> NDArray[np.float16]:
    """uint8 (B, C, P, P) → float16 (B, columns)."""
    stages.clear()
    with suppress(Enough):
        probabilities = model.probabilities(images, amp)  # (B, K, P, P)
    parts = [stage_means(stages)]
    if trained:
        top = probabilities.topk(2, 1).values  # (B, 2, P, P)
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(1)
        entropy = entropy / np.log(probabilities.shape[1])
        unsure = torch.stack([1 - top[:, 0], 1 - (top[:, 0] - top[:, 1]), entropy], 1)
        parts += [unsure.mean((2, 3)), probabilities.mean((2, 3))]
    row = torch.cat(parts, 1).clamp(-LARGEST_HALF, LARGEST_HALF)
    return row.half().cpu().numpy()
