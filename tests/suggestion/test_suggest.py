"""What is suggested, on real photographs and on features made up to know the answer."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from salakseg import index, shard, suggest
from salakseg.classes import ClassMapping
from salakseg.data.shards import Shards
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, save_model
from salakseg.suggestion.suggest import coverage_sentence
from tests.conftest import SAMPLES

COLD = {"generator": "tiny", "encoder_weights": "none", "device": "cpu"}
UNLABELLED = {"tile6_part008", "tile7_part009"}


def save_tiny_model(mapping: ClassMapping, path: Path) -> Path:
    torch.manual_seed(1)
    save_model(path, Model(create_generator("tiny", mapping.num_classes, "none"), mapping, 128))
    return path


# ------------------------------------------------------------------ the command


def test_cold_then_warm(
    index_dir: Path, shards_dir: Path, shards: Shards, capsys: pytest.CaptureFixture
) -> None:
    given = {"index_dir": index_dir, "shards_dir": shards_dir, "count": 2, "device": "cpu"}
    result = suggest(**given | COLD)
    said = capsys.readouterr().out
    assert "weights are random" in said and "2 more bring coverage from" in said
    table = pd.read_csv("suggestions/suggestions.csv")
    assert set(table.base_image) == UNLABELLED
    assert table["rank"].tolist() == [1, 2] and (table.patches == 9).all()
    # With both labelled every patch is covered, and each unlabelled patch belongs to one of them.
    assert result.coverage[-1] == pytest.approx(1, abs=1e-4)
    assert (np.diff(result.coverage) > 0).all()
    np.testing.assert_allclose(np.diff(result.coverage), table.value, atol=1e-4)
    assert table.share.sum() == pytest.approx(1)
    for name in ("contact_sheet.png", "coverage.png"):
        with Image.open(Path("suggestions", name)) as picture:
            assert min(picture.size) > 200
    assert set(pd.read_csv("suggestions/far.csv").base_image.dropna()) == UNLABELLED

    save_tiny_model(shards.mapping, Path("checkpoints/best_model.pth"))
    suggest(**given)
    said = capsys.readouterr().out
    assert "checkpoints/best_model.pth" in said and "by another encoder" in said
    table = pd.read_csv("suggestions/suggestions.csv")
    assert table.uncertainty.between(0, 1).all()
    assert all("%" in expected for expected in table.expected)


@pytest.mark.parametrize("strategy", ["random", "entropy", "k-centre"])
def test_the_other_strategies_and_single_patches(
    index_dir: Path, shards_dir: Path, shards: Shards, strategy: str
) -> None:
    model = save_tiny_model(shards.mapping, Path("model.pth"))
    result = suggest(
        index_dir=index_dir,
        shards_dir=shards_dir,
        model=model,
        unit="patch",
        count=3,
        strategy=strategy,
        device="cpu",
    )
    assert len(set(result.table.patch)) == 3
    assert set(result.table.base_image) <= UNLABELLED
    assert "patch" in pd.read_csv("suggestions/suggestions.csv")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "--count 0: must be 1 or more"),
        ({"count": 3}, "--count 3: only 2 photos without a mask; ask for 2 or fewer"),
        ({"unit": "flight"}, "--unit flight: choose one of base, patch"),
        ({"strategy": "best"}, "--strategy best: choose one of coverage"),
        ({"strategy": "margin"}, "--strategy margin: needs a trained model"),
        ({"shards_dir": Path("nowhere")}, "nowhere: no such folder"),
        ({"index_dir": Path("nowhere")}, "nowhere: no index there"),
        ({"model": Path("nowhere.pth")}, "nowhere.pth"),
        ({"generator": "best"}, "--generator best: no such network"),
        ({"export": SAMPLES}, "is there already"),
    ],
)
def test_what_cannot_be(
    index_dir: Path, shards_dir: Path, options: dict[str, object], said: str
) -> None:
    given = {"index_dir": index_dir, "shards_dir": shards_dir, "count": 1} | COLD
    if "model" in options:
        given |= {"generator": None, "encoder_weights": None}
    with pytest.raises(InputError, match=said) as caught:
        suggest(**given | options)
    assert "\n" not in str(caught.value)


def test_a_model_of_other_classes(index_dir: Path, shards_dir: Path) -> None:
    other = ClassMapping((("Sea", (0, 0, 9), False), ("Sand", (9, 9, 0), False)))
    save_tiny_model(other, Path("checkpoints/best_model.pth"))
    with pytest.raises(InputError, match="differ in their classes"):
        suggest(index_dir=index_dir, shards_dir=shards_dir, count=1, device="cpu")
    with pytest.raises(InputError, match="leave out --generator"):
        suggest(index_dir=index_dir, shards_dir=shards_dir, count=1, model="best.pth", **COLD)


def test_nothing_left_to_label(patch_folders: Path) -> None:
    index(patch_folders, num_workers=1)
    shard(num_workers=1)
    with pytest.raises(InputError, match=r"no unlabelled patches to choose from \(54 labelled"):
        suggest(**COLD)


def test_no_label_yet_identical_photos_and_one_patch_each(
    patch_folders: Path, capsys: pytest.CaptureFixture
) -> None:
    """Five photographs of one patch each, four of them the same."""
    Path("data/images").mkdir(parents=True)
    patches = sorted(patch_folders.glob("images/tile[13]*_000_001.png"))
    for number in range(4):
        shutil.copy(patches[0], f"data/images/same{number}.png")
    shutil.copy(patches[1], "data/images/other.png")
    index(Path("data"), class_mapping=SAMPLES / "class_mapping.csv", num_workers=1)
    shard(num_workers=1)
    result = suggest(count=5, export=Path("label"), **COLD)
    # One of the four, then the other; the rest adds nothing.
    assert result.table.base_image.str.startswith("same").tolist()[0]
    assert result.table.base_image[1] == "other"
    assert result.coverage[:3].tolist() == pytest.approx([0, 0.8, 1], abs=1e-3)
    np.testing.assert_allclose(result.table.value[2:], 0, atol=1e-6)
    assert result.far.empty and result.flat_after == 2
    # Nothing is guessed without a model: no masks that could be taken for labels.
    assert len(list(Path("label/images").iterdir())) == 5
    assert not list(Path("label/masks").iterdir())


# ------------------------------------------------------------------ ranking


# ------------------------------------------------------------------ what is far


def test_the_sentence() -> None:
    curve = np.array([0.7, 0.8, 0.86, 0.863])
    said = "1 more bring coverage from 70% to 80%"
    assert coverage_sentence(curve, 1, 2, 9) == f"{said}; after 2 more (86%) it is flat"
    assert coverage_sentence(curve, 1, None, 9) == f"{said}; after 3 more (86%) it still rises"
    # Nothing rises where nothing is left.
    assert coverage_sentence(curve, 1, None, 3) == f"{said}; all 3 to 86%"
    assert coverage_sentence(curve[:2], 1, None, 1) == said
