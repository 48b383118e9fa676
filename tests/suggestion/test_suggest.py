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
from salakseg.suggestion import suggest as suggestion
from salakseg.suggestion.embed import Features
from salakseg.suggestion.suggest import (
    coverage_sentence,
    even_weights,
    far_from_labelled,
    far_sentences,
    measure,
    rank,
    units_of,
    weigh,
)
from tests.conftest import SAMPLES

COLD = {"generator": "tiny", "encoder_weights": "none", "device": "cpu"}
UNLABELLED = {"tile6_part008", "tile7_part009"}


def made_up(photos: dict[str, tuple[str, list[list[float]]]]) -> Features:
    """Features by photograph 'folder/name': its split, and a vector a patch."""
    rows = [
        {"folder": name.split("/")[0], "base_image": name.split("/")[1], "split": split}
        for name, (split, vectors) in photos.items()
        for _ in vectors
    ]
    patches = pd.DataFrame(rows)
    patches["key"] = [f"{row.folder}/{row.base_image}_{n}" for n, row in patches.iterrows()]
    values = np.array([v for _, vectors in photos.values() for v in vectors], np.float16)
    return Features(patches, values, values.shape[1])


def random_photos(seed: int, photos: int = 9, patches: int = 7) -> Features:
    random = np.random.default_rng(seed)
    return made_up(
        {
            f"f/{n}": (
                "train" if n == 0 else "unlabeled",
                (random.normal(size=6) * 2 + random.normal(size=(patches, 6))).tolist(),
            )
            for n in range(photos)
        }
    )


def brute_coverage(features: Features, rows: np.ndarray) -> float:
    directions = features.directions(slice(None))
    return float((directions @ directions[rows].T).max(1).clip(0, 1).mean())


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


@pytest.mark.parametrize("seed", range(4))
def test_coverage_is_what_all_pairs_give(seed: int) -> None:
    features = random_photos(seed)
    units = units_of(features.patches, "base")
    weights = np.ones(len(features.patches), np.float32)
    ranked = rank(features, units, weights, 3, len(units))
    assert sorted(ranked.base_image) == sorted(units.base_image)
    curve, gains, shares = measure(features, ranked, 3, weights, weights)
    names = ["0"]
    for place in range(len(curve)):
        rows = np.flatnonzero(features.patches.base_image.isin(names))
        assert curve[place] == pytest.approx(brute_coverage(features, rows), abs=1e-5)
        names += ranked.base_image.iloc[place : place + 1].tolist()
    np.testing.assert_allclose(np.diff(curve), gains, atol=1e-5)
    # Better than nearly all random choices.
    random = []
    for other in range(30):
        some = rank(features, units, weights, 3, 3, "random", other)
        random.append(measure(features, some, 3, weights, weights)[0][-1])
    assert curve[3] >= np.quantile(random, 0.9)
    assert 0 < shares.sum() <= 1


def test_prototypes_rank_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    features = random_photos(7, photos=40, patches=20)
    units = units_of(features.patches, "base")
    weights = np.ones(len(features.patches), np.float32)
    exact = measure(features, rank(features, units, weights, 5, 5), 5, weights, weights)[0][-1]
    monkeypatch.setattr(suggestion, "MOST_TARGETS", 64)
    monkeypatch.setattr(suggestion, "CHUNK", 256)
    by_prototypes = rank(features, units, weights, 5, 5)
    assert measure(features, by_prototypes, 5, weights, weights)[0][-1] > exact - 0.02
    assert by_prototypes.equals(rank(features, units, weights, 5, 5))
    patches = units_of(features.patches, "patch")
    assert len(rank(features, patches, weights, 5, 10)) == 10


@pytest.mark.parametrize(
    ("targets", "kinds"), [(2, [2000, 15]), (48, [100] * 30 + [5]), (32, [3000, 3000, 5])]
)
def test_a_rare_kind_of_ground_has_a_prototype(
    monkeypatch: pytest.MonkeyPatch, targets: int, kinds: list[int]
) -> None:
    monkeypatch.setattr(suggestion, "MOST_TARGETS", targets)
    monkeypatch.setattr(suggestion, "CHUNK", 512)
    for seed in range(3):
        random = np.random.default_rng(seed)
        centres = 3 * random.normal(size=(len(kinds), 16))
        values = np.repeat(centres, kinds, axis=0) + random.normal(0, 0.3, (sum(kinds), 16))
        kind = np.repeat(np.arange(len(kinds)), kinds)
        patches = pd.DataFrame({"split": "unlabeled", "kind": kind})
        weights = np.ones(len(kind), np.float32)
        directions, sums, rows = suggestion._targets(
            Features(patches, values.astype(np.float16), 16), weights, seed
        )
        assert kind[rows].max() == len(kinds) - 1
        # A prototype weighs what it stands for.
        assert len(directions) == targets and sums.sum() == len(kind)


def test_a_photo_like_a_labelled_one_comes_last() -> None:
    features = made_up(
        {
            "f/known": ("train", [[5, 0, 0], [5.1, 0.1, 0]]),
            "f/again": ("unlabeled", [[5, 0.1, 0], [5.1, 0, 0.1]]),
            "f/new": ("unlabeled", [[-5, 3, 0], [-5, 3.1, 0]]),
        }
    )
    units = units_of(features.patches, "base")
    ranked = rank(features, units, np.ones(6, np.float32), 1, 2)
    assert ranked.base_image.tolist() == ["new", "again"]


def test_large_photos_count_no_more_than_small_ones() -> None:
    """By patches the two large ones, alike, would come first: each covers its many patches."""
    large = [[5, 0, 0.1 * n] for n in range(20)]
    features = made_up(
        {
            "f/large": ("unlabeled", large),
            "f/also_large": ("unlabeled", [[5, 0.5, 0.1 * n] for n in range(20)]),
            "f/small": ("unlabeled", [[-5, 4, 0]]),
            "f/other": ("unlabeled", [[-5, -4, 3]]),
        }
    )
    even = even_weights(features.patches, "base")
    assert even.mean() == pytest.approx(1) and even[0] * 20 == pytest.approx(even[-1])
    ranked = rank(features, units_of(features.patches, "base"), even, 3, 3)
    assert {"small", "other"} < set(ranked.base_image)
    assert (even_weights(features.patches, "patch") == 1).all()


def test_unsure_patches_and_rare_classes_count_more(shards: Shards) -> None:
    classes = shards.mapping.num_classes
    pool = shards.samples[shards.samples.split == "train"].reset_index(drop=True).iloc[:3]
    rarest = int(shards.class_pixels(shards.split("train")).sum(0).argmin())
    commonest = int(shards.class_pixels(shards.split("train")).sum(0).argmax())
    values = np.zeros((3, 2 + 3 + classes), np.float16)
    values[:, 3] = [0.1, 0.5, 0.1]  # 1 − margin
    for row, c in enumerate((commonest, commonest, rarest)):
        values[row, 5 + c] = 1
    weights = weigh(Features(pool, values, 2), shards, np.ones(3, np.float32))
    assert weights.mean() == pytest.approx(1)
    assert weights[1] > weights[0] and weights[2] > weights[0]


# ------------------------------------------------------------------ what is far


def test_a_folder_unlike_everything_labelled_is_named() -> None:
    random = np.random.default_rng(0)

    def near(*centre: float) -> list[list[float]]:
        return (np.array(centre) + 0.3 * random.normal(size=(6, 3))).tolist()

    features = made_up(
        {
            "day/a": ("train", near(5, 0, 0)),
            "day/b": ("train", near(5, 1, 0)),
            "day/c": ("unlabeled", near(5, 0.5, 0)),
            "dusk/a": ("unlabeled", near(-5, 0, 4)),
            "dusk/b": ("unlabeled", near(-5, 1, 4)),
        }
    )
    far = far_from_labelled(features)
    assert far[far.level == "folder"].folder.tolist() == ["dusk", "day"]
    assert dict(zip(far.folder + far.base_image, far.far, strict=True)) == {
        "dusk": "yes",
        "day": "no",
        "duska": "yes",
        "duskb": "yes",
        "dayc": "no",
    }
    (line,) = far_sentences(far)
    assert line.startswith("Folder dusk looks like nothing you have labelled")


def test_with_one_labelled_photo_nothing_can_be_said() -> None:
    far = far_from_labelled(random_photos(0))
    assert far.empty and far_sentences(far) == []


def test_the_sentence() -> None:
    curve = np.array([0.7, 0.8, 0.86, 0.863])
    said = "1 more bring coverage from 70% to 80%"
    assert coverage_sentence(curve, 1, 2, 9) == f"{said}; after 2 more (86%) it is flat"
    assert coverage_sentence(curve, 1, None, 9) == f"{said}; after 3 more (86%) it still rises"
    # Nothing rises where nothing is left.
    assert coverage_sentence(curve, 1, None, 3) == f"{said}; all 3 to 86%"
    assert coverage_sentence(curve[:2], 1, None, 1) == said
