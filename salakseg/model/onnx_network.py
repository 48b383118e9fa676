"""What `export` wrote as a model again: ONNX Runtime computes, all else is as with a model file."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salakseg.band_set import BandSet
from salakseg.classes import ClassMapping
from salakseg.errors import InputError
from salakseg.model.generator import Generator
from salakseg.model.weights import ONNX_SUFFIX, Model, load_model

INSTALL = 'pip install "salakseg[onnx]"'
# Names in the graph, and of our own part of its metadata.
IMAGE, PROBABILITIES, ABOUT = "image", "probabilities", "salakseg"


class OnnxGenerator(Generator):
    """A session in the place of a network; normalisation and padding are in its graph."""

    def __init__(self, name: str, session: Any, source: Path, band_set: BandSet | None) -> None:
        channels = 3 if band_set is None else len(band_set)
        super().__init__(name, nn.Identity(), (0.0,) * channels, (1.0,) * channels, band_set)
        self._session, self._source = session, source
        self._side = session.get_inputs()[0].shape[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), float in [0, 1] → logarithms of probabilities (B, K, H, W).

        Raises:
            InputError: a file for tiles of one size, and tiles of another one.
        """
        if isinstance(self._side, int) and images.shape[-2:] != (self._side, self._side):
            raise InputError(
                f"{self._source}: takes tiles of {self._side} × {self._side} pixels only; leave "
                "out --enlarge, or tile="
            )
        values = np.ascontiguousarray(images.float().cpu().numpy())
        (probabilities,) = self._session.run([PROBABILITIES], {IMAGE: values})
        return torch.from_numpy(probabilities).to(images.device).log()


def load_any_model(
    path: Path,
    device: torch.device | str = "cpu",
    generator: str | None = None,
    mapping: ClassMapping | None = None,
) -> Model:
    """As `load_model`, and ONNX files of `export`, which know nothing of what is far.

    Raises:
        InputError: as `load_model`; ONNX Runtime is missing; a file of another program.
    """
    if path.suffix.lower() != ONNX_SUFFIX:
        return load_model(path, device, generator, mapping)
    if find_spec("onnxruntime") is None:
        raise InputError(f"{path}: needs onnxruntime, not installed here: {INSTALL}")
    device = torch.device(device)
    session = _session_of(path, device)
    told = session.get_modelmeta().custom_metadata_map.get(ABOUT)
    if told is None:
        raise InputError(
            f"{path}: an ONNX file of another program, which does not say what its classes are; "
            "predict takes those of salakseg export"
        )
    try:
        about = json.loads(told)
        bands = about.get("bands")
        network = OnnxGenerator(
            str(about["generator"]),
            session,
            path,
            None if bands is None else BandSet.from_plain(bands),
        )
        model = Model(
            network,
            ClassMapping.from_plain(about["classes"], "its classes"),
            int(about["patch_size"]),
            about["pixel_size"],
            int(about["iteration"]),
            _counts(about.get("val_confusion")),
            source=str(path),
            val_confusions=_counts(about.get("val_confusions")),
            white_level=about["white_level"],
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: metadata with parts missing ({error})") from error
    network.to(device).eval()
    return model


def _counts(plain: list[Any] | None) -> Any:
    return None if plain is None else np.array(plain, np.int64)


def _session_of(path: Path, device: torch.device) -> Any:
    """A session on the device, or beside it where ONNX Runtime was built without that."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=providers)
    except Exception as error:  # its classes are not public
        raise InputError(f"{path}: damaged, or no ONNX file") from error
