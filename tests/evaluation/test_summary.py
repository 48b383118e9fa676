"""What is said of a leak between training and what is scored."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import salakseg
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import evaluate
from salakseg.evaluation.shard_split import ShardSplit
from salakseg.evaluation.summary import leak_in_words, leak_scores
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, load_model, save_model


@pytest.fixture(scope="module")
def leaky(patch_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the sample photos, split patch by patch, and a model."""
    root = tmp_path_factory.mktemp("leaky")
    salakseg.index(patch_folders, out=root / "index", split_by="patch", num_workers=1)
    salakseg.shard(index_dir=root / "index", out=root / "shards", num_workers=1)
    torch.manual_seed(0)
    mapping = read_shards(root / "shards").mapping
    save_model(root / "m.pth", Model(create_generator("tiny", 5, "none"), mapping, 128))
    return root


def test_the_leak_check_parts_patches_by_their_photographs(leaky: Path) -> None:
    shards = read_shards(leaky / "shards")
    # Without the training patches of one photo, its validation patches are no leak.
    val = shards.split("val")
    apart = val.base_image[0]
    kept = (shards.samples.base_image != apart) | (shards.samples.split == "val")
    source = ShardSplit(replace(shards, samples=shards.samples[kept]), "val")
    tally = source.score(load_model(leaky / "m.pth"), 16, 0, False)
    leak = leak_scores(tally, source)
    others = [name for name in source.base_images if name[1] != apart]
    assert leak["apart"]["patches"] == (val.base_image == apart).sum()
    assert leak["apart"]["patches"] + leak["in_training"]["patches"] == len(val)
    assert leak["apart"]["base_images"] == 1 and leak["apart"]["miou_low"] is None
    assert 0 < leak["in_training"]["base_images"] <= len(others)
    assert "from the leak and from what else" in leak_in_words(leak)


def test_a_leak_is_told_unasked_and_its_size_where_it_can_be_had(leaky: Path) -> None:
    with console.capture() as captured:
        evaluate(leaky / "m.pth", shards_dir=leaky / "shards", leak_check=True, device="cpu")
    text = captured.get()
    assert "base images are in training too" in text and "Leak check: " in text


def test_a_leak_check_on_a_folder_is_an_error(leaky: Path) -> None:
    with pytest.raises(InputError, match="--data has no training photographs"):
        evaluate(leaky / "m.pth", data=leaky, leak_check=True, device="cpu")
