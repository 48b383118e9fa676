"""The ranking against brute force, on made-up features."""

import numpy as np
import pandas as pd
import pytest

from salakseg.data.shards import Shards
from salakseg.suggestion import ranking
from salakseg.suggestion.embed import Features
from salakseg.suggestion.ranking import even_weights, measure, rank, units_of, weigh
from tests.suggestion.made_up import made_up, random_photos


def brute_coverage(features: Features, rows: np.ndarray) -> float:
    directions = features.directions(slice(None))
    return float((directions @ directions[rows].T).max(1).clip(0, 1).mean())


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
    monkeypatch.setattr(ranking, "MOST_TARGETS", 64)
    monkeypatch.setattr(ranking, "CHUNK", 256)
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
    monkeypatch.setattr(ranking, "MOST_TARGETS", targets)
    monkeypatch.setattr(ranking, "CHUNK", 512)
    for seed in range(3):
        random = np.random.default_rng(seed)
        centres = 3 * random.normal(size=(len(kinds), 16))
        values = np.repeat(centres, kinds, axis=0) + random.normal(0, 0.3, (sum(kinds), 16))
        kind = np.repeat(np.arange(len(kinds)), kinds)
        patches = pd.DataFrame({"split": "unlabeled", "kind": kind})
        weights = np.ones(len(kind), np.float32)
        directions, sums, rows = ranking._targets(
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
