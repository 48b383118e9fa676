"""Bilinear interpolation as two products of matrices.

On CUDA torch's own has no deterministic backward: with deterministic algorithms it becomes four
gathers, and four scatters that sort, in float32. Two products, one along the rows and one along the
columns, are the same function, and cuBLAS sums in the same order each time.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from salakseg.model.stand_ins import StandIns


def upsample(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """`functional.interpolate(x, size, mode="bilinear", align_corners=…)`, computed in float32.

    Args:
        x: float (B, C, h, w).
        size: H, W.

    Returns:
        (B, C, H, W) of the same dtype, channels-last.
    """
    batch, channels, height, width = x.shape
    rows = _weights(height, size[0], align_corners, x.device)
    columns = _weights(width, size[1], align_corners, x.device)
    # Autocast would round the weights to bfloat16: a pattern over every even map.
    with torch.autocast(x.device.type, enabled=False):
        y = x.permute(0, 2, 3, 1).float().reshape(batch * height, width, channels)
        y = torch.bmm(columns.expand(batch * height, -1, -1), y)  # (B · h, W, C)
        y = torch.bmm(rows.expand(batch, -1, -1), y.view(batch, height, -1))  # (B, H, W · C)
    return y.view(batch, *size, channels).permute(0, 3, 1, 2).to(x.dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor made in that mode could never be used in training
def _weights(source: int, target: int, align_corners: bool, device: torch.device) -> Tensor:
    """float32 (target, source): how much each place of the target takes of those of the source."""
    place = torch.arange(target, dtype=torch.float32, device=device)
    if align_corners:
        place = place * ((source - 1) / max(target - 1, 1))
    else:
        place = ((place + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    distance = place[:, None] - torch.arange(source, device=device)
    return (1 - distance.abs()).clamp(min=0)


def deterministic_upsampling(device: torch.device) -> AbstractContextManager[object]:
    """Inside it `upsample` stands in for every bilinear interpolation, where that pays: on CUDA
    with deterministic algorithms. Elsewhere it changes nothing, not a bit.
    """
    if device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return Upsampling()
    return nullcontext()


def _interpolate(input: Tensor, **options: Any) -> Tensor:
    if options["mode"] == "bilinear":
        size = _size(input, options["size"], options["scale_factor"])
        if size is not None and not options["antialias"]:
            return upsample(input, size, bool(options["align_corners"]))
    return functional.interpolate(input, **options)


class Upsampling(StandIns):
    """`upsample` in place of bilinear `functional.interpolate`; by factors that do not give whole
    sides, torch's own stays."""

    functions: ClassVar = {functional.interpolate: _interpolate}


def _size(x: Tensor, size: Any, factor: Any) -> tuple[int, int] | None:
    """H, W that `functional.interpolate` is asked for; None where a factor gives no whole ones."""
    if factor is None:
        return (size, size) if isinstance(size, int) else tuple(size)
    by_height, by_width = factor if isinstance(factor, Sequence) else (factor, factor)
    height, width = x.shape[2] * by_height, x.shape[3] * by_width
    return (int(height), int(width)) if height % 1 == 0 == width % 1 else None
