"""A map against a mask."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping.predict import predict
from salakseg.model.weights import Model
from tests.mapping.samples import MAPPING, BrightestBand, coloured
from tests.rasters import write_tiff


def write_mask(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(MAPPING.palette[labels]).save(path)
    return path


def test_scores_and_errors(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = coloured(80, 90)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    truth = labels.copy()
    truth[:20] = (truth[:20] + 1) % 3
    mask = write_mask(tmp_path / "mask.png", truth)
    predict([path], model=brightest_file, out=tmp_path / "maps", compare=mask)
    assert "75.0 % of the pixels right" in capsys.readouterr().out
    with rasterio.open(tmp_path / "maps/field_errors.tif") as errors:
        np.testing.assert_array_equal(errors.read(1), truth != labels)
    rows = list(csv.DictReader((tmp_path / "maps/field_scores.csv").open(encoding="utf-8")))
    assert [int(row["pixels"]) for row in rows] == np.bincount(truth.ravel()).tolist()
    hit = ((truth == 0) & (labels == 0)).sum() / ((truth == 0) | (labels == 0)).sum()
    assert float(rows[0]["iou"]) == pytest.approx(hit, abs=1e-4)


def test_each_photo_has_the_mask_of_its_name(brightest_file: Path, tmp_path: Path) -> None:
    for name in "ab":
        image, labels = coloured(30, 40)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}.png", labels)
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    masks = tmp_path / "masks"
    predict(photos, model=brightest_file, out=tmp_path / "maps", compare=masks)
    assert not np.asarray(Image.open(tmp_path / "maps/b_errors.png")).any()
    (masks / "b.png").unlink()
    for given, message in [
        (masks, r"holds no mask for .*b\.png"),
        (masks / "a.png", "one mask for 2 images"),
        (tmp_path / "gone", "no such mask"),
    ]:
        with pytest.raises(InputError, match=message):
            predict(photos, model=brightest_file, out=tmp_path / "other", compare=given)


def test_a_mask_of_another_size(brightest_file: Path, tmp_path: Path) -> None:
    Image.fromarray(coloured(30, 40)[0]).save(tmp_path / "a.png")
    mask = write_mask(tmp_path / "mask.png", np.zeros((40, 30), np.uint8))
    with pytest.raises(InputError, match=r"mask\.png: 30 × 40 pixels, the image has 40 × 30"):
        predict([tmp_path / "a.png"], model=brightest_file, out=tmp_path / "maps", compare=mask)
    assert list((tmp_path / "maps").iterdir()) == []


def test_masks_that_cannot_be_read_are_said_before_the_work(
    brightest: Model, brightest_file: Path, tmp_path: Path
) -> None:
    for name in "ab":
        image, labels = coloured(70, 40)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        write_mask(tmp_path / f"cut/{name}.png", labels)
        (tmp_path / "numbers").mkdir(exist_ok=True)
        Image.fromarray(labels * 7 + 5).save(tmp_path / f"numbers/{name}.png")
    photos, options = [tmp_path / "a.png", tmp_path / "b.png"], {"model": brightest_file}
    network, out = brightest.generator.network, tmp_path / "maps"
    assert isinstance(network, BrightestBand)
    with pytest.raises(InputError, match=r"numbers: its masks hold 5 = unknown"):
        predict(photos, out=out, compare=tmp_path / "numbers", **options)
    mask = tmp_path / "cut/b.png"
    mask.write_bytes(mask.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"b\.png: the mask cannot be read"):
        predict(photos, out=out, compare=tmp_path / "cut", **options)
    assert network.tiles == 0
    assert not out.exists() or not list(out.iterdir())


def test_masks_of_numbers_tell_together_what_they_are(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers from 1, 64 bits wide: one mask alone, without the last class, would be shifted."""
    (tmp_path / "masks").mkdir()
    for name in "ab":
        image, labels = coloured(30, 40)
        if name == "a":
            labels = np.where(labels == 2, 255, labels)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        numbers = np.where(labels == 255, 0, labels + 1).astype(np.int64)
        write_tiff(tmp_path / f"masks/{name}.tif", numbers[None])
    photos = [tmp_path / "a.png", tmp_path / "b.png"]
    predict(photos, model=brightest_file, out=tmp_path / "maps", compare=tmp_path / "masks")
    printed = capsys.readouterr().out
    assert printed.count("Masks read: 0 = no class") == 1
    assert printed.count("WARNING: 0 is taken for not labelled") == 1
    assert printed.count("100.0 % of the pixels right") == 2


def test_a_mask_of_other_ground(brightest_file: Path, tmp_path: Path) -> None:
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 4e6)}
    image = write_tiff(tmp_path / "field.tif", np.zeros((3, 40, 40), np.uint8), **place)
    place["transform"] = rasterio.Affine(0.1, 0, 5e5 + 4, 0, -0.1, 4e6)
    mask = write_tiff(tmp_path / "mask.tif", np.zeros((1, 40, 40), np.uint8), **place)
    with pytest.raises(InputError, match=r"mask\.tif: by its own coordinates it lies elsewhere"):
        predict([image], model=brightest_file, out=tmp_path / "maps", compare=mask)


def test_unknown_colours_in_masks_are_said(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = coloured(30, 40)
    Image.fromarray(image).save(tmp_path / "a.png")
    colors = MAPPING.palette[labels]
    colors[:3] = (1, 2, 3)
    Image.fromarray(colors).save(tmp_path / "mask.png")
    predict(
        [tmp_path / "a.png"],
        model=brightest_file,
        out=tmp_path / "maps",
        compare=tmp_path / "mask.png",
    )
    printed = capsys.readouterr().out
    assert "WARNING: 120 pixels of unknown colours in the masks are not scored" in printed
    assert "Masks read" not in printed
