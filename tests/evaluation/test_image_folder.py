"""Full images and masks, scored as they would be mapped."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from torch import Tensor, nn

import salakseg
from salakseg.console import console
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import evaluate
from salakseg.model.generator import Generator
from salakseg.model.weights import Model
from tests.evaluation import samples
from tests.evaluation.samples import GREEN, RED, band_model, make_folder, picture
from tests.mapping.samples import MAPPING, coloured
from tests.rasters import write_tiff


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
        return band_model(samples.MAPPING.with_reading({0: 0, 255: None, **said}))

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
