"""Shards for a loop of one's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds

import salakseg
from salakseg.data.shards import Shards
from salakseg.data.stream import read_split
from salakseg.errors import InputError
from tests.servers import http_server


def same(samples: wds.WebDataset, shards: Shards, split: str) -> bool:
    [batch] = read_split(shards, split, 100)
    known = shards.split(split)
    count = 0
    for image, mask, described in samples:
        row = int(np.flatnonzero(known.key == described["key"])[0])
        assert image.dtype == torch.uint8 and torch.equal(image, batch.images[row])
        assert (mask is None) == (batch.masks is None)
        assert mask is None or torch.equal(mask, batch.masks[row])  # type: ignore[index]
        assert described["base_image"] == known.base_image[row]
        count += 1
    return count == len(known)


@pytest.mark.parametrize("split", ["train", "val", "unlabeled"])
def test_the_same_patches_as_training_sees(shards_dir: Path, shards: Shards, split: str) -> None:
    assert same(salakseg.webdataset(shards_dir, split), shards, split)


def test_in_two_lines(shards_dir: Path) -> None:
    samples = salakseg.webdataset(shards_dir, "train").shuffle(100)
    images, masks, described = next(iter(samples.batched(4)))
    assert images.shape == (4, 3, 128, 128) and masks.shape == (4, 128, 128)
    assert len(described) == 4


def test_by_http(shards_dir: Path, shards: Shards) -> None:
    pytest.importorskip("aiohttp")
    with http_server(shards_dir) as server:
        assert same(salakseg.webdataset(server.url, "val"), shards, "val")


def test_no_such_split(shards_dir: Path) -> None:
    with pytest.raises(InputError, match="has no split 'tset'; it has train, val, unlabeled"):
        salakseg.webdataset(shards_dir, "tset")
