import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import salakseg
from salakseg.classes import ClassMapping, read_class_mapping
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import evaluate
from salakseg.imagery.drawing import contact_sheet
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, save_model
from tests.evaluation.samples import GREEN, MAPPING, RED, VOID, band_model, make_folder, picture
from tests.processes import ended, started

SAMPLES = Path(__file__).parents[1] / "samples" / "dubai"


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


def test_it_says_how_large_the_network_saw_the_patches(
    workplace: Path, best_model: Path, tmp_path: Path
):
    result = evaluate(
        best_model, shards_dir=workplace / "shards", out=tmp_path / "eval", device="cpu", enlarge=2
    )
    # The model of bands says the same of them whatever their size.
    assert result["confusion_matrix"] == [[512, 512, 0], [0, 0, 0], [0, 0, 384]]
    assert "the network saw images 2 times as large" in result["notes"]


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


@pytest.mark.slow
def test_processes_share_the_patches_out(shards_dir: Path, tmp_path: Path):
    torch.manual_seed(0)
    mapping = read_shards(shards_dir).mapping
    save_model(tmp_path / "tiny.pth", Model(create_generator("tiny", 5, "none"), mapping))
    options = {"shards_dir": shards_dir, "batch_size": 5, "device": "cpu"}
    evaluate(tmp_path / "tiny.pth", out=Path("alone"), **options)
    words = f"-m salakseg eval {tmp_path}/tiny.pth --shards-dir {shards_dir} --batch-size 5"
    (code, said), other = ended(started(2, *words.split(), "--out", "shared", "--device", "cpu"))
    assert code == 0 and said.count("Wrote ") == 1 and other == (0, "")
    for name in ("metrics.json", "per_base_image.csv", "contact_sheet.png"):
        assert Path("shared", name).read_bytes() == Path("alone", name).read_bytes()
