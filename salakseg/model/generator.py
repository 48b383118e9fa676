"""create_generator(): the segmentation networks, S4GAN's generators.

A generator takes images as float in [0, 1], whatever its encoder was trained on: the normalisation
is part of it. It gives logits at the size of the images, which may be of any size.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from salakseg.band_set import COLOURS, BandSet
from salakseg.distributed import world_size
from salakseg.errors import InputError
from salakseg.model.cpu_kernels import fast_kernels
from salakseg.model.deeplabv2 import DeepLabV2
from salakseg.model.encoder_weights import load_encoder_weights
from salakseg.model.guide import MEAN, GuideDeepLabV3Plus
from salakseg.model.names import (
    DEFAULT_GENERATOR,
    GUIDE_V1,
    GUIDE_V3,
    PAPER_GENERATOR,
    SHORT_NAMES,
    TINY_GENERATOR,
    whole_name,
)
from salakseg.model.upsample import deterministic_upsampling

# SMP's decoders need sides that their deepest stride divides.
SIDE_MULTIPLE = 32
# Its DPT scales by whole numbers from a ViT's patches, of these sides in pixels.
DPT_PATCHES = (8, 16, 32)
# Sides of patches that are tried where one does not fit.
USUAL_SIDES = (128, 192, 224, 256, 384, 448, 512)
# Networks that are not segmentation-models-pytorch's.
OWN = (TINY_GENERATOR, PAPER_GENERATOR, GUIDE_V1, GUIDE_V3)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Of the learning rate, what a pretrained encoder takes: a convolutional one; SegFormer's, as in its
# paper; one trained without labels, as DINOv2 in UniMatch V2. At a third these forget what they
# know.
ENCODER_RATE = 1 / 3
ENCODER_RATES = {"mit_b": 1 / 10, "dinov2": 1 / 40, "dinov3": 1 / 40}


class Generator(nn.Module):
    """A segmentation network with its normalisation.

    Attributes:
        name: what `create_generator` was called with.
        network: the module whose state dict model files hold.
        mean, std: of each band, of values from 0 to 1.
        band_set: the bands that it takes, where they are more than three; None: red, green, blue.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        band_set: BandSet | None = None,
    ) -> None:
        super().__init__()
        self.band_set = band_set
        self.name = name
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """Bands of its images."""
        return self.mean.shape[1]

    @property
    def colours(self) -> Sequence[int] | None:
        """Which of them are red, green and blue; None: they are not all there."""
        return (0, 1, 2) if self.band_set is None else self.band_set.colours

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take another mean and deviation: those that its weights were trained with."""
        self.mean.copy_(torch.tensor(mean).view(1, -1, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), float in [0, 1] → logits (B, K, H, W)."""
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        right, below = -width % SIDE_MULTIPLE, -height % SIDE_MULTIPLE
        if right or below:
            x = functional.pad(x, (0, right, 0, below), mode="replicate")
        x = x.contiguous(memory_format=torch.channels_last)
        with fast_kernels(x.device), deterministic_upsampling(x.device):
            if self.training and len(x) == 1:
                with _single_values_bearable(self.network):
                    logits: Tensor = self.network(x)
            else:
                logits = self.network(x)
        return logits[..., :height, :width]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those that ImageNet weights are for; none where the network has no such part."""
        if isinstance(self.network, DeepLabV2):
            head = {id(parameter) for parameter in self.network.layer5.parameters()}
            return [p for p in self.network.parameters() if id(p) not in head]
        encoder = getattr(self.network, "encoder", None)
        return list(encoder.parameters()) if isinstance(encoder, nn.Module) else []

    @property
    def encoder_rate(self) -> float:
        """Part of the learning rate that its encoder takes where it is pretrained."""
        name = whole_name(self.name)
        return next(
            (rate for family, rate in ENCODER_RATES.items() if family in name), ENCODER_RATE
        )


@contextmanager
def _single_values_bearable(network: nn.Module) -> Iterator[None]:
    """Meanwhile batch normalisation of a single value a channel (a pooled picture, in a batch of
    one over all processes), which has no variance, goes by its running statistics, as after
    training.

    The picture twice would give it one, of 0, for training; and evaluation would divide by that.
    """

    def before(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.training = inputs[0].numel() * world_size() > inputs[0].shape[1]

    def after(norm: nn.Module, *_: Any) -> None:
        norm.training = True

    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    hooks = [norm.register_forward_pre_hook(before) for norm in norms]
    hooks += [norm.register_forward_hook(after, always_call=True) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Tiny(nn.Module):
    """A few convolutions at a quarter of the size: for tests and for trying things out."""

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()

        def block(in_channels: int, stride: int, dilation: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(
                    in_channels, width, 3, stride, padding=dilation, dilation=dilation, bias=False
                ),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )

        self.stem = nn.Sequential(block(3, 2, 1), block(width, 2, 1))
        self.context = nn.ModuleList(block(width, 1, dilation) for dilation in (1, 2, 4, 8))
        self.head = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B, K, H, W)."""
        fine: Tensor = self.stem(x)
        coarse = fine
        for layer in self.context:
            coarse = coarse + layer(coarse)
        logits = self.head(torch.cat([fine, coarse], 1))
        return functional.interpolate(
            logits, size=x.shape[-2:], mode="bilinear", align_corners=False
        )


def create_generator(
    name: str = DEFAULT_GENERATOR,
    num_classes: int = 7,
    encoder_weights: str = "imagenet",
    band_set: BandSet | None = None,
) -> Generator:
    """Build a generator.

    Args:
        name: `deeplabv3plus-resnet50`, `deeplabv2-resnet101` (the paper's), `tiny`,
            `fpn-dinov3-convnext-tiny`, `dpt-dinov3-vits`, or any
            `ARCH-ENCODER` of segmentation-models-pytorch, as in `fpn-tu-efficientnet_lite0`, where
            `fpn128-…` is an FPN of 128 channels instead of 256; `guide-v1` and `guide-v3` are those
            of the published guide's files, from random weights.
        num_classes: K.
        encoder_weights: `imagenet` (the encoder's pretrained weights, fetched from the internet
            once), `none` (random), or the path of a file with a state dict of the encoder, or of a
            network that has it, whatever comes before its names there. `tiny` has none and takes
            random weights for `imagenet`.
        band_set: bands in place of red, green and blue; see `widened`.

    Raises:
        InputError: unknown name; weights that cannot be fetched, read, or do not fit.
    """
    fetch = encoder_weights == "imagenet"
    if name == TINY_GENERATOR:
        generator = Generator(name, Tiny(num_classes), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    elif name == PAPER_GENERATOR:
        generator = Generator(name, DeepLabV2(num_classes))
        if fetch:
            generator.network.load_state_dict(_fetch_resnet101(), strict=False)
    elif name in (GUIDE_V1, GUIDE_V3):
        network: nn.Module = GuideDeepLabV3Plus(num_classes)
        if name == GUIDE_V1:
            network = DeepLabV2(num_classes, align_corners=True)
        mean = tuple(value / 255 for value in MEAN)
        generator = Generator(name, network, mean, (1 / 255,) * 3)
    else:
        generator = _smp_generator(name, num_classes, fetch)
    if encoder_weights not in ("imagenet", "none"):
        load_encoder_weights(generator.network, name, Path(encoder_weights))
    return generator if band_set is None else widened(generator, band_set)


def widened(generator: Generator, band_set: BandSet) -> Generator:
    """One for red, green and blue, made to take the bands of a set, and normalise them by its own.

    The first convolution's filters of red, green and blue stay with these bands; others get the
    mean of the three. All shrink by 3 / C, so that what comes out keeps its size. (The encoders'
    own rule repeats red, green and blue in order, whatever the bands are.)

    Raises:
        InputError: a network whose first layer is no convolution of the image.
    """
    first = [
        module
        for module in generator.network.modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1
    ]
    if not first:
        raise InputError(f"--generator {generator.name}: can take red, green and blue alone")
    for convolution in first:
        weight = convolution.weight.detach()
        mean = weight.mean(1)
        filters = [
            weight[:, COLOURS.index(name)] if name in COLOURS else mean for name in band_set.names
        ]
        wide = torch.stack(filters, 1) * (3 / len(band_set))
        convolution.weight = nn.Parameter(wide)
        convolution.in_channels = len(band_set)
    half = (0.5,) * len(band_set)
    settings = band_set.mean or half, band_set.std or half
    return Generator(generator.name, generator.network, *settings, band_set)


def _smp_generator(name: str, num_classes: int, fetch: bool) -> Generator:
    import segmentation_models_pytorch as smp

    architecture, _, encoder = whole_name(name).partition("-")
    # SMP's FPN is as wide as one on ResNet-101: on a small encoder, half of it is decoder.
    extra: dict[str, Any] = {}
    if narrow := re.fullmatch(r"fpn(\d+)", architecture):
        architecture, width = "fpn", int(narrow[1])
        extra = {"decoder_pyramid_channels": width, "decoder_segmentation_channels": width // 2}
    if architecture == "dpt":
        extra = {"dynamic_img_size": True}  # position embeddings for patches of any size
    known = list(smp.MODEL_ARCHITECTURES_MAPPING)
    if architecture not in known or not encoder:
        raise InputError(
            f"--generator {name}: no such network; use {DEFAULT_GENERATOR}, {PAPER_GENERATOR}, "
            f"{TINY_GENERATOR}, {', '.join(SHORT_NAMES)} or ARCH-ENCODER with ARCH one of "
            f"{', '.join(known)}"
        )
    # The hub's own retries would fill the screen; what came of them is told in one line.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            network = smp.create_model(
                architecture,
                encoder,
                "imagenet" if fetch else None,
                classes=num_classes,
                **extra,
            )
        except KeyError as error:
            encoders = (f"{architecture}-{one}" for one in smp.encoders.get_encoder_names())
            near = get_close_matches(name, [*SHORT_NAMES, *encoders])
            meant = f"did you mean {' or '.join(near)}?" if near else "timm's begin with tu-"
            raise InputError(f"--generator {name}: no encoder {encoder}; {meant}") from error
        except (ValueError, RuntimeError, TypeError) as error:
            if fetch and "connect" in str(error).lower():
                raise _cannot_fetch(name, error) from error
            raise InputError(f"--generator {name}: cannot be built ({error})") from error
        except OSError as error:
            raise _cannot_fetch(name, error) from error
    if architecture == "dpt" and (side := network.encoder.output_stride) not in DPT_PATCHES:
        raise InputError(
            f"--generator {name}: DPT's decoder needs an encoder with patches of "
            f"{', '.join(map(str, DPT_PATCHES))} pixels, this one has {side}; DINOv3 has 16: "
            "dpt-dinov3-vits"
        )
    generator = Generator(name, network)
    # Those of random encoders are ImageNet's.
    if encoder.startswith("tu-") or fetch:
        normalise_as_pretrained(generator)
    return generator


def normalise_as_pretrained(generator: Generator) -> None:
    """Give an SMP network the mean and deviation of its encoder's ImageNet weights, if known.

    Other networks have theirs.
    """
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    if generator.name in OWN:
        return
    try:
        settings = get_preprocessing_params(whole_name(generator.name).partition("-")[2])
    except (ValueError, KeyError, OSError):
        return
    generator.normalise_by(settings["mean"], settings["std"])


@torch.inference_mode()
def require_side(generator: Generator, side: int) -> None:
    """Raise `InputError` where the network cannot take square patches of this side.

    Some of timm's transformers are built for one size of image, or for windows that must divide it,
    and some decoders halve what they get until nothing is left.
    """
    if generator.name in (DEFAULT_GENERATOR, *OWN):
        return
    was_training = generator.training
    generator.eval()
    try:
        if (reason := _refusal(generator, side)) is not None:
            fitting = [str(s) for s in USUAL_SIDES if _refusal(generator, s) is None]
            raise InputError(
                f"--generator {generator.name}: cannot take patches of {side} pixels ({reason}); "
                + (
                    f"{', '.join(fitting)} fit: salakseg patchify --size {fitting[0]}"
                    if fitting
                    else "take another network"
                )
            )
    finally:
        generator.train(was_training)


def _refusal(generator: Generator, side: int) -> str | None:
    try:
        generator(torch.zeros(1, generator.channels, side, side, device=generator.mean.device))
    except (RuntimeError, AssertionError, ValueError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return None


def _fetch_resnet101() -> dict[str, Tensor]:
    from torchvision.models import ResNet101_Weights

    try:
        state = ResNet101_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except OSError as error:
        raise _cannot_fetch(PAPER_GENERATOR, error) from error
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _cannot_fetch(name: str, error: Exception) -> InputError:
    _, _, timm_name = whole_name(name).partition("-tu-")
    where = f", timm/{timm_name} of huggingface.co," if timm_name else ""
    return InputError(
        f"--generator {name}: its pretrained weights{where} could not be fetched "
        f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); go online once, "
        "give a file with --encoder-weights FILE, or start from random ones with "
        "--encoder-weights none"
    )
