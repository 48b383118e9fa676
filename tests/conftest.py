"""One small real data set for all tests: crops of eight aerial photos, cut, indexed and packed."""

from pathlib import Path

import pytest
import torch

from salakseg import index, patchify, shard
from salakseg.data.shards import Shards, read_shards

SAMPLES = Path(__file__).parent / "samples" / "dubai"
PATCH_SIZE = 128
SPLIT = {
    "tile1_part001": "train",
    "tile2_part004": "val",
    "tile3_part005": "train",
    "tile4_part002": "train",
    "tile5_part006": "train",
    "tile6_part008": "unlabeled",
    "tile7_part009": "unlabeled",
    "tile8_part001": "val",
}


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults like `index/` are relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    # Who runs the tests may be logged in to W&B.
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks do not gain by more; on a busy machine two wait for each other, computing."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def patch_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photos as patches of 128 pixels: 9 a photo, 72 in all."""
    out = tmp_path_factory.mktemp("data") / "patches"
    patchify(SAMPLES, out=out, size=PATCH_SIZE, num_workers=1)
    return out


@pytest.fixture(scope="session")
def split_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos to train on, two for validation, two without masks."""
    path = tmp_path_factory.mktemp("split") / "split.csv"
    rows = [f"{name},{split}" for name, split in SPLIT.items()]
    path.write_text("\n".join(["base_image,split", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def index_dir(
    patch_folders: Path, split_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The index of `patch_folders`."""
    out = tmp_path_factory.mktemp("indexed") / "index"
    index(patch_folders, out=out, split_file=split_file, num_workers=1)
    return out


@pytest.fixture(scope="session")
def shards_dir(index_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its shards, of about a megabyte each."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    shard(index_dir=index_dir, out=out, shard_size=1, num_workers=1)
    return out


@pytest.fixture(scope="session")
def shards(shards_dir: Path) -> Shards:
    """What `read_shards` makes of them."""
    return read_shards(shards_dir)
