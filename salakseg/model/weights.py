"""Model files that describe themselves: `eval` and `predict` need nothing beside one."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from salakseg.band_set import BandSet
from salakseg.classes import ClassMapping
from salakseg.device import autocast_dtype
from salakseg.errors import InputError
from salakseg.model.applicability import Applicability
from salakseg.model.generator import Generator, create_generator
from salakseg.model.guide import of_the_guide
from salakseg.model.torch_files import (
    is_state_dict,
    read_torch_file,
    unfit,
    without_wrapper,
    write_torch_file,
)

ONNX_SUFFIX = ".onnx"
MODEL_FORMAT = "salakseg-model-1"
# Of the validation photographs that a model file tells apart.
MOST_PHOTOS = 512
MOST_COUNTS = 1_000_000
# Scales of a band that differ by so much are of different units, not of different light.
OTHER_UNIT = 10
# An image so many times as large costs the square of it.
LARGEST = 4


@dataclass
class Model:
    """A generator with all that is needed to use it.

    Attributes:
        generator: the network, normalisation included.
        mapping: names and colours of its classes.
        patch_size: side of the training patches in pixels; the natural tile.
        pixel_size: metres on the ground a pixel that it was trained at, None where not known.
        iteration: training iterations that its weights have seen.
        val_confusion: int64 (K, K) on the validation patches, or None.
        training: how it was trained (options and data counts), plain values.
        applicability: what its labelled patches are like, None where that is not known.
        source: where it was read from; "" for one that never was in a file.
        val_confusions: int64 (G, K, K), the same by photograph, of at most as many as
            `some_photos` keeps; None where that is not known.
        white_level: the 16-bit value that was full brightness in training; None for 8 bits, and
            where it is not known.
        enlarge: how many times as large the network sees an image as it is; see `enlarging`.
    """

    generator: Generator
    mapping: ClassMapping
    patch_size: int = 256
    pixel_size: float | None = None
    iteration: int = 0
    val_confusion: NDArray[np.int64] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    applicability: Applicability | None = None
    source: str = ""
    val_confusions: NDArray[np.int64] | None = None
    white_level: int | None = None
    enlarge: float = 1.0

    @property
    def band_set(self) -> BandSet | None:
        """The bands that it takes, where they are more than three; None: red, green, blue."""
        return self.generator.band_set

    @torch.inference_mode()
    def probabilities(self, images: Tensor, amp: bool | None = None) -> Tensor:
        """Softmax probabilities in evaluation mode.

        Args:
            images: uint8 (B, C, H, W) on the generator's device.
            amp: mixed precision; None: where the device is fast at it.

        Returns:
            float32 (B, K, H, W).
        """
        device, sides = images.device, images.shape[2:]
        dtype = autocast_dtype(device, amp)
        self.generator.eval()
        x = images.float().div_(255)
        if self.enlarge != 1:
            x = functional.interpolate(x, [round(self.enlarge * s) for s in sides], mode="bilinear")
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = self.generator(x)
        if device.type != "cpu":
            result = logits.float().softmax(1)
        else:
            # Picture by picture, which stay in a processor's cache: a quarter of the time.
            result = torch.empty_like(logits, dtype=torch.float32)
            for one, of_one in zip(result, logits, strict=True):
                torch.softmax(of_one.float(), 0, out=one)
        if self.enlarge != 1:
            result = functional.interpolate(result, sides, mode="bilinear", antialias=True)
        return result


def enlarging(model: Model, times: float) -> Model:
    """The model, which sees images this many times as large: their small things then are larger
    than the strides of its network, and it is surer of what a place is.

    Raises:
        InputError: less than 1, or more than `LARGEST`.
    """
    if not 1 <= times <= LARGEST:
        raise InputError(f"--enlarge {times:g}: must be from 1 to {LARGEST}")
    return model if times == 1 else replace(model, enlarge=times)


def some_photos(confusions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of the confusion matrices (G, K, K) of very many photographs, evenly spaced ones, for a file:
    at most `MOST_PHOTOS`, and no more than `MOST_COUNTS` numbers. Their spread stays what it is."""
    most = max(1, min(MOST_PHOTOS, MOST_COUNTS // confusions[0].size))
    if len(confusions) <= most:
        return confusions
    return confusions[np.linspace(0, len(confusions) - 1, most).round().astype(int)]


def model_content(model: Model) -> dict[str, Any]:
    """What a model file holds: tensors and plain Python values only."""
    applicability = model.applicability
    return {
        "format": MODEL_FORMAT,
        "generator": model.generator.name,
        "classes": model.mapping.as_plain(),
        "mean": model.generator.mean.flatten().tolist(),
        "std": model.generator.std.flatten().tolist(),
        "bands": None if model.band_set is None else model.band_set.as_plain(),
        "patch_size": model.patch_size,
        "pixel_size": model.pixel_size,
        "white_level": model.white_level,
        "iteration": model.iteration,
        "val_confusion": as_tensor(model.val_confusion),
        "val_confusions": as_tensor(model.val_confusions),
        "training": model.training,
        "applicability": None if applicability is None else applicability.as_plain(),
        "state": {
            key: value.detach() for key, value in model.generator.network.state_dict().items()
        },
    }


def bring_to(model: Model, band_set: BandSet | None, where: str) -> None:
    """Let a model take the patches of a data set, which may have another scale of the same bands:
    its normalisation then moves with that, so that the same ground looks the same to it.

    Raises:
        InputError: other bands, or bands of another unit.
    """
    generator, ours = model.generator, model.band_set
    if ours == band_set:
        return
    said = ["red, green, blue" if one is None else one.described() for one in (ours, band_set)]
    refusal = InputError(
        f"{model.source or 'the model'}: takes other bands ({said[0]}) than {where} has ({said[1]})"
    )
    if ours is None or band_set is None or ours.names != band_set.names:
        raise refusal
    low, size, new_low, new_size = torch.tensor(
        [
            (one.low, one.high - one.low, other.low, other.high - other.low)
            for one, other in zip(ours.bands, band_set.bands, strict=True)
        ]
    ).T
    ratio, shift = size / new_size, (low - new_low) / new_size
    if not ((ratio < OTHER_UNIT) & (ratio > 1 / OTHER_UNIT)).all():
        raise refusal
    mean = generator.mean.flatten().cpu() * ratio + shift
    generator.normalise_by(mean.tolist(), (generator.std.flatten().cpu() * ratio).tolist())
    generator.band_set = band_set


def as_tensor(array: NDArray[np.int64] | None) -> Tensor | None:
    """A copy as files hold it."""
    return None if array is None else torch.from_numpy(np.array(array))


def as_array(tensor: Tensor | None) -> NDArray[np.int64] | None:
    """The way back."""
    return None if tensor is None else tensor.numpy()


def save_model(path: Path, model: Model) -> None:
    """Write a model file atomically."""
    write_torch_file(path, model_content(model))


def find_model(name: Path, checkpoint_dir: Path = Path("checkpoints")) -> Path:
    """A path as it is, or a name looked for in `checkpoints/`."""
    if name.exists():
        return name
    inside = checkpoint_dir / name
    if not name.is_absolute() and inside.exists():
        return inside
    raise InputError(
        f"{name}: no such model file, neither here nor in {checkpoint_dir}; "
        "train one first: salakseg train"
    )


def load_model(
    path: Path,
    device: torch.device | str = "cpu",
    generator: str | None = None,
    mapping: ClassMapping | None = None,
) -> Model:
    """Read a model file; a file of the published guide's program where its `mapping` is given; a
    bare state dict where its `generator` and `mapping` are.

    Raises:
        InputError: damaged or malicious file, no model, weights that do not fit the network.
    """
    if path.suffix.lower() == ONNX_SUFFIX:
        raise InputError(
            f"{path}: ONNX, which predict takes; here give the model file that it was exported from"
        )
    content = read_torch_file(path)
    if isinstance(content, dict) and content.get("format") == MODEL_FORMAT:
        try:
            name = content["generator"]
            classes = ClassMapping.from_plain(content["classes"], "its classes")
            bands = content.get("bands")
            band_set = None if bands is None else BandSet.from_plain(bands)
            network = create_generator(name, classes.num_classes, "none", band_set).network
            # Models of earlier versions have neither.
            applicability = content.get("applicability")
            confusions = content.get("val_confusions")
            model = Model(
                Generator(name, network, tuple(content["mean"]), tuple(content["std"]), band_set),
                classes,
                int(content["patch_size"]),
                content["pixel_size"],
                int(content["iteration"]),
                as_array(content["val_confusion"]),
                dict(content["training"]),
                None if applicability is None else Applicability.from_plain(applicability),
                str(path),
                as_array(confusions),
                None if content.get("white_level") is None else int(content["white_level"]),
            )
            state = content["state"]
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(f"{path}: a model file with parts missing ({error})") from error
    elif (guide := of_the_guide(content)) is not None:
        name, num_classes, state = guide
        if mapping is None or mapping.num_classes != num_classes:
            given = "" if mapping is None else f", which has {mapping.num_classes} now"
            raise InputError(
                f"{path}: weights of the published guide's program, for {num_classes} classes; say "
                f"which with --class-mapping{given}"
            )
        model = Model(create_generator(name, num_classes, "none"), mapping, source=str(path))
    elif isinstance(content, dict) and "model_state" in content:
        raise InputError(
            f"{path}: a full checkpoint, to go on training from; "
            "use latest_model.pth or best_model.pth beside it"
        )
    elif content and is_state_dict(content):
        if generator is None or mapping is None:
            raise InputError(
                f"{path}: a bare state dict; say its network with --generator and its classes "
                "with --class-mapping"
            )
        model = Model(
            create_generator(generator, mapping.num_classes, "none"), mapping, source=str(path)
        )
        state = without_wrapper(content)
    else:
        raise InputError(f"{path}: no model of this program")
    try:
        model.generator.network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        wanted = f"{model.generator.name} with {model.mapping.num_classes} classes"
        raise unfit(path, wanted, str(error).splitlines()[-1].strip()) from error
    model.generator.to(memory_format=torch.channels_last).to(torch.device(device)).eval()
    return model
