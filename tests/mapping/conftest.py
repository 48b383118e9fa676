"""Models for the tests of mapping."""

from pathlib import Path

import pytest
import torch

from salakseg.mapping import predict as predict_module
from salakseg.model.generator import Generator, create_generator
from salakseg.model.weights import Model
from tests.mapping.samples import MAPPING, BrightestBand


@pytest.fixture
def brightest() -> Model:
    """The model of that network, in tiles of 64 pixels."""
    generator = Generator("brightest", BrightestBand(), (0, 0, 0), (1, 1, 1))
    return Model(generator, MAPPING, patch_size=64, source="brightest.pth")


@pytest.fixture
def tiny() -> Model:
    """A small network with random weights."""
    torch.manual_seed(0)
    return Model(create_generator("tiny", 3, "none"), MAPPING, patch_size=64)


@pytest.fixture
def brightest_file(brightest: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path that `predict` takes for a model file with that network."""
    path = tmp_path / "brightest.pth"
    path.touch()
    monkeypatch.setattr(predict_module, "load_model", lambda *_: brightest)
    return path
