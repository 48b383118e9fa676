"""The report of a real evaluation, read with an HTML parser: whole, closed, and without the net."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import salakseg
from salakseg.classes import ClassMapping
from salakseg.data.shards import read_shards
from salakseg.evaluation.evaluate import evaluate
from salakseg.evaluation.report import _areas, _confidence
from salakseg.metrics import LEVELS
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, save_model

MAPPING = ClassMapping(
    (
        ("<b>Sea</b>", (0, 0, 200), False),
        ("Land & sand", (200, 0, 0), False),
        ("No", (9, 9, 9), True),
    )
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements, text and attributes of a page; `unclosed` is empty where it nests as it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.unclosed = "", []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, run.json and eval/, of six patches of three photos in two folders."""
    root = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    for folder, name in (("one", "a"), ("one", "b"), ("two", "a")):
        for kind in ("images", "masks"):
            (root / "data" / folder / kind).mkdir(parents=True, exist_ok=True)
        for column in range(2):
            labels = np.zeros((32, 32), int)
            labels[:, 8 + 4 * column :] = 1
            mask = np.array(MAPPING.colors, np.uint8)[labels]
            noisy = np.clip(mask.astype(int) + random.integers(0, 90, mask.shape), 0, 255)
            stem = f"{name}_patch_000_{column:03}.png"
            Image.fromarray(noisy.astype(np.uint8)).save(root / "data" / folder / "images" / stem)
            Image.fromarray(mask).save(root / "data" / folder / "masks" / stem)
    rows = [f"{name},{' '.join(map(str, color))},{'yes' * no}" for name, color, no in MAPPING.rows]
    (root / "data" / "class_mapping.csv").write_text(
        "\n".join(["class_name,class_color,ignore", *rows]), encoding="utf-8"
    )
    (root / "split.csv").write_text(
        "base_image,split,folder\na,val,one\nb,val,one\na,val,two\n", encoding="utf-8"
    )
    salakseg.index(root / "data", out=root / "index", split_file=root / "split.csv", num_workers=1)
    salakseg.shard(index_dir=root / "index", out=root / "shards", num_workers=1)
    for seed, name, method in ((0, "final_model.pth", "s4gan"), (1, "other.pth", "supervised")):
        torch.manual_seed(seed)
        model = Model(create_generator("tiny", 2, "none"), MAPPING, 32)
        model.training = {
            "options": {"method": method, "num_steps": 300},
            "counts": {"train": 214, "val": 6},
            "shards": read_shards(root / "shards").fingerprint,
        }
        save_model(root / name, model)
    advice = {"rule": "x", "iteration": 200, "text": "underfitting: look at the <masks>"}
    run = {"advice": [advice], "seconds_of_last_start": 7300, "machine": "Linux x86_64"}
    (root / "run.json").write_text(json.dumps(run), encoding="utf-8")
    evaluate(
        root / "final_model.pth",
        against=[root / "other.pth"],
        shards_dir=root / "shards",
        out=root / "eval",
        device="cpu",
    )
    return root


@pytest.fixture(scope="module")
def page(evaluated: Path) -> Page:
    return Page((evaluated / "eval" / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_whole_and_needs_nothing_beside_it(page: Page) -> None:
    assert page.unclosed == []
    assert page.all("script") == []
    pictures = page.all("img")
    assert len(pictures) >= 4 * 6
    for attributes in pictures:
        assert attributes["alt"] and re.match(r"data:image/(png|jpeg);base64,", attributes["src"])
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        assert "url(" not in (attributes.get("style") or "")


def test_every_link_has_its_place_and_every_place_is_one(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = {attributes["href"] for attributes in page.all("a")}
    assert len(ids) == len(set(ids))
    assert links and links <= {f"#{name}" for name in ids}


def test_the_verdict_and_the_scores_are_those_of_the_files(evaluated: Path, page: Page) -> None:
    metrics, against = (
        json.loads((evaluated / "eval" / name).read_text(encoding="utf-8"))
        for name in ("metrics.json", "against.json")
    )
    text = " ".join(page.text.split())
    assert against["verdict"].startswith("These two files, ") and against["verdict"] in text
    assert f"{metrics['miou']:.3f} mIoU" in text
    assert f"{metrics['miou_low']:.3f} to {metrics['miou_high']:.3f}" in text
    assert text.index(against["verdict"]) < text.index("mIoU95%")


def test_names_are_text_and_never_markup(page: Page) -> None:
    assert "<b>Sea</b>" in page.text and "Land & sand" in page.text
    assert "look at the <masks>" in page.text


def test_the_run_is_told_from_run_json_and_the_model(page: Page) -> None:
    text = " ".join(page.text.split())
    for part in ("Iteration 200: underfitting", "2.0 h", "Linux x86_64", "214 train", "num_steps"):
        assert part in text


def test_scores_by_folder_stand_where_there_are_several(page: Page) -> None:
    text = " ".join(page.text.split())
    by_folder = text[text.index("By folder") : text.index("By base image")]
    assert "one24,096" in by_folder and "two12,048" in by_folder  # base images, then pixels
    assert "two/a" in text


def test_a_model_without_a_run_beside_it_is_told(evaluated: Path, tmp_path: Path) -> None:
    model = tmp_path / "alone.pth"
    model.write_bytes((evaluated / "final_model.pth").read_bytes())
    evaluate(model, data=evaluated / "data" / "one", out=tmp_path / "out", device="cpu")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "No run.json beside the model" in page.text and page.unclosed == []
    assert "By folder" not in page.text and "Compared with" not in page.text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["data"]["images"] == 4 and metrics["data"]["base_images"] == 2


def test_areas_are_in_hectares_where_the_pixel_size_is_known() -> None:
    confusion = np.array([[8_000, 2_000], [5_000, 5_000]])
    sea, land = _areas(confusion, MAPPING, 2.0)
    assert (sea["true_ha"], sea["predicted_ha"]) == pytest.approx((4, 5.2))
    assert land["ratio"] == pytest.approx(0.7) and land["true"] == 0.5


def test_the_reliability_diagram_stands_on_its_axis() -> None:
    diagnosis = np.zeros((2, 2, LEVELS + 1), np.int64)
    diagnosis[0, 1, 950], diagnosis[1, 0, 950] = 3, 1
    found = _confidence(diagnosis)
    (bar,) = found["reliability"]
    assert bar["y"] + bar["height"] == 280 and bar["height"] == 280 * 0.75
    assert found["ece"] == pytest.approx(0.2)
    assert [row["right"] for row in found["places"]] == [1, 0]
    assert _confidence(np.zeros_like(diagnosis))["ece"] is None
