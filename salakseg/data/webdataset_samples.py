"""shards/ for a loop of one's own: webdataset's pipeline, its samples decoded as here."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import torch
import webdataset as wds
from torch import Tensor
from webdataset.gopen import gopen_schemes

from salakseg.bucket import PACKAGES
from salakseg.data.patch_decoder import decoded_image, decoded_mask
from salakseg.data.shards import tars_of

# Here, so that it holds in the workers of a DataLoader too, which import this to decode.
for protocol in PACKAGES:
    gopen_schemes.setdefault(protocol, lambda url, *_, **__: fsspec.open(url).open())

Sample = tuple[Tensor, Tensor | None, dict[str, Any]]


def webdataset(
    shards_dir: Path | str = "shards", split: str = "train", shuffle: int = 0
) -> wds.WebDataset:
    """The patches of a split, by `webdataset.WebDataset`: batch and load it as any other.

    Each sample is its image, uint8 (bands, H, W); its mask, uint8 (H, W) of class indices and 255
    where there is no class, or None; and what is known of it: `key`, `folder`, `base_image`, ….
    They are shared out among the processes of a run and the workers of a DataLoader.

    Args:
        shards_dir: what `shard` wrote; a folder or a URL, which webdataset opens by its own means
            (https:// by curl, gs:// by gsutil; what it has none for, as s3://, by fsspec).
        split: train, val, test or unlabeled.
        shuffle: draw from so many samples at a time, and the tars in any order: another one each
            epoch, the same again after `torch.manual_seed`. 0: as they were packed.

    Raises:
        InputError: no shards, or none of this split.
    """
    tars, channels = tars_of(shards_dir, split)
    # Not webdataset's own: `shardshuffle` has one order for all epochs, `.shuffle` has no seed.
    samples = wds.WebDataset(
        tars,
        shardshuffle=False,
        nodesplitter=wds.split_by_node,
        workersplitter=partial(_drawn_tars, size=len(tars)) if shuffle else wds.split_by_worker,
        empty_check=False,  # more workers than tars
    )
    if shuffle:
        samples = samples.compose(partial(_drawn, size=shuffle))
    return samples.map(partial(decoded_sample, channels=channels))


def _drawn_tars(tars: Iterator[Any], size: int) -> Iterator[Any]:
    """Those of a worker of a DataLoader, in any order."""
    return _drawn(wds.split_by_worker(tars), size)


def _drawn(some: Iterator[Any], size: int) -> Iterator[Any]:
    """In the order of a draw of torch, which has a seed of its own in each worker and epoch."""
    seed = int(torch.randint(1 << 62, ()))
    yield from wds.shuffle(size, initial=size, seed=seed)(some)


def decoded_sample(sample: dict[str, Any], channels: int = 3) -> Sample:
    """Decode what webdataset reads of a sample; without alpha, which comes after the bands."""
    where = f"{sample['__url__']}, {sample['__key__']}"
    stored = next(sample[kind] for kind in ("png", "jpg", "tif") if kind in sample)
    image = torch.from_numpy(decoded_image(bytearray(stored), where)[:channels])
    mask = None
    if "mask.png" in sample:
        mask = torch.from_numpy(decoded_mask(bytearray(sample["mask.png"]), where))
    return image, mask, {"key": sample["__key__"], **json.loads(sample["json"])}
