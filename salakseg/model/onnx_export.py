"""A model file → ONNX: one file that programs without torch run, QGIS with Deepness among them.

Beside it lies what a catalogue of models (STAC) says of it, see `stac_item`.

The graph holds all that is done to an image: normalisation, padding to the network's multiple of
pixels, the network in evaluation mode, cropping, softmax. Its metadata are those that the QGIS
plugin Deepness reads, and under `salakseg` what a model file says of itself.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salakseg.console import console
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, write_text
from salakseg.model.generator import SIDE_MULTIPLE, Generator
from salakseg.model.onnx_network import ABOUT, IMAGE, INSTALL, PROBABILITIES
from salakseg.model.stac_item import stac_item
from salakseg.model.weights import Model, find_model, load_model
from salakseg.version import VERSION

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Sides of the tiles that a file is tried with, beside the model's own: small and large ones, and
# such as the network's multiple does not divide.
TRIED = ((64, 96), (320, 224), (100, 150))
# Largest difference of a probability between ONNX Runtime and torch.
TOLERANCE = 1e-4
# Deepness' overlap of tiles, in percent, as `predict` has it.
OVERLAP = 25
# What Deepness' ONNX Runtime, 1.17 at most, can read: from 1.14 on.
OPSET, FORMAT_VERSION = 18, 8


class _Portable(nn.Module):
    """Normalisation, network and softmax, for sides that `SIDE_MULTIPLE` divides."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), float32 in [0, 1] → probabilities (B, K, H, W)."""
        x = (images - self.generator.mean) / self.generator.std
        logits: Tensor = self.generator.network(x)
        return logits.softmax(1)


def _with_settled_padding(network: nn.Module) -> None:
    """Give convolutions that pad by the size of their input, as TensorFlow does, the padding that
    they have at such sides: the same at all, which the exporter does not see within minutes."""
    from timm.layers import Conv2dSame

    for parent in list(network.modules()):
        for name, same in list(parent.named_children()):
            if not isinstance(same, Conv2dSame):
                continue
            settings = zip(same.kernel_size, same.stride, same.dilation, strict=True)
            down, across = (max(d * (k - 1) + 1 - s, 0) for k, s, d in settings)
            padding = across // 2, across - across // 2, down // 2, down - down // 2
            bare = nn.Conv2d(
                same.in_channels,
                same.out_channels,
                same.kernel_size,  # type: ignore[arg-type]
                same.stride,  # type: ignore[arg-type]
                dilation=same.dilation,  # type: ignore[arg-type]
                groups=same.groups,
                bias=same.bias is not None,
            )
            bare.weight, bare.bias = same.weight, same.bias
            setattr(parent, name, nn.Sequential(nn.ZeroPad2d(padding), bare))


def export(model: Path | str = Path("best_model.pth"), *, out: Path | str | None = None) -> Path:
    """Write a model as ONNX, and see that ONNX Runtime gives the same classes.

    The input `image` is float32 (B, 3, H, W) in [0, 1], red, green, blue (or the model's bands, by
    the scale that the metadata give); the output
    `probabilities` float32 (B, K, H, W). B, H and W may be any, but for networks whose layers hang
    on the size: their files take tiles of the model's patch size only, and that is said.

    Args:
        model: a model file, or its name in checkpoints/.
        out: the file; None: the model's name with `.onnx`, beside it.

    Returns:
        Where it is.

    Raises:
        InputError: no model; packages missing; a network that ONNX cannot express.
        WorkError: what ONNX Runtime makes of it differs.
    """
    path = find_model(Path(model))
    _require_packages()
    loaded = load_model(path)
    out = path.with_suffix(".onnx") if out is None else Path(out)
    side = loaded.patch_size
    network = _Portable(deepcopy(loaded.generator)).eval()
    _with_settled_padding(network)
    console.print(f"Exporting {path} ({loaded.generator.name}) …")
    sides = [(side, side), *TRIED]
    content = None
    try:
        content = _onnx_of(network, loaded, any_size=True)
        difference = _largest_difference(content, loaded, sides)
    except _NOT_EXPRESSED:
        difference = float("inf")
    if difference > TOLERANCE:  # layers that hang on the size, as those of a pyramid pooling
        sides = sides[:1]
        try:
            content = _onnx_of(network, loaded, any_size=False)
        except _NOT_EXPRESSED as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{path}: {loaded.generator.name} cannot be written as ONNX ({reason})"
            ) from error
        difference = _largest_difference(content, loaded, sides)
    if content is None or difference > TOLERANCE:
        raise WorkError(
            f"{out}: not written; ONNX Runtime's probabilities differ from torch's by "
            f"{difference:.2g}"
        )
    _describe(content, loaded)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_bytes(content.SerializeToString())
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    item = stac_item(loaded, out.name, made, any_size=len(sides) > 1)
    write_text(out.with_suffix(".stac.json"), json.dumps(item, indent=1, ensure_ascii=False) + "\n")
    tiles = "tiles of any size" if len(sides) > 1 else f"tiles of {side} × {side} pixels only"
    console.print(
        f"Wrote {out} (and .stac.json), for {tiles}; tried with ONNX Runtime: probabilities within "
        f"{difference:.1g} of torch's. In QGIS: Deepness, Model file"
    )
    return out


def _require_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}, not installed here: {INSTALL}")


# Of torch's exporter, which has many classes of its own.
_NOT_EXPRESSED = (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError)


def _onnx_of(network: nn.Module, model: Model, any_size: bool) -> Any:
    """The network as an ONNX model in memory, for tiles of any size or of the model's own."""
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    sizes: dict[int, Any] = {0: batch}
    whole = -(-model.patch_size // SIDE_MULTIPLE) * SIDE_MULTIPLE
    bands = model.generator.channels
    example = torch.zeros(2, bands, whole, whole)
    if any_size:
        sizes |= {2: SIDE_MULTIPLE * height, 3: SIDE_MULTIPLE * width}
        # Sides that differ, or they would be taken for one and the same.
        example = torch.zeros(2, bands, whole, whole + SIDE_MULTIPLE)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=(sizes,),
            input_names=["padded"],
            output_names=["whole"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto
    content.ir_version = FORMAT_VERSION
    tile = ["height", "width"] if any_size else [model.patch_size] * 2
    _pad_and_crop(content.graph, bands, model.mapping.num_classes, tile)
    return content


def _pad_and_crop(graph: Any, bands: int, num_classes: int, tile: Sequence[str | int]) -> None:
    """From `padded` → `whole` make `image` → `probabilities`: beyond its edge an image goes on with
    its last pixel up to the next multiple, as the generator pads, and what is of it is cut off."""
    from onnx import TensorProto, helper, numpy_helper

    numbers = {
        **{"zero": 0, "one": 1, "two": 2, "three": 3},
        **{"multiple": SIDE_MULTIPLE, "less": SIDE_MULTIPLE - 1},
        **{"starts": [0, 0], "axes": [2, 3], "first": [2], "last": [4]},
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"tile_{name}")
        for name, value in numbers.items()
    )
    node = helper.make_node
    before = [node("Shape", [IMAGE], ["tile_shape"])]
    source = IMAGE
    for axis, number in ((2, "two"), (3, "three")):
        side, name = f"tile_side_{axis}", f"tile_{axis}"
        target = "padded" if axis == 3 else f"{name}_padded"
        before += [
            node("Gather", ["tile_shape", f"tile_{number}"], [side]),
            node("Add", [side, "tile_less"], [f"{name}_more"]),
            node("Div", [f"{name}_more", "tile_multiple"], [f"{name}_count"]),
            node("Mul", [f"{name}_count", "tile_multiple"], [f"{name}_whole"]),
            node("Range", ["tile_zero", f"{name}_whole", "tile_one"], [f"{name}_range"]),
            node("Sub", [side, "tile_one"], [f"{name}_end"]),
            node("Min", [f"{name}_range", f"{name}_end"], [f"{name}_index"]),
            node("Gather", [source, f"{name}_index"], [target], axis=axis),
        ]
        source = target
    after = [
        node("Slice", ["tile_shape", "tile_first", "tile_last"], ["tile_ends"]),
        node("Slice", ["whole", "tile_starts", "tile_ends", "tile_axes"], [PROBABILITIES]),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    for places, name, channels in (
        (graph.input, IMAGE, bands),
        (graph.output, PROBABILITIES, num_classes),
    ):
        shape = ["batch", channels, *tile]
        places.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own words, which are about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _largest_difference(content: Any, model: Model, sides: list[tuple[int, int]]) -> float:
    """Of any probability between ONNX Runtime and our own, over made-up tiles of these sizes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            content.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        largest = 0.0
        for number, (height, width) in enumerate(sides):
            images = _made_up(1 + number % 2, model.generator.channels, height, width)
            (theirs,) = session.run(None, {IMAGE: images.numpy()})
            with torch.inference_mode():
                ours = model.generator(images).softmax(1).numpy()
            if theirs.shape != ours.shape:
                return float("inf")
            largest = max(largest, float(np.abs(theirs - ours).max()))
    except Exception:  # ONNX Runtime's classes are not public
        return float("inf")
    return largest


def _made_up(batch: int, bands: int, height: int, width: int) -> Tensor:
    """Float32 (B, C, H, W) in [0, 1]: smooth areas with noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, bands, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 0.1 * torch.rand(batch, bands, height, width, generator=generator)).clamp(0, 1)


def _describe(content: Any, model: Model) -> None:
    """Set the metadata: what Deepness reads, each a JSON value, and our own."""
    about: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(model.mapping.names)),
        "tile_size": model.patch_size,
        "tiles_overlap": OVERLAP,
        # The likeliest class everywhere, as `predict` has it, and nothing smoothed away.
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        ABOUT: {
            "version": VERSION,
            "generator": model.generator.name,
            "classes": model.mapping.as_plain(),
            "patch_size": model.patch_size,
            "pixel_size": model.pixel_size,
            "white_level": model.white_level,
            "iteration": model.iteration,
            # By these `predict` corrects areas.
            **{
                name: None if counts is None else counts.tolist()
                for name, counts in (
                    ("val_confusion", model.val_confusion),
                    ("val_confusions", model.val_confusions),
                )
            },
        },
    }
    if model.band_set is not None:
        about[ABOUT]["bands"] = model.band_set.as_plain()
    if model.pixel_size is not None:
        about["resolution"] = round(100 * model.pixel_size, 4)  # centimetres a pixel
    for name, value in about.items():
        item = content.metadata_props.add()
        item.key, item.value = name, json.dumps(value, ensure_ascii=False)
