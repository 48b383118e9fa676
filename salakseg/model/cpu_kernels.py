"""Ways round torch's slow kernels for channels-last images on a CPU.

Networks run channels-last, for which ordinary convolutions are fastest. Three others are not:

- the bfloat16 backward of depthwise convolutions takes three to five times as long as the same in
  float32, but for the 3 × 3 of stride 1;
- dilated depthwise convolutions take three times as long as class after class in memory;
- group normalisation takes up to thirty times as long as class after class in memory.

Measured with torch 2.14.1: `benchmarks/speed/cpu_kernels.py`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from salakseg.model.stand_ins import StandIns


def fast_kernels(device: torch.device) -> AbstractContextManager[object]:
    """Inside it, on a CPU, the functions of this file stand in for those of the same name in
    `torch.nn.functional`, which networks of other packages call deep inside."""
    return FastKernels() if device.type == "cpu" else nullcontext()


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """As `functional.conv2d`; what is computed in float32 is rounded less often."""
    settings = (stride, padding, dilation, groups)
    if groups == 1 or weight.shape[:2] != (x.shape[1], 1):
        return functional.conv2d(x, weight, bias, *settings)
    if dilation not in (1, (1, 1)):
        # By a view of such strides: with one channel `contiguous()` sees nothing to be done.
        plain = weight.flatten(1).view(weight.shape)
        return _channels_last(functional.conv2d(x.contiguous(), plain, bias, *settings))
    usual = weight.shape[2:] == (3, 3) and stride in (1, (1, 1))
    if usual or not (torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
        return functional.conv2d(x, weight, bias, *settings)
    with torch.autocast("cpu", enabled=False):
        bias = None if bias is None else bias.float()
        y = functional.conv2d(x.float(), weight.float(), bias, *settings)
    return y.to(torch.get_autocast_dtype("cpu"))


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """As `functional.group_norm`."""
    return _channels_last(functional.group_norm(x.contiguous(), num_groups, weight, bias, eps))


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class FastKernels(StandIns):
    """See `fast_kernels`."""

    functions: ClassVar = {functional.conv2d: conv2d, functional.group_norm: group_norm}
