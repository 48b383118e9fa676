"""Features of patches: what they are, and that a run that was stopped ends with the same bytes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.data.stream import Patches
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model
from salakseg.suggestion import embed as embedding
from salakseg.suggestion.embed import FEATURES, HEADER, Features, embed, pool_of
from tests.processes import ended, started


@pytest.fixture
def shards(shards: Shards) -> Shards:
    """A third of them is enough here."""
    return replace(shards, samples=shards.samples.iloc[::3])


@pytest.fixture
def model(shards: Shards) -> Model:
    torch.manual_seed(0)
    generator = create_generator("tiny", shards.mapping.num_classes, "none")
    return Model(generator, shards.mapping, shards.patch_size)


def test_the_pool_is_what_is_trained_on_or_could_be(shards: Shards) -> None:
    pool = pool_of(shards)
    assert set(pool.split) == {"train", "unlabeled"}
    assert len(pool) == len(shards.split("train")) + len(shards.split("unlabeled"))


def test_features_are_the_averages_of_the_last_three_stages(shards: Shards, model: Model) -> None:
    features = embed(shards, model, out=Path("a"), trained=False, amp=False)
    image = Patches(shards, {"unlabeled": "unlabeled"}).read("unlabeled", np.array([2])).images
    network = model.generator.network
    with torch.inference_mode():
        x = network.stem((image.float() / 255 - model.generator.mean) / model.generator.std)
        maps = []
        for layer in network.context:
            maps.append(layer(x))
            x = x + maps[-1]
    expected = torch.cat([one.mean((2, 3)) for one in maps[-3:]], 1).numpy()
    row = np.flatnonzero(features.patches.split == "unlabeled")[2]
    np.testing.assert_allclose(features.values[row], expected[0], rtol=2e-3, atol=1e-4)
    assert features.values.dtype == np.float16
    assert not features.warm


def test_a_trained_model_says_how_unsure_it_is(shards: Shards, model: Model) -> None:
    features = embed(shards, model, out=Path("a"), trained=True)
    confidence, margin, entropy = map(features.unsure, ("confidence", "margin", "entropy"))
    assert features.warm
    np.testing.assert_allclose(features.class_shares.sum(1), 1, atol=5e-3)
    assert ((confidence > 0) & (confidence <= margin)).all() and (margin <= 1).all()
    assert ((entropy > 0) & (entropy <= 1.001)).all()
    # A network that is sure of everything.
    with torch.no_grad():
        model.generator.network.head.weight.zero_()
        model.generator.network.head.bias.copy_(torch.eye(5)[2] * 100)
    sure = embed(shards, model, out=Path("b"), trained=True)
    assert sure.unsure("margin").max() < 1e-3 and sure.unsure("entropy").max() < 1e-3
    np.testing.assert_allclose(sure.class_shares[:, 2], 1)


def test_interrupted_it_goes_on_to_the_same_bytes(
    shards: Shards, model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(embedding, "WRITTEN", 8)
    embed(shards, model, out=Path("whole"), trained=True, batch_size=4)
    row, calls = embedding._row, []

    def stop_after_six(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return row(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(embedding, "_row", stop_after_six)
        embed(shards, model, out=Path("stopped"), trained=True, batch_size=4)
    # What a power cut may leave of a block.
    with open(Path("stopped", FEATURES), "ab") as file:
        file.write(b"\0" * 1001)
    features = embed(shards, model, out=Path("stopped"), trained=True, batch_size=4)
    assert "going on after" in capsys.readouterr().out
    assert Path("stopped", FEATURES).read_bytes() == Path("whole", FEATURES).read_bytes()
    assert len(features.values) == len(pool_of(shards))

    # And once whole, nothing is computed again: one call finds out the number of features.
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "_row", stop_after_six)
        embed(shards, model, out=Path("stopped"), trained=True, batch_size=4)
    assert len(calls) == 1


def test_features_of_another_encoder_or_of_other_shards_are_made_again(
    shards: Shards, model: Model, capsys: pytest.CaptureFixture
) -> None:
    out = Path("a")
    first = np.array(embed(shards, model, out=out, trained=False).values)
    capsys.readouterr()
    with torch.no_grad():
        model.generator.network.stem[0][0].weight.mul_(-1)
    second = np.array(embed(shards, model, out=out, trained=False).values)
    assert "made by another encoder, so it is made again" in capsys.readouterr().out
    assert not np.allclose(first, second)
    embed(replace(shards, fingerprint="other"), model, out=out, trained=False)
    assert "made from other shards, so it is made again" in capsys.readouterr().out
    Path(out, HEADER).write_text("{", encoding="utf-8")
    embed(shards, model, out=out, trained=False)
    assert json.loads(Path(out, HEADER).read_text(encoding="utf-8"))["rows"] == len(second)
    assert np.array_equal(np.fromfile(out / FEATURES, np.float16).reshape(second.shape), second)


def test_directions_compare_and_what_is_alike_is_alike(shards: Shards) -> None:
    values = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float16)
    values[:, 3] = 7  # says nothing
    features = Features(pool_of(shards), values, 8)
    directions = features.directions(slice(None))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    assert not directions[:, 3].any()
    assert np.array_equal(directions[[5, 2]], features.directions(np.array([5, 2])))
    same = Features(features.patches, np.full((50, 8), 0.1, np.float16), 8)
    np.testing.assert_allclose(same.directions(slice(None)) @ same.directions(slice(None)).T, 1)


def test_a_batch_of_nothing(shards: Shards, model: Model) -> None:
    with pytest.raises(InputError, match="--batch-size 0"):
        embed(shards, model, out=Path("a"), trained=False, batch_size=0)


@pytest.mark.slow
def test_processes_share_the_patches_out(shards_dir: Path, index_dir: Path) -> None:
    words = f"-m salakseg suggest --shards-dir {shards_dir} --index-dir {index_dir} --count 1"
    words += " --generator tiny --encoder-weights none --device cpu --batch-size 4 --out"
    for count, out in ((1, "alone"), (2, "shared")):
        (code, said), *others = ended(started(count, *words.split(), out))
        assert code == 0 and said.count("Next: ") == 1, said
        assert others in ([], [(0, "")])
    for name in ("features.f16", "suggestions.csv"):
        assert Path("shared", name).read_bytes() == Path("alone", name).read_bytes()
