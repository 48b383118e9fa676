"""Shards for a loop of one's own."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image
from torch.utils.data import DataLoader

import salakseg
from salakseg.data.shards import SHARDS_FORMAT, Shards
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
    samples = salakseg.webdataset(shards_dir, "train", shuffle=100)
    images, masks, described = next(iter(samples.batched(4)))
    assert images.shape == (4, 3, 128, 128) and masks.shape == (4, 128, 128)
    assert len(described) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_an_order_of_its_own_and_a_seed_gives_it_again(
    tmp_path: Path, workers: int
) -> None:
    # Four tars of five patches.
    folder = tmp_path / "shards"
    folder.mkdir()
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "png")
    for tar in range(4):
        with wds.TarWriter(str(folder / f"{tar}.tar")) as writer:
            for i in range(5):
                sample = {"__key__": f"{tar}{i}", "png": image.getvalue(), "json": b"{}"}
                writer.write(sample)
    entries = [{"name": f"{tar}.tar", "split": "train"} for tar in range(4)]
    manifest = {"format": SHARDS_FORMAT, "version": 1, "shards": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    def epochs(shuffle: int) -> list[list[str]]:
        torch.manual_seed(0)
        samples = salakseg.webdataset(folder, "train", shuffle)
        loader = DataLoader(samples, batch_size=None, num_workers=workers)
        return [[described["key"] for _, _, described in loader] for _ in range(3)]

    orders = epochs(3)
    assert len({tuple(order) for order in orders}) == 3
    assert all(len(set(order)) == len(order) == 20 for order in orders)
    assert len({tuple(sorted(order[:3])) for order in orders}) == 3  # from other tars
    assert epochs(3) == orders
    packed = epochs(0)
    assert packed[0] == packed[1] and (workers or packed[0] == sorted(packed[0]))


def test_by_http(shards_dir: Path, shards: Shards) -> None:
    pytest.importorskip("aiohttp")
    with http_server(shards_dir) as server:
        assert same(salakseg.webdataset(server.url, "val"), shards, "val")


def test_no_such_split(shards_dir: Path) -> None:
    with pytest.raises(InputError, match="has no split 'tset'; it has train, val, unlabeled"):
        salakseg.webdataset(shards_dir, "tset")
