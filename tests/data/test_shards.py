"""Reading the description of shards."""

import shutil
from pathlib import Path

import pytest

from salakseg.data.shards import read_shards
from salakseg.errors import InputError


def test_every_usable_patch_is_packed_once(shards_dir: Path, index_dir: Path) -> None:
    shards = read_shards(shards_dir)
    counts = shards.samples.split.value_counts().to_dict()
    assert counts == {"train": 36, "val": 18, "unlabeled": 18}
    assert shards.samples.key.is_unique
    assert shards.patch_size == 128


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no finished shards"),
        (lambda folder: (folder / "manifest.json").write_text("{", "utf-8"), "damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}", "utf-8"), "not written by"),
        (lambda folder: (folder / "samples.csv").write_text("x\n", "utf-8"), "damaged"),
        (lambda folder: (folder / "labeled-val-000000.tar").unlink(), "missing"),
        (lambda folder: (folder / "labeled-val-000000.tar").write_bytes(b"x"), "1 bytes long"),
    ],
)
def test_spoilt_shards_are_named(shards_dir: Path, tmp_path: Path, spoil, message: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    spoil(copy)
    with pytest.raises(InputError, match=message):
        read_shards(copy)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="salakseg shard"):
        read_shards(tmp_path / "shards")
