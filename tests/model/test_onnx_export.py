import json
from pathlib import Path

import numpy as np
import pytest
import torch

from salakseg import export
from salakseg.band_set import Band, BandSet
from salakseg.classes import ClassMapping
from salakseg.errors import InputError, WorkError
from salakseg.imagery.photo import read_photo
from salakseg.model import onnx_export
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, save_model
from tests.conftest import SAMPLES

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
CLASSES = ClassMapping(
    (("Water", (0, 0, 255), False), ("Tanah", (132, 41, 246), False), ("Road", (1, 2, 3), False))
)


def model_file(name: str = "tiny", patch_size: int = 64) -> tuple[Path, Model]:
    torch.manual_seed(0)
    model = Model(create_generator(name, 3, "none"), CLASSES, patch_size, pixel_size=0.05)
    for module in model.generator.modules():  # statistics that are not those of no training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    model.generator.train()  # as it may be in somebody's hands
    save_model(Path("model.pth"), model)
    return Path("model.pth"), model


def probabilities(path: Path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": (images.float() / 255).numpy()})[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "fpn128-tu-tf_mobilenetv3_small_minimal_100"])
def test_onnx_runtime_gives_our_classes_on_real_tiles_of_any_size(name: str) -> None:
    file, model = model_file(name)
    written = export(file)
    assert written == Path("model.onnx")
    photo = read_photo(sorted((SAMPLES / "images").iterdir())[0])
    for batch, height, width in ((1, 64, 64), (3, 96, 160), (2, 77, 130)):
        tiles = [photo[i * 40 : i * 40 + height, 20 : 20 + width] for i in range(batch)]
        images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()
        theirs, ours = probabilities(written, images), model.probabilities(images, False).numpy()
        assert theirs.shape == ours.shape
        assert np.abs(theirs - ours).max() < 1e-4
        assert (theirs.argmax(1) == ours.argmax(1)).mean() > 0.999


def test_more_bands_go_in_and_the_file_says_which() -> None:
    names = ("red", "green", "blue", "nir", "rededge")
    bands = BandSet(tuple(Band(name, n, 0, 0.8) for n, name in enumerate(names, 1)), 5)
    model = Model(create_generator("tiny", 3, "none", bands), CLASSES, 64)
    save_model(Path("model.pth"), model)
    written = export("model.pth")
    session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1] == 5
    told = json.loads(session.get_modelmeta().custom_metadata_map["salakseg"])
    assert BandSet.from_plain(told["bands"]) == bands
    images = torch.randint(0, 256, (2, 5, 64, 96), dtype=torch.uint8)
    ours = model.probabilities(images, False).numpy()
    assert np.abs(probabilities(written, images) - ours).max() < 1e-4


def test_the_file_says_what_qgis_needs(capsys: pytest.CaptureFixture[str]) -> None:
    written = export(model_file()[0], out="deep/field.onnx")
    assert written == Path("deep/field.onnx")
    item = json.loads(Path("deep/field.stac.json").read_text(encoding="utf-8"))
    assert item["assets"]["model"]["href"] == "./field.onnx"
    assert item["properties"]["mlm:input"][0]["input"]["shape"] == [-1, 3, -1, -1]
    session = onnxruntime.InferenceSession(str(written), providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert image.type == output.type == "tensor(float)" and image.shape[1] == 3
    assert output.shape[1] == 3
    content = onnx.load(written)
    assert content.ir_version == 8 and [one.version for one in content.opset_import] == [18]
    about = {
        key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
    assert about["model_type"] == "Segmentor" and about["tile_size"] == 64
    assert about["class_names"] == {"0": "Water", "1": "Tanah", "2": "Road"}
    assert about["resolution"] == 5 and about["tiles_overlap"] == 25
    assert about["seg_thresh"] == 0 and about["seg_small_segment"] == 0
    assert about["salakseg"]["classes"] == CLASSES.as_plain()
    assert "tiles of any size" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_that_hangs_on_the_size_is_written_for_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, model = model_file("pspnet-mobilenet_v2")
    written = export(file)
    assert "tiles of 64 × 64 pixels only" in capsys.readouterr().out
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    theirs = probabilities(written, images)
    assert np.abs(theirs - model.probabilities(images, False).numpy()).max() < 1e-4


def test_a_file_that_computes_something_else_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, _ = model_file()
    monkeypatch.setattr(onnx_export, "_largest_difference", lambda *_: 0.2)
    with pytest.raises(
        WorkError, match=r"model\.onnx: not written; .* differ from torch's by 0\.2"
    ):
        export(file)
    assert not Path("model.onnx").exists()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"best_model\.pth: no such model file"):
        export()
    file, _ = model_file()
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package, .* pip install \"salakseg\[onnx"):
        export(file)
