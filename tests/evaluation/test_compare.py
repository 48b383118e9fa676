"""Verdicts about models whose scores are known, from tallies made by hand and from real passes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from salakseg.classes import ClassMapping, read_class_mapping
from salakseg.console import console
from salakseg.data.shards import Shards, read_shards
from salakseg.errors import InputError
from salakseg.evaluation.compare import Rated, compare, points
from salakseg.evaluation.evaluate import evaluate
from salakseg.evaluation.shard_split import ShardSplit
from salakseg.evaluation.tally import Tally
from salakseg.metrics import LEVELS
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, load_model, save_model

SAMPLES = Path(__file__).parents[1] / "samples" / "dubai"
NAMES = ("Road", "Water")
BASE_IMAGES = 12


class TwoClasses:
    """Stands for a data set: twelve base images of one patch each."""

    mapping = ClassMapping(tuple((name, (i, i, i), False) for i, name in enumerate(NAMES)))
    names = [f"photo{n}" for n in range(BASE_IMAGES)]  # noqa: RUF012


def rated(
    name: str, road: float, water: float, method: str = "s4gan", wobble: float = 0.02, **options
) -> Rated:
    """A model that has these shares of the two classes right, a little more or less by photo."""
    confusions = np.zeros((BASE_IMAGES, 2, 2), np.int64)
    for photo in range(BASE_IMAGES):
        for index, share in enumerate((road, water)):
            right = round(1000 * (share + wobble * np.sin(photo + 3 * index)))
            confusions[photo, index, index], confusions[photo, index, 1 - index] = (
                right,
                1000 - right,
            )
    tally = Tally(
        confusions,
        confusions.trace(axis1=1, axis2=2),
        confusions.sum((1, 2)),
        np.zeros((2, 2, LEVELS + 1), np.int64),
        np.zeros((2, 2), np.int64),
    )
    return Rated(name, "tiny", 300, {"options": {"method": method, **options}}, tally)


def seeds(name: str, road: float, water: float, method: str = "s4gan", **options) -> list[Rated]:
    """Three models, a little apart."""
    apart = (-0.002, 0, 0.002)
    return [
        rated(f"{name}{seed}.pth", road + by, water + by, method, seed=seed, **options)
        for seed, by in enumerate(apart)
    ]


def test_what_unlabelled_data_did_is_a_sentence() -> None:
    ours, theirs = seeds("ours", 0.9, 0.8), seeds("theirs", 0.8, 0.801, "supervised")
    result = compare(ours, theirs, TwoClasses())
    difference = result["miou"]["difference"]
    assert result["verdict"].startswith(f"Unlabelled data: {points(difference)} mIoU (95% ")
    assert ", mostly Road +" in result["verdict"]
    assert result["miou"]["real"] and result["miou"]["low"] < difference < result["miou"]["high"]
    assert "the luck of a run is in the interval" in " ".join(result["notes"])


def test_a_loss_is_told_as_plainly_as_a_gain() -> None:
    ours, theirs = seeds("ours", 0.8, 0.7), seeds("theirs", 0.8, 0.9, "supervised")
    verdict = compare(ours, theirs, TwoClasses())["verdict"]
    assert verdict.startswith("Unlabelled data: −") and "mostly Water −" in verdict


def test_one_model_a_side_is_about_two_files_and_no_method() -> None:
    ours, theirs = rated("final.pth", 0.9, 0.8), rated("s.pth", 0.8, 0.802, "supervised")
    result = compare([ours], [theirs], TwoClasses())
    assert result["verdict"].startswith("These two files, final.pth against s.pth: +")
    assert result["miou"]["real"] and ", mostly Road +" in result["verdict"]
    assert "not methods; for that, train 3 with --seed" in " ".join(result["notes"])


@pytest.mark.parametrize(
    ("ours", "theirs", "fewest"),
    [
        ([0.80, 0.86], [0.79, 0.83], "2 models"),
        ([0.80, 0.86, 0.84], [0.79], "1 model"),
        ([0.80, 0.86, 0.84], [0.79, 0.83], "2 models"),
        # A file that is named again is no other run.
        ([0.80, 0.86, 0.86, 0.86], [0.79, 0.80, 0.83], "2 models"),
    ],
)
def test_the_luck_of_seeds_is_not_called_real(
    ours: list[float], theirs: list[float], fewest: str
) -> None:
    """All photographs agree: only the luck of the runs could tell."""
    sides = [
        [rated(f"{share}.pth", share, share, method, wobble=0) for share in shares]
        for shares, method in ((ours, "s4gan"), (theirs, "supervised"))
    ]
    result = compare(*sides, TwoClasses())
    assert result["miou"]["real"] is None and result["miou"]["low"] is None
    assert all(row["real"] is None for row in result["classes"])
    assert f"not known to be real: {fewest} on a side, 3 tell the luck" in result["verdict"]


@pytest.mark.parametrize("models", [3, 5])
def test_methods_that_do_not_differ_are_seldom_called_different(models: int) -> None:
    random = np.random.default_rng(models)
    real, trials = 0, 60
    for _ in range(trials):
        sides = [
            [
                rated(f"{side}{n}", *(0.8 + random.normal(0, 0.02, 2)), wobble=0.05)
                for n in range(models)
            ]
            for side in "ab"
        ]
        real += bool(compare(*sides, TwoClasses())["miou"]["real"])
    assert real / trials <= 0.07  # by photographs alone: nine in ten


def test_a_difference_that_depends_on_the_photo_is_within_noise() -> None:
    ours, theirs = rated("a.pth", 0.8, 0.8, wobble=0.15), rated("b.pth", 0.795, 0.8)
    result = compare([ours], [theirs], TwoClasses())
    assert result["miou"]["real"] is False
    assert result["verdict"].startswith("These two files, a.pth against b.pth: +")
    assert "within noise" in result["verdict"] and "mostly" not in result["verdict"]


def test_a_class_that_lost_is_told_with_the_gain() -> None:
    result = compare([rated("a", 0.95, 0.9, wobble=0)], [rated("b", 0.8, 0.95)], TwoClasses())
    assert result["miou"]["real"] and "within noise" not in result["verdict"]
    falls = [row["class_name"] for row in result["classes"] if row["difference"] < 0]
    assert all(f"but {name} −" in result["verdict"] for name in falls)


def test_the_same_model_on_both_sides_is_no_difference() -> None:
    result = compare([rated("a", 0.8, 0.7)], [rated("a", 0.8, 0.7)], TwoClasses())
    assert (result["miou"]["difference"], result["miou"]["low"], result["miou"]["high"]) == (
        0,
        0,
        0,
    )
    assert result["miou"]["real"] is False
    assert result["patches"] | {"most_better": [], "most_worse": []} == result["patches"]
    assert result["patches"]["same"] == BASE_IMAGES


def test_patches_that_changed_are_named_the_most_changed_first() -> None:
    ours, theirs = rated("a", 0.8, 0.8, wobble=0.15), rated("b", 0.8, 0.8, wobble=0)
    patches = compare([ours], [theirs], TwoClasses())["patches"]
    assert patches["better"] + patches["worse"] + patches["same"] == BASE_IMAGES
    better = [row["gain"] for row in patches["most_better"]]
    worse = [row["gain"] for row in patches["most_worse"]]
    assert better == sorted(better, reverse=True) and worse == sorted(worse)
    assert min(better) > 0.01 and max(worse) < -0.01


def test_a_side_of_several_models_is_their_mean() -> None:
    ours = [rated("a", 0.9, 0.8, seed=0), rated("b", 0.7, 0.8, seed=1)]
    theirs = [rated("c", 0.8, 0.8, "supervised", seed=0)]
    result = compare(ours, theirs, TwoClasses())
    singles = [compare([one], theirs, TwoClasses())["miou"]["first"] for one in ours]
    assert result["miou"]["first"] == pytest.approx(np.mean(singles))
    assert [model["seed"] for model in result["models"]] == [0, 1, 0]
    notes = " ".join(result["notes"])
    assert "mean of their scores" in notes and "luck" not in notes


def test_it_says_what_else_differs() -> None:
    ours, theirs = rated("a", 0.9, 0.8, num_steps=300), rated("b", 0.8, 0.8, num_steps=600)
    ours.training["shards"], theirs.training["shards"] = "x", "y"
    notes = " ".join(compare([ours], [theirs], TwoClasses())["notes"])
    assert "differ in num_steps too (300, 600)" in notes
    assert "trained on different shards" in notes


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained ones: a.pth, b.pth, and best_model.pth, which is a.pth."""
    folder = tmp_path_factory.mktemp("models")
    mapping = read_class_mapping(SAMPLES / "class_mapping.csv")
    for seed, name in ((0, "a.pth"), (1, "b.pth"), (0, "best_model.pth")):
        torch.manual_seed(seed)
        save_model(folder / name, Model(create_generator("tiny", 5, "none"), mapping, 128))
    return folder


def test_models_are_compared_on_shards(models: Path, shards_dir: Path) -> None:
    with console.capture() as captured:
        result = evaluate(
            models / "a.pth", against=[models / "b.pth"], shards_dir=shards_dir, device="cpu"
        )["against"]
    written = json.loads(Path("eval/against.json").read_text(encoding="utf-8"))
    assert written == result and captured.get().count(result["verdict"]) == 1
    other = evaluate(models / "b.pth", shards_dir=shards_dir, device="cpu", out="other")
    assert result["miou"]["against"] == pytest.approx(other["miou"])
    table = pd.read_csv("eval/per_class_against.csv")
    assert (table["first"] - table.against).to_numpy() == pytest.approx(table.difference.to_numpy())
    # Without a comparison, none is left lying about.
    evaluate(models / "a.pth", shards_dir=shards_dir, device="cpu")
    assert not Path("eval/against.json").exists()


def test_models_are_compared_on_a_folder_of_full_images(models: Path, tmp_path: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for name in ("tile1_part001", "tile5_part006"):
            shutil.copy(SAMPLES / kind / f"{name}.{suffix}", tmp_path / "data" / kind)
    result = evaluate(
        [models / "a.pth", models / "b.pth"],
        against=[models / "best_model.pth"],
        data=tmp_path / "data",
        device="cpu",
    )
    assert result["against"]["base_images"] == 2 and len(result["against"]["models"]) == 3
    single = evaluate(models / "a.pth", data=tmp_path / "data", device="cpu", out="single")
    assert result["against"]["miou"]["against"] == pytest.approx(single["miou"])


def test_a_model_that_was_picked_on_these_patches_is_named(
    models: Path, shards_dir: Path, shards: Shards, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Model(create_generator("tiny", 5, "none"), shards.mapping, 128)
    model.training["shards"] = shards.fingerprint
    save_model(tmp_path / "best_model.pth", model)
    result = evaluate(
        models / "a.pth", against=["best_model.pth"], shards_dir=shards_dir, device="cpu"
    )
    notes = " ".join(result["against"]["notes"])
    assert "best_model.pth was picked on these patches" in notes
    assert "compare final_model.pth of both" in notes


def test_several_models_without_a_comparison_are_an_error(models: Path) -> None:
    with pytest.raises(InputError, match="--against"):
        evaluate([models / "a.pth", models / "b.pth"], device="cpu")


def test_a_model_of_other_classes_is_named(models: Path, shards_dir: Path, tmp_path: Path) -> None:
    other = ClassMapping((("Sea", (0, 0, 1), False), ("Sky", (0, 0, 2), False)))
    save_model(tmp_path / "other.pth", Model(create_generator("tiny", 2, "none"), other))
    with pytest.raises(InputError, match=r"other\.pth and .* differ in their classes"):
        evaluate(models / "a.pth", against=["other.pth"], shards_dir=shards_dir, device="cpu")


def test_the_pass_counts_the_same_with_any_batch_size(models: Path, shards_dir: Path) -> None:
    source = ShardSplit(read_shards(shards_dir), "val")
    model = load_model(models / "a.pth")
    one, all_at_once = (source.score(model, size, 0, False) for size in (1, 7))
    assert np.array_equal(one.confusions, all_at_once.confusions)
    assert np.array_equal(one.right, all_at_once.right)
    assert np.array_equal(one.examples, all_at_once.examples)
    assert one.by_confidence.sum() == all_at_once.by_confidence.sum() > 0
