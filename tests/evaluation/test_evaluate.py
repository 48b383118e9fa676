import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image
from torch import Tensor, nn

import salakseg
from salakseg.classes import ClassMapping, read_class_mapping
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import confusions_on_split, evaluate
from salakseg.evaluation.scoring import ShardSplit
from salakseg.imagery.drawing import contact_sheet
from salakseg.model.generator import Generator, create_generator
from salakseg.model.weights import Model, save_model

SAMPLES = Path(__file__).parents[1] / "samples" / "dubai"
RED, GREEN, BLUE, VOID = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)
MAPPING = ClassMapping(
    (("Red", RED, False), ("Void", VOID, True), ("Green", GREEN, False), ("Blue [m²]", BLUE, False))
)


class BrightestBand(nn.Module):
    """Knows the truth of every picture here: the class is the brightest band."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def band_model(mapping: ClassMapping = MAPPING) -> Model:
    network = Generator("brightest", BrightestBand(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Model(network, mapping, patch_size=32, source="best_model.pth")


def picture(width: int, height: int, left: tuple, right: tuple | None = None) -> Image.Image:
    """One colour, or one in the left half and one in the right half."""
    pixels = np.full((height, width, 3), left, np.uint8)
    pixels[:, width // 2 :] = right or left
    return Image.fromarray(pixels)


def write_mapping(path: Path) -> None:
    lines = ["class_name,class_color,ignore"]
    lines += [
        f"{name},{' '.join(map(str, color))},{'yes' if ignore else ''}"
        for name, color, ignore in MAPPING.rows
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards/ of four patches whose scores are known, and the folder that they came from.

    A (val): image half red, half green, truth Red.  B (val): smaller than a patch; image blue,
    truth half Blue, half Void.  C (train): image red, truth Red.  D (test): truth Void, so that it
    is left out.
    """
    root = tmp_path_factory.mktemp("bands")
    data = root / "data"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
    write_mapping(data / "class_mapping.csv")
    for name, image, mask in (
        ("A_patch_000_000.png", picture(32, 32, RED, GREEN), picture(32, 32, RED)),
        ("B_patch_000_000.png", picture(32, 24, BLUE), picture(32, 24, BLUE, VOID)),
        ("C_patch_000_000.png", picture(32, 32, RED), picture(32, 32, RED)),
        ("D_patch_000_000.png", picture(32, 32, GREEN), picture(32, 32, VOID)),
    ):
        image.save(data / "images" / name)
        mask.save(data / "masks" / name)
    (root / "split.csv").write_text(
        "base_image,split\nA,val\nB,val\nC,train\nD,test\n", encoding="utf-8"
    )
    salakseg.index(data, out=root / "index", split_file=root / "split.csv", num_workers=1)
    salakseg.shard(index_dir=root / "index", out=root / "shards", num_workers=1)
    return root


@pytest.fixture
def best_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the band model."""
    monkeypatch.setattr("salakseg.evaluation.evaluate.load_model", lambda *_: band_model())
    path = tmp_path / "best_model.pth"
    path.touch()
    return path


def by_name(result: dict) -> dict:
    return {row["class_name"]: row for row in result["classes"]}


def test_scores_on_shards_equal_a_count_by_hand(workplace: Path, best_model: Path, tmp_path: Path):
    result = evaluate(
        best_model, shards_dir=workplace / "shards", out=tmp_path / "eval", device="cpu"
    )

    # 512 of A's 1024 Red pixels are called Green, all 384 of B's Blue ones Blue; Void and the
    # padding below B never count.
    assert result["confusion_matrix"] == [[512, 512, 0], [0, 0, 0], [0, 0, 384]]
    assert result["pixel_accuracy"] == pytest.approx(896 / 1408)
    assert result["miou"] == pytest.approx((0.5 + 1) / 2)  # Green, absent, is no part of it
    assert result["scored_pixels"] == 1408
    assert result["data"]["patches"] == 2 and result["data"]["base_images"] == 2
    red = by_name(result)["Red"]
    assert (red["iou"], red["precision"], red["recall"]) == (0.5, 1, 0.5)
    assert red["f1"] == pytest.approx(2 / 3)
    assert red["support"] == 1024 and red["false_positives"] == 0


def test_a_class_that_the_truth_does_not_hold_is_absent(
    workplace: Path, best_model: Path, tmp_path: Path
):
    with console.capture() as captured:
        result = evaluate(best_model, shards_dir=workplace / "shards", out=tmp_path, device="cpu")
    green = by_name(result)["Green"]
    assert not green["present"] and green["false_positives"] == 512
    assert green["iou"] is green["precision"] is green["recall"] is green["f1"] is None
    line = next(line for line in captured.get().splitlines() if "Green" in line)
    assert "absent" in line and "512" in line
    assert "Blue [m²]" in captured.get()  # no markup


def test_it_says_where_the_model_has_seen_the_patches(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shards_dir = workplace / "shards"
    model = band_model()
    monkeypatch.setattr("salakseg.evaluation.evaluate.load_model", lambda *_: model)
    (tmp_path / "best_model.pth").touch()

    def notes(split: str) -> str:
        path, out = tmp_path / "best_model.pth", tmp_path / "eval"
        result = evaluate(path, shards_dir=shards_dir, split=split, out=out, device="cpu")
        return " ".join(result["notes"])

    assert notes("val") == notes("train") == ""  # trained on other shards
    model.training["shards"] = read_shards(shards_dir).fingerprint
    assert "picked on these patches" in notes("val")
    assert "trained on these patches" in notes("train")


def test_files_hold_the_same_scores(workplace: Path, best_model: Path, tmp_path: Path):
    result = evaluate(best_model, shards_dir=workplace / "shards", out=tmp_path, device="cpu")

    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == result and "NaN" not in text
    classes = pd.read_csv(tmp_path / "per_class.csv").set_index("class_name")
    assert classes.iou["Red"] == 0.5 and np.isnan(classes.iou["Green"])
    matrix = pd.read_csv(tmp_path / "confusion_matrix.csv", index_col=0)
    assert list(matrix.index) == list(matrix.columns) == ["Red", "Green", "Blue [m²]"]
    assert matrix.to_numpy().tolist() == result["confusion_matrix"]
    bases = pd.read_csv(tmp_path / "per_base_image.csv").set_index("base_image")
    assert bases.miou["A"] == 0.5 and bases.miou["B"] == 1
    assert not list(tmp_path.glob(".partial*"))


def test_pictures_show_the_worst_patch_first(workplace: Path, best_model: Path, tmp_path: Path):
    evaluate(best_model, shards_dir=workplace / "shards", out=tmp_path, device="cpu")

    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    empty = np.zeros((32, 32, 3), np.uint8)
    assert sheet.shape == contact_sheet([[empty] * 4] * 2, ["", ""], [""] * 4, MAPPING).shape
    image, truth, prediction, errors = (sheet[30:62, 8 + 264 * n :][:, :32] for n in range(4))
    assert (image[4, 20] == GREEN).all() and (prediction[4, 20] == GREEN).all()
    assert (truth[4, 20] == RED).all()
    assert errors[4, 20, 0] > 200 and errors[4, 20, 1] < 50  # wrong: red
    assert np.ptp(errors[4, 10]) == 0  # right: grey
    with Image.open(tmp_path / "confusion_matrix.png") as drawn:
        assert min(drawn.size) > 500


def test_confusions_on_split_counts_by_photograph_and_leaves_the_generator_as_it_was(
    workplace: Path,
):
    model = band_model()
    model.generator.train()
    seen: list[int] = []
    shards = read_shards(workplace / "shards")
    found = confusions_on_split(model, shards, "val", batch_size=1, on_batch=seen.append)
    assert found.dtype == np.int64 and found.sum(0).tolist()[0] == [512, 512, 0]
    assert seen == [1, 1] and model.generator.training
    assert (found == confusions_on_split(model, shards, "val", batch_size=2)).all()
    # The same as eval counts, in the same order.
    tally = ShardSplit(shards, "val").score(model, 2, 0, None)
    np.testing.assert_array_equal(found, tally.confusions)


def test_a_real_model_file_is_scored_on_real_patches(tmp_path: Path):
    salakseg.index(SAMPLES, out=tmp_path / "index", val_split=0.5, num_workers=1)
    salakseg.shard(index_dir=tmp_path / "index", out=tmp_path / "shards", num_workers=1)
    mapping = read_class_mapping(SAMPLES / "class_mapping.csv")
    torch.manual_seed(0)
    save_model(tmp_path / "m.pth", Model(create_generator("tiny", 5, "none"), mapping))
    result = evaluate(
        tmp_path / "m.pth", shards_dir=tmp_path / "shards", out=tmp_path / "eval", device="cpu"
    )
    samples = read_shards(tmp_path / "shards").split("val")
    counts = samples[[f"pixels {name}" for name in mapping.names]].sum()
    assert [row["support"] for row in result["classes"]] == counts.tolist()
    assert 0 <= result["miou"] < 1


def make_folder(root: Path, mask_width: int = 100) -> Path:
    """Full images: one of 100×70 half red, half green, truth Red; one without a mask."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    picture(100, 70, RED, GREEN).save(root / "images" / "field.png")
    picture(100, 70, RED).save(root / "images" / "other.png")
    picture(mask_width, 70, RED).save(root / "masks" / "field.png")
    write_mapping(root / "class_mapping.csv")
    return root


def test_scores_on_a_folder_of_full_images(best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data")
    result = evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    assert result["confusion_matrix"] == [[3500, 3500, 0], [0, 0, 0], [0, 0, 0]]
    assert result["data"]["images"] == 1 and result["data"]["images_without_mask"] == 1
    assert (tmp_path / "eval" / "contact_sheet.png").exists()
    bases = pd.read_csv(tmp_path / "eval" / "per_base_image.csv")
    assert bases.base_image.tolist() == ["field.png"] and bases.pixel_accuracy.tolist() == [0.5]


def test_nodata_of_a_full_image_does_not_count(best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data")
    image = picture(100, 70, RED, GREEN)
    image.putalpha(Image.fromarray(np.repeat([[255] * 60 + [0] * 40], 70, 0).astype(np.uint8)))
    image.save(data / "images" / "field.png")
    result = evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    assert result["confusion_matrix"][0] == [3500, 700, 0]


def test_a_mask_that_is_two_pixels_wider_is_compared_on_the_common_part(
    best_model: Path, tmp_path: Path
):
    wider = make_folder(tmp_path / "wider", mask_width=102)
    result = evaluate(best_model, data=wider, out=tmp_path / "eval", device="cpu")
    assert result["scored_pixels"] == 7000 and "field.png" in " ".join(result["notes"])
    narrower = make_folder(tmp_path / "narrower", mask_width=99)
    result = evaluate(best_model, data=narrower, out=tmp_path / "eval", device="cpu")
    assert result["scored_pixels"] == 99 * 70


def test_a_mask_of_another_size_is_an_error_that_names_both(best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data", mask_width=97)
    with pytest.raises(InputError, match=r"masks.field\.png: is 97×70 .*images.field\.png 100×70"):
        evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    assert not (tmp_path / "eval").exists()


def test_masks_of_numbers_are_read_as_the_models_or_all_together(
    best_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two full images: numbers from 1, in 64 bits, that neither mask alone would tell."""
    data = make_folder(tmp_path / "data")
    numbers = {"field": np.where(np.arange(100) < 50, 1, 3), "other": np.full(100, 4)}
    (data / "masks/field.png").unlink()
    for name, row in numbers.items():
        with rasterio.open(
            data / f"masks/{name}.tif", "w", "GTiff", 100, 70, 1, dtype="int64"
        ) as file:
            file.write(np.tile(row, (70, 1)), 1)
    result = evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    assert result["confusion_matrix"] == [[3500, 0, 0], [0, 3500, 0], [7000, 0, 0]]
    assert "1 = Red (25%), 3 = Green (25%), 4 = Blue [m²] (50%)" in " ".join(result["notes"])

    def loaded(*_: object) -> Model:
        return band_model(MAPPING.with_reading({0: 0, 255: None, **said}))

    monkeypatch.setattr("salakseg.evaluation.evaluate.load_model", loaded)
    said = {4: 2, 1: 0, 3: 2}
    result = evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    assert result["confusion_matrix"] == [[3500, 0, 0], [7000, 3500, 0], [0, 0, 0]]
    said = {3: 0}
    with pytest.raises(InputError, match=r"numbers that stand for no class \(1 = unknown"):
        evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")


def test_a_mask_of_other_ground_is_an_error(best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data")
    for kind, west in (("images", 5e5), ("masks", 5e5 + 10)):
        (data / kind / "field.png").unlink()
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.1, 0, west, 0, -0.1, 4e6)}
        with rasterio.open(
            data / kind / "field.tif", "w", "GTiff", 100, 70, 3, dtype="uint8", **place
        ) as file:
            file.write(np.full((3, 70, 100), 255, np.uint8))
    with pytest.raises(InputError, match=r"field\.tif: by its own coordinates it lies elsewhere"):
        evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")


def test_a_folder_whose_masks_fit_no_image_is_an_error(best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data")
    (data / "masks" / "field.png").rename(data / "masks" / "meadow.png")
    with pytest.raises(InputError, match="none of its 2 images has a mask"):
        evaluate(best_model, data=data, out=tmp_path / "eval", device="cpu")
    with pytest.raises(InputError, match="images/ and masks/"):
        evaluate(best_model, data=data / "images", out=tmp_path / "eval", device="cpu")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (MAPPING.rows[:3], r"only the data has Blue \[m²\]"),
        (MAPPING.rows[::-1], "the order is Blue"),
        ((("Rot", RED, False), *MAPPING.rows[1:]), "only the model has Rot; only the data has Red"),
    ],
)
def test_classes_that_differ_are_an_error_that_says_how(
    workplace: Path, tmp_path: Path, rows: tuple, message: str
):
    mapping = ClassMapping(rows)
    path = tmp_path / "m.pth"
    save_model(path, Model(create_generator("tiny", mapping.num_classes, "none"), mapping))
    for given in ({"shards_dir": workplace / "shards"}, {"data": workplace / "data"}):
        with pytest.raises(InputError, match=message):
            evaluate(path, **given, out=tmp_path / "eval", device="cpu")


def test_colours_that_differ_are_fine(workplace: Path, tmp_path: Path):
    mapping = ClassMapping(
        tuple((name, (i, i, i), ignored) for i, (name, _, ignored) in enumerate(MAPPING.rows))
    )
    save_model(tmp_path / "m.pth", Model(create_generator("tiny", 3, "none"), mapping))
    result = evaluate(
        tmp_path / "m.pth", shards_dir=workplace / "shards", out=tmp_path / "eval", device="cpu"
    )
    assert result["scored_pixels"] == 1408


def test_a_split_without_patches_names_those_that_exist(workplace: Path, best_model: Path):
    with pytest.raises(InputError, match=r"'unlabeled'; it has train \(1 .*val \(2 "):
        evaluate(best_model, shards_dir=workplace / "shards", split="unlabeled", device="cpu")


def test_no_shards_and_no_model_are_errors(best_model: Path, tmp_path: Path):
    with pytest.raises(InputError, match="salakseg shard"):
        evaluate(best_model, shards_dir=tmp_path / "shards", device="cpu")
    with pytest.raises(InputError, match="no such model file"):
        evaluate(tmp_path / "none.pth", shards_dir=tmp_path / "shards", device="cpu")


def test_masks_without_any_class_are_an_error(workplace: Path, best_model: Path, tmp_path: Path):
    data = make_folder(tmp_path / "data")
    picture(100, 70, VOID).save(data / "masks" / "field.png")
    out = tmp_path / "eval"
    for given, message in (
        ({"data": data}, "no pixel of the masks has a class"),
        ({"shards_dir": workplace / "shards", "split": "test"}, "no patches with masks in a split"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(best_model, **given, out=out, device="cpu")
    assert not out.exists()
