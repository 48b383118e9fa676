"""Maps by a model of more than three bands: which bands of an image it gets, and what is shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from salakseg.band_set import Band, BandSet
from salakseg.data.patchify import patchify
from salakseg.errors import InputError
from salakseg.evaluation import evaluate as evaluate_module
from salakseg.evaluation.evaluate import evaluate
from salakseg.mapping import predict as predict_module
from salakseg.mapping.outputs import read_tags
from salakseg.mapping.predict import predict
from salakseg.model.generator import Generator
from salakseg.model.weights import Model
from tests.mapping.samples import MAPPING, coloured, png
from tests.multispectral import CAMERA, ground, write_bands

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SET = BandSet(
    (
        Band("red", 3, 0, 4000),
        Band("green", 2, 0, 4000),
        Band("blue", 1, 0, 4000),
        Band("nir", 5, 0, 8000),
    ),
    5,
)


class Infrared(nn.Module):
    """(B, 4, H, W) → logits (B, 3, H, W): class 1 where infrared is bright, else 2, never 0."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * (x[:, [0, 3, 3]] * x.new_tensor([0, 1, -1]).view(1, 3, 1, 1)) + x.new_tensor(
            [-99, 0, 14]
        ).view(1, 3, 1, 1)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path that `predict` and `eval` take for a model file with that network."""
    generator = Generator("infrared", Infrared(), (0,) * 4, (1,) * 4, SET)
    path = tmp_path / "infrared.pth"
    path.touch()
    network = Model(generator, MAPPING, patch_size=64, source=str(path))
    for module, loads in ((predict_module, "load_model"), (evaluate_module, "load_model")):
        monkeypatch.setattr(module, loads, lambda *_: network)
    return path


def field(side: int = 150) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.bool_]]:
    """Values, the classes that the network answers, and where there is anything."""
    values = ground(3, side)[0].astype(np.uint16)
    there = np.ones((side, side), bool)
    there[:, :30] = False
    expected = np.where(values[4] / 8000 * 40 > 14, 1, 2)
    return values, np.where(there, expected, 255).astype(np.uint8), there


def classes_of(path: Path, model: Path, **options: Any) -> NDArray[np.uint8]:
    out = path.parent / f"maps-{len(list(path.parent.iterdir()))}"
    [done] = predict([path], model=model, out=out, device="cpu", **options)
    with rasterio.open(done.classes) as raster:
        found: NDArray[np.uint8] = raster.read(1)
    return found


def nearly(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """Equal but for values on the border of the two classes, which 8 bits round."""
    return bool((found == expected).mean() > 0.99 and ((found == 255) == (expected == 255)).all())


def as_float(values: NDArray[np.uint16], path: Path, there: NDArray[np.bool_]) -> None:
    write_bands(path, values.astype(np.float32), there=there)


def swapped(values: NDArray[np.uint16], path: Path, there: NDArray[np.bool_]) -> None:
    write_bands(path, values[::-1], CAMERA[::-1], there)


def unnamed(values: NDArray[np.uint16], path: Path, there: NDArray[np.bool_]) -> None:
    write_bands(path, values, None, there)


def with_more(values: NDArray[np.uint16], path: Path, there: NDArray[np.bool_]) -> None:
    write_bands(path, np.concatenate([values[:1], values]), ("LWIR", *CAMERA), there)


@pytest.mark.parametrize("write", [as_float, swapped, unnamed, with_more])
def test_the_map_is_right_whatever_the_order_of_the_bands(
    model: Path, tmp_path: Path, write: Callable[..., None]
) -> None:
    values, expected, there = field()
    write(values, tmp_path / "field.tif", there)
    assert nearly(classes_of(tmp_path / "field.tif", model), expected)


def test_bands_that_the_user_names_and_what_is_told_of_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, expected, there = field()
    path = write_bands(tmp_path / "field.tif", values[::-1], None, there)
    assert nearly(classes_of(path, model, bands="3,4,5,1"), expected)
    swapped(values, path, there)
    capsys.readouterr()
    [done] = predict([path], model=model, out=tmp_path / "maps", device="cpu")
    said = " ".join(capsys.readouterr().out.split())
    assert "its bands 3,4,5,1 are taken for red, green, blue, nir, by their names" in said
    options = json.loads(read_tags(done.classes)["OPTIONS"])
    assert BandSet.from_plain(options["band_set"]) == SET
    with Image.open(done.preview) as preview:  # red, green and blue
        shown = np.asarray(preview)[:150, :150]
    expected_colours = np.moveaxis(values[[2, 1, 0]], 0, 2) / 4000 * 255
    assert np.abs(shown[there] - expected_colours[there]).max() <= 1


def test_what_cannot_be_told_is_refused_in_a_line(model: Path, tmp_path: Path) -> None:
    values, _, there = field()
    path = write_bands(tmp_path / "field.tif", values, there=there)
    refused: list[tuple[Path, dict[str, Any], str]] = [
        (png(tmp_path / "photo", coloured(80, 80)[0]), {}, "which of its bands is nir"),
        (write_bands(tmp_path / "four.tif", values[:4], CAMERA[:4]), {}, "is nir .it has blue,"),
        (path, {"bands": "3,2,1"}, "--bands 3,2,1: must be 4 band numbers, for red, green, blue,"),
        (path, {"bands": "3,2,1,9"}, "has no band 9, only 6"),
        (path, {"bands": "3,2,1,1"}, "must be one or three band numbers"),
        (write_bands(tmp_path / "unit.tif", values / 1e4), {}, "of another unit; gdal_edit.py"),
    ]
    for image, options, message in refused:
        with pytest.raises(InputError, match=message):
            predict([image], model=model, out=tmp_path / "maps", device="cpu", **options)
    assert not list((tmp_path / "maps").glob("*_classes*"))


def test_a_model_of_colours_takes_no_more_bands(brightest_file: Path, tmp_path: Path) -> None:
    path = write_bands(tmp_path / "field.tif", field()[0])
    with pytest.raises(InputError, match=r"--bands 1,2,3,4: .* takes red, green and blue"):
        predict([path], model=brightest_file, out=tmp_path / "maps", bands="1,2,3,4")
    predict([path], model=brightest_file, out=tmp_path / "maps", device="cpu")


def test_another_pixel_size(model: Path, tmp_path: Path) -> None:
    values, labels = ground(3, 150)
    smooth = np.where(labels == 1, 4500, 1500)
    values[4] = smooth
    path = write_bands(tmp_path / "field.tif", values.astype(np.uint16))
    for resolution in (0.2, 0.05):
        found = classes_of(path, model, resolution=resolution)
        assert (found == np.where(labels == 1, 1, 2)).mean() > 0.95


def test_patches_are_put_together_and_give_the_map_of_their_image(
    model: Path, tmp_path: Path
) -> None:
    values, expected, there = field()
    write_bands(tmp_path / "photos/images/field.tif", values, there=there)
    photos, cut = tmp_path / "photos", tmp_path / "cut"
    patchify(photos, out=cut, size=64, bands="3,2,1,5", num_workers=1)
    assert nearly(classes_of(cut / "images", model), expected)


def test_full_images_are_scored_by_their_bands(model: Path, tmp_path: Path) -> None:
    values, expected, there = field()
    write_bands(tmp_path / "data/images/field.tif", values[::-1], CAMERA[::-1], there)
    write_bands(tmp_path / "data/masks/field.tif", expected[None], None)
    result = evaluate(model, data=tmp_path / "data", out=tmp_path / "eval", device="cpu")
    assert result["pixel_accuracy"] > 0.99 and result["scored_pixels"] == there.sum()
    assert (tmp_path / "eval/contact_sheet.png").exists()
