"""Model files: what is saved comes back; what is damaged or malicious is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from salakseg.band_set import Band, BandSet
from salakseg.classes import ClassMapping
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.model.weights import (
    Model,
    bring_to,
    enlarging,
    find_model,
    load_model,
    model_content,
    save_model,
    some_photos,
)

MAPPING = ClassMapping(
    (("void", (9, 9, 9), True), ("land", (0, 200, 0), False), ("water", (0, 0, 200), False))
)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 45, 70), dtype=np.uint8))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(
        create_generator("tiny", 2, "none"),
        MAPPING,
        patch_size=128,
        pixel_size=0.05,
        white_level=4095,
        iteration=70,
        val_confusion=np.array([[5, 1], [2, 8]]),
        training={"options": {"seed": 3}},
        val_confusions=np.array([[[5, 0], [2, 3]], [[0, 1], [0, 5]]]),
    )


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    save_model(tmp_path / "model.pth", model)
    return tmp_path / "model.pth"


def test_a_model_may_see_images_larger_than_they_are(model: Model) -> None:
    larger = enlarging(model, 1.5)
    found = larger.probabilities(IMAGES, amp=False)
    assert found.shape == (2, 2, 45, 70)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 45, 70))
    # An image without detail: only its border is another one.
    plain = torch.full((1, 3, 96, 96), 90, dtype=torch.uint8)
    middle = np.s_[..., 40:56, 40:56]
    torch.testing.assert_close(
        larger.probabilities(plain, amp=False)[middle],
        model.probabilities(plain, amp=False)[middle],
        atol=0.01,
        rtol=0,
    )
    # A step between two pixels is seen as two and a half.
    wide = torch.zeros((1, 3, 64, 64), dtype=torch.uint8)
    wide[..., 32:] = 200
    difference = larger.probabilities(wide, amp=False) - model.probabilities(wide, amp=False)
    assert float(difference.abs().max()) > 0.01
    assert enlarging(model, 1) is model and model.enlarge == 1
    for times in (0.5, 5, float("nan")):
        with pytest.raises(InputError, match=f"--enlarge {times:g}: must be from 1 to 4"):
            enlarging(model, times)


BANDS = BandSet(
    tuple(Band(name, number, 0, 0.5) for number, name in enumerate(("red", "green", "nir"), 1)), 5
)


def test_a_model_of_other_bands_knows_them_and_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(create_generator("tiny", 2, "none", BANDS), MAPPING)
    model.generator.normalise_by((0.1, 0.2, 0.6), (0.1, 0.1, 0.2))
    save_model(tmp_path / "bands.pth", model)
    back = load_model(tmp_path / "bands.pth")
    assert back.band_set == BANDS
    assert back.generator.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.6])
    assert torch.equal(back.probabilities(IMAGES), model.probabilities(IMAGES))
    bring_to(back, BANDS, "shards")
    assert torch.equal(back.probabilities(IMAGES), model.probabilities(IMAGES))


def test_a_model_takes_the_same_bands_by_another_scale_but_no_others(tmp_path: Path) -> None:
    model = Model(create_generator("tiny", 2, "none", BANDS), MAPPING)
    values = torch.randint(0, 200, (1, 3, 40, 40)) / 255 * 0.5
    before = model.probabilities((values / 0.5 * 255).round().byte(), False)
    wider = BandSet(tuple(Band(b.name, b.number + 1, -0.1, 0.9) for b in BANDS.bands), 4)
    bring_to(model, wider, "shards")
    after = model.probabilities(((values + 0.1) * 255).round().byte(), False)
    assert torch.allclose(before, after, atol=0.02) and model.band_set == wider
    others = BandSet(wider.bands[::-1], 4)
    thousands = BandSet(tuple(Band(b.name, b.number, 0, 5000) for b in BANDS.bands), 5)
    for bands in (None, others, thousands):
        with pytest.raises(InputError, match=r"the model: takes other bands .* than shards has"):
            bring_to(model, bands, "shards")


def test_a_model_file_of_before_there_were_bands_is_of_red_green_and_blue(
    model: Model, tmp_path: Path
) -> None:
    content = model_content(model)
    assert content.pop("bands") is None
    torch.save(content, tmp_path / "old.pth")
    back = load_model(tmp_path / "old.pth")
    assert back.band_set is None and back.generator.channels == 3


def test_probabilities(model: Model) -> None:
    result = model.probabilities(IMAGES)
    assert result.shape == (2, 2, 45, 70)
    assert result.dtype == torch.float32
    assert torch.allclose(result.sum(1), torch.ones(2, 45, 70), atol=1e-5)


def test_what_is_saved_comes_back(model: Model, path: Path) -> None:
    loaded = load_model(path)
    assert torch.equal(
        loaded.probabilities(IMAGES, amp=False), model.probabilities(IMAGES, amp=False)
    )
    assert loaded.generator.name == "tiny"
    assert not loaded.generator.training
    assert loaded.mapping == MAPPING
    assert (loaded.patch_size, loaded.pixel_size, loaded.iteration) == (128, 0.05, 70)
    assert loaded.white_level == 4095
    assert np.array_equal(loaded.val_confusion, model.val_confusion)
    assert np.array_equal(loaded.val_confusions, model.val_confusions)
    assert loaded.training == {"options": {"seed": 3}}
    assert loaded.source == str(path)


def test_a_model_of_before_photographs_were_told_apart(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["val_confusions"]
    torch.save(content, path)
    loaded = load_model(path)
    assert loaded.val_confusions is None and loaded.val_confusion is not None


@pytest.mark.parametrize(
    ("photos", "classes", "kept"), [(3, 5, 3), (4000, 5, 512), (900, 100, 100)]
)
def test_a_file_holds_so_many_photographs_and_no_more(photos: int, classes: int, kept: int) -> None:
    confusions = np.zeros((photos, classes, classes), np.int32)
    confusions[:, 0, 0] = np.arange(photos)
    some = some_photos(confusions)
    numbers = some[:, 0, 0]
    assert len(some) == kept and (np.diff(numbers) > 0).all()
    # From one end to the other.
    assert numbers[0] == 0 and numbers[-1] == photos - 1
    assert numbers.mean() == pytest.approx((photos - 1) / 2, rel=0.01)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bare_state_dict_needs_its_network_and_classes(
    model: Model, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "bare.pth"
    state = model.generator.network.state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, path)
    with pytest.raises(InputError, match=r"bare\.pth: a bare state dict; say its network"):
        load_model(path)
    loaded = load_model(path, generator="tiny", mapping=MAPPING)
    assert torch.equal(loaded.probabilities(IMAGES), model.probabilities(IMAGES))
    with pytest.raises(InputError, match=r"bare\.pth: its weights do not fit unet-mobilenet_v2"):
        load_model(path, generator="unet-mobilenet_v2", mapping=MAPPING)


def test_a_model_file_whose_weights_are_of_another_network(model: Model, path: Path) -> None:
    content = model_content(model)
    content["classes"] += [{"class_name": "road", "class_color": [1, 1, 1], "ignore": False}]
    torch.save(content, path)
    with pytest.raises(InputError, match="do not fit tiny with 3 classes"):
        load_model(path)


def test_a_full_checkpoint_points_to_the_model_beside_it(tmp_path: Path) -> None:
    torch.save({"iteration": 3, "model_state": {}}, tmp_path / "latest_checkpoint.pth")
    with pytest.raises(InputError, match=r"a full checkpoint.*latest_model\.pth"):
        load_model(tmp_path / "latest_checkpoint.pth")


@pytest.mark.parametrize("key", ["generator", "classes", "mean", "state", "patch_size", "training"])
def test_a_model_file_with_a_part_missing_or_wrong(model: Model, path: Path, key: str) -> None:
    content = model_content(model)
    for wrong in (None, "nonsense"):
        torch.save({**content, key: wrong}, path)
        with pytest.raises(InputError, match=r"model\.pth"):
            load_model(path)
    del content[key]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"model\.pth: a model file with parts missing"):
        load_model(path)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with pytest.raises(InputError, match="no such file"):
        load_model(path)
    for content in ({}, [1, 2], "text", {"weights": 3}):
        torch.save(content, path)
        with pytest.raises(InputError, match="no model of this program"):
            load_model(path)


def test_damaged_files_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    mutations = [b"", b"no model", np.random.default_rng(0).bytes(4000)]
    mutations += [whole[:length] for length in (1, 100, len(whole) // 2, len(whole) - 1)]
    for damaged in mutations:
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"model\.pth"):
            load_model(path)


def test_the_same_model_gives_the_same_bytes(model: Model, path: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again.pth", model)
    assert (tmp_path / "again.pth").read_bytes() == path.read_bytes()


def test_a_flipped_bit_never_changes_a_model(model: Model, path: Path) -> None:
    """A bit in the zip's padding or times may flip unnoticed; a weight or setting must not."""
    whole = path.read_bytes()
    expected = model.probabilities(IMAGES)
    refused = 0
    anywhere = np.random.default_rng(0).integers(0, len(whole), 40).tolist()
    # The mark of a folder in an entry of the zip's directory makes torch.load read nothing.
    marks = [start.start() + 38 for start in re.finditer(rb"PK\x01\x02", whole)]
    for place in anywhere + marks[:20]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            loaded = load_model(path)
        except InputError:
            refused += 1
        else:
            assert torch.equal(loaded.probabilities(IMAGES), expected)
    assert refused > 40


def test_models_are_found_by_path_or_by_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    assert find_model(path) == path
    assert find_model(Path("model.pth"), tmp_path) == path
    with pytest.raises(InputError, match=r"best\.pth: no such model file.*salakseg train"):
        find_model(Path("best.pth"), tmp_path)
