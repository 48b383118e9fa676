"""`shard`: which patch goes into which tar, interrupted, damaged and called again."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from salakseg import index, shard
from salakseg.classes import read_mask
from salakseg.data.index_files import read_index
from salakseg.errors import InputError, WorkError
from salakseg.files import sha256_of


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def test_plain_webdataset_reads_them(shards_dir: Path, index_dir: Path) -> None:
    indexed = read_index(index_dir)
    rows = indexed.patches.set_index("image")
    tars = sorted(str(path) for path in shards_dir.glob("labeled-train-*.tar"))
    assert len(tars) > 1
    seen = 0
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        described = json.loads(sample["json"])
        assert "." not in sample["__key__"]
        image = indexed.data / described["image"]
        assert sample["png"] == image.read_bytes()
        expected = read_mask(indexed.data / rows.loc[described["image"]]["mask"], indexed.mapping)
        with Image.open(__import__("io").BytesIO(sample["mask.png"])) as mask:
            assert (np.asarray(mask) == expected.labels).all()
        seen += 1
    assert seen == 36


def test_unlabelled_shards_hold_no_masks(shards_dir: Path) -> None:
    for path in shards_dir.glob("unlabeled-*.tar"):
        with tarfile.open(path) as tar:
            assert not [name for name in tar.getnames() if name.endswith(".mask.png")]


def test_same_bytes_with_more_workers_and_after_an_interruption(
    shards_dir: Path, index_dir: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(shards_dir, half)
    # As a kill leaves it: some shards, a temporary one, no manifest.
    fingerprint = json.loads((half / "manifest.json").read_text(encoding="utf-8"))["fingerprint"]
    (half / ".plan").write_text(fingerprint + "\n", encoding="utf-8")
    for name in ("manifest.json", "samples.csv", "labeled-train-000000.tar"):
        (half / name).unlink()
    (half / ".partial-1-labeled-train-000000.tar").write_bytes(b"half a shard")
    shard(index_dir=index_dir, out=half, shard_size=1, num_workers=2)
    assert contents(half) == contents(shards_dir)


def test_called_again_it_packs_damaged_shards_again(
    shards_dir: Path, index_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    victim = copy / "labeled-val-000000.tar"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    shard(index_dir=index_dir, out=copy, shard_size=1, num_workers=1)
    assert contents(copy) == contents(shards_dir)


def test_another_index_needs_overwrite(
    shards_dir: Path, patch_folders: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    index(patch_folders, num_workers=1)
    with pytest.raises(InputError, match="--overwrite"):
        shard(out=copy, shard_size=1, num_workers=1)
    assert contents(copy) == contents(shards_dir)
    manifest = shard(out=copy, shard_size=1, num_workers=1, overwrite=True)
    assert manifest["counts"]["train"] + manifest["counts"]["val"] == 72


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="salakseg index"):
        shard(index_dir=tmp_path / "index")


def test_a_patch_that_changed_since(patch_folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patch_folders, data)
    index(data, num_workers=1)
    victim = next((data / "images").iterdir())
    victim.write_bytes(victim.read_bytes() + b"more")
    with pytest.raises(InputError, match=f"{victim.name}.*index the data again"):
        shard(num_workers=1)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_a_mask_that_changed_since(patch_folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patch_folders, data)
    index(data, num_workers=1)
    victim = data / "masks" / "tile1_part001_patch_000_000.png"
    with Image.open(victim) as mask:
        mask.crop((0, 0, 100, 128)).save(victim)
    with pytest.raises(InputError, match=f"{victim.name}.*index the data again"):
        shard(num_workers=1)


def test_disk_too_small(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WorkError, match="make room"):
        shard(index_dir=index_dir, num_workers=1)
    assert not (tmp_path / "shards").exists()
