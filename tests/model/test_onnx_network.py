"""A map by ONNX Runtime is the map of the model file; other files are refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from salakseg import export, predict
from salakseg.band_set import Band, BandSet
from salakseg.errors import InputError
from salakseg.imagery.photo import read_photo
from salakseg.model.generator import create_generator
from salakseg.model.onnx_network import load_any_model
from salakseg.model.weights import Model, load_model, save_model
from tests.conftest import SAMPLES
from tests.data.cutting import write_geotiff
from tests.model.test_onnx_export import CLASSES, model_file

onnx = pytest.importorskip("onnx")


def band_of(path: Path) -> NDArray[np.int64]:
    with rasterio.open(path) as raster:
        return raster.read(1).astype(np.int64)


def with_metadata(path: Path, **changes: Any) -> Path:
    """The file with our part of its metadata changed; None takes it away."""
    content = onnx.load(path)
    told = {one.key: one.value for one in content.metadata_props}
    for name, value in changes.items():
        told.pop(name)
        if value is not None:
            told[name] = value
    onnx.helper.set_model_props(content, told)
    onnx.save(content, "changed.onnx")
    return Path("changed.onnx")


@pytest.mark.slow
def test_the_same_map_without_torch() -> None:
    file, model = model_file()
    model.val_confusion = np.array([[90, 5, 5], [2, 80, 1], [0, 3, 70]])
    model.white_level = 4095
    save_model(file, model)
    pixels = np.moveaxis(read_photo(sorted((SAMPLES / "images").iterdir())[0]), 2, 0)
    write_geotiff(Path("field.tif"), pixels[:, :150, :210], nodata=0)
    written = export(file)
    for given in (file, written):
        predict(["field.tif"], model=given, out=given.suffix[1:], device="cpu", amp=False)
    for band in ("classes", "confidence"):
        ours, theirs = (band_of(Path(out, f"field_{band}.tif")) for out in ("pth", "onnx"))
        if band == "classes":
            assert (ours == theirs).mean() > 0.999 and len(np.unique(ours)) > 1
        else:
            assert np.abs(ours - theirs).max() <= 1
    ours, theirs = (Path(out, "field_areas.csv").read_text("utf-8") for out in ("pth", "onnx"))
    assert ours.splitlines()[0] == theirs.splitlines()[0]


def test_it_knows_what_the_model_file_knows() -> None:
    names = ("red", "green", "blue", "nir")
    bands = BandSet(tuple(Band(name, n, 0, 0.8) for n, name in enumerate(names, 1)), 4)
    model = Model(create_generator("tiny", 3, "none", bands), CLASSES, 64, 0.05, 7)
    model.val_confusion = np.arange(9).reshape(3, 3)
    model.val_confusions = np.arange(18).reshape(2, 3, 3)
    save_model(Path("model.pth"), model)
    loaded = load_any_model(export("model.pth"))
    for name in ("mapping", "patch_size", "pixel_size", "iteration", "white_level", "band_set"):
        assert getattr(loaded, name) == getattr(model, name)
    assert np.array_equal(loaded.val_confusion, model.val_confusion)
    assert np.array_equal(loaded.val_confusions, model.val_confusions)
    assert loaded.applicability is None and loaded.source == "model.onnx"
    images = torch.randint(0, 256, (2, 4, 50, 90), dtype=torch.uint8)
    difference = loaded.probabilities(images) - model.probabilities(images, False)
    assert difference.abs().max() < 1e-4


@pytest.mark.slow
def test_tiles_of_one_size_alone_where_the_network_wants_it() -> None:
    file, _ = model_file("pspnet-tu-mobilenetv3_small_050")
    loaded = load_any_model(export(file))
    assert loaded.probabilities(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1] == 3
    with pytest.raises(InputError, match=r"tiles of 64 × 64 pixels only; leave out --enlarge"):
        loaded.probabilities(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))


def test_other_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    written = export(model_file()[0])
    with pytest.raises(InputError, match=r"model\.onnx: ONNX, which predict takes"):
        load_model(written)
    with pytest.raises(InputError, match="of another program, which does not say"):
        load_any_model(with_metadata(written, salakseg=None))
    with pytest.raises(InputError, match="metadata with parts missing"):
        load_any_model(with_metadata(written, salakseg=json.dumps({"generator": "tiny"})))
    with pytest.raises(InputError, match="metadata with parts missing"):
        load_any_model(with_metadata(written, salakseg="{"))
    Path("torn.onnx").write_bytes(written.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"torn\.onnx: damaged, or no ONNX file"):
        load_any_model(Path("torn.onnx"))
    monkeypatch.setattr("salakseg.model.onnx_network.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'onnxruntime, not installed here: pip install "salak'):
        load_any_model(written)
