"""Images → features: the averages of the encoder's last three stages over each image."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salakseg.errors import InputError
from salakseg.model.deeplabv2 import DeepLabV2
from salakseg.model.generator import Generator, Tiny
from salakseg.model.weights import Model

STAGES = 3


def features_of(model: Model, images: Tensor, amp: bool | None = None) -> NDArray[np.float32]:
    """uint8 (B, C, H, W) on the model's device → float32 (B, D); the decoder does not run.

    Raises:
        InputError: a network without an encoder that is known.
    """
    with stage_outputs(model.generator, stop=True) as stages:
        with suppress(Enough):
            # What is labelled was looked at as it is.
            replace(model, enlarge=1).probabilities(images, amp)
        return stage_means(stages).cpu().numpy()


def stage_means(stages: list[Tensor]) -> Tensor:
    """The averages over the images of the last of these (B, C, h, w), float32 (B, D)."""
    return torch.cat([stage.float().mean((2, 3)) for stage in stages[-STAGES:]], 1)


class Enough(Exception):
    """Ends a forward pass after the encoder."""


@contextmanager
def stage_outputs(generator: Generator, stop: bool = False) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds the outputs (B, C, h, w) of the encoder's stages.

    Args:
        stop: end the pass, by an exception, after the encoder.

    Raises:
        InputError: a network without an encoder that is known.
    """
    caught: list[Tensor] = []

    def collect(output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            caught.append(output)
        elif isinstance(output, list | tuple):
            for part in output:
                collect(part)

    def catch(_: nn.Module, __: Any, output: Any) -> None:
        collect(output)

    def end(*_: Any) -> None:
        raise Enough

    parts = _stages(generator)
    handles = [part.register_forward_hook(catch) for part in parts]
    if stop:
        handles.append(parts[-1].register_forward_hook(end))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _stages(generator: Generator) -> list[nn.Module]:
    network = generator.network
    if isinstance(network, DeepLabV2):
        return [network.layer2, network.layer3, network.layer4]
    if isinstance(network, Tiny):
        return [network.stem, *network.context]
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(f"--generator {generator.name}: has no encoder to take features from")
    return [encoder]
