"""What a pass counts beside the confusion matrix, on pictures small enough to count by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.enums import ColorInterp
from torch import Tensor, nn

import salakseg
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import _leak, evaluate, leak_in_words
from salakseg.evaluation.scoring import BOUNDARY, EVERY, ShardSplit, diagnose, near_boundary
from salakseg.metrics import LEVELS
from salakseg.model.generator import Generator, create_generator
from salakseg.model.weights import Model, load_model, save_model
from tests.mapping.samples import MAPPING, coloured
from tests.rasters import write_tiff


def test_boundary_pixels_are_those_with_another_class_near_by() -> None:
    truth = np.zeros((32, 40), np.uint8)
    truth[:, 20:] = 1
    truth[30:] = 2
    truth[7:9, :6] = 255
    counted = np.zeros((32, 40), bool)
    for row, column in np.ndindex(32, 40):
        for step in range(1, BOUNDARY + 1):
            for y, x in ((row - step, column), (row + step, column)):
                if 0 <= y < 32:
                    counted[row, column] |= truth[y, x] != truth[row, column]
            for y, x in ((row, column - step), (row, column + step)):
                if 0 <= x < 40:
                    counted[row, column] |= truth[y, x] != truth[row, column]
    found = near_boundary(torch.from_numpy(truth)[None])[0]
    assert np.array_equal(found, counted[::EVERY])
    assert found.any() and not found.all()


def test_a_picture_narrower_than_the_boundary_is_counted() -> None:
    assert near_boundary(torch.tensor([[[0, 1]]], dtype=torch.uint8)).all()
    assert not near_boundary(torch.zeros(1, 1, 1, dtype=torch.uint8)).any()


def test_pixels_are_counted_by_place_rightness_and_confidence() -> None:
    truth = torch.zeros(1, EVERY, 16, dtype=torch.uint8)
    truth[0, :, 15] = 1
    truth[0, :, 0] = 255
    prediction = torch.zeros(1, EVERY, 16, dtype=torch.int64)
    confidence = torch.full((1, EVERY, 16), 0.75)
    confidence[0, 0, 8] = 1
    counts = diagnose(truth, prediction, confidence)
    assert counts.sum() == 15  # one row, without the pixel that has no class
    assert counts[0, 1, LEVELS] == 1 and counts[0, 1, 750] == 7
    assert counts[1, 1, 750] == 6 and counts[1, 0, 750] == 1


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
    leak = _leak(tally, source)
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


class Blurred(nn.Module):
    """The brightest band of each pixel's surroundings: what it says depends on the resolution."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(20 * x, 5, 1, 2, count_include_pad=False)


@pytest.mark.parametrize("kind", ["plain", "resolution", "bands", "16 bits", "infrared", "nodata"])
def test_full_images_are_scored_as_predict_maps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pixels, labels = coloured(96, 130)
    pixels[5:40, 7:30] = 0
    bands = np.moveaxis(pixels, 2, 0)
    if kind == "bands":
        bands = bands[::-1]
    if kind == "infrared":
        bands = np.concatenate([bands, labels[None] * 60])
    if kind == "16 bits":
        bands = bands.astype(np.uint16) * 16
    path = tmp_path / "data/images/field.tif"
    path.parent.mkdir(parents=True)
    write_tiff(path, bands, nodata=0 if kind == "nodata" else None)
    if kind == "bands":
        with rasterio.open(path, "r+") as raster:
            raster.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    mask = tmp_path / "data/masks/field.png"
    mask.parent.mkdir()
    Image.fromarray(labels).save(mask)
    model = Model(
        Generator("blurred", Blurred(), (0, 0, 0), (1, 1, 1)), MAPPING, 32, source="m.pth"
    )
    model.pixel_size = {"resolution": 0.3}.get(kind, 0.1)
    model.white_level = 10_000
    monkeypatch.setattr("salakseg.evaluation.evaluate.load_model", lambda *_: model)
    monkeypatch.setattr("salakseg.mapping.predict.load_model", lambda *_: model)
    (tmp_path / "m.pth").touch()
    with console.capture() as captured:
        result = evaluate(tmp_path / "m.pth", data=tmp_path / "data", device="cpu")
    [made] = salakseg.predict([path], model=tmp_path / "m.pth", device="cpu")
    with rasterio.open(made.classes) as raster:
        mapped = raster.read(1)
    scored = mapped != 255
    assert scored.all() == (kind != "nodata")
    assert result["scored_pixels"] == scored.sum()
    assert result["pixel_accuracy"] == (mapped == labels)[scored].mean()
    said = {
        "resolution": "field.tif: 0.1 m a pixel, resampled for the network to the 0.3 m",
        "bands": "field.tif: its bands 3, 2, 1 are taken",
        "16 bits": "field.tif: 16-bit values, of which 10000 is full brightness",
        "infrared": "field.tif: calls its band 4 alpha",
    }.get(kind, "")
    assert said in captured.get()
    assert said in " ".join(result["notes"])
