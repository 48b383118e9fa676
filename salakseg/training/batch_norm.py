"""Batch normalisation over the batch of all processes, not each one's share alone.

On CUDA by `SyncBatchNorm`. That refuses a CPU, where the sums are exchanged here. In one process
networks stay as they are; in passes of `--micro-batch` each pass has its own mean and variance.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from salakseg.distributed import summed, world_size
from salakseg.model.stand_ins import StandIns


def synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, with its norms in place exchanged for those that look at all processes.

    By timm, whose own norms have an activation in them: torch's conversion leaves it out, silently.
    """
    if world_size() == 1 or device.type != "cuda":
        return network
    from timm.layers import convert_sync_batchnorm  # takes seconds

    return convert_sync_batchnorm(network)


def over_all_processes(device: torch.device) -> AbstractContextManager[object]:
    """Inside it, where `synchronised` can do nothing, networks' norms look at all processes."""
    together = world_size() > 1 and device.type != "cuda"
    return SharedNorms() if together else nullcontext()


class _BatchNormOverAll(torch.autograd.Function):
    """(B, C, …) of this process, normalised by mean and variance of all; these besides, (C,).

    Passes over the features are torch's own, of layers in evaluation; one message there, one back:
    Ioffe and Szegedy 2015, with the sums taken over all processes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        # With float32 to write to, statistics of bfloat16 are float32 too.
        kept = x.new_zeros(channels, dtype=torch.float32), x.new_ones(channels, dtype=torch.float32)
        mean, variance = (own.double() for own in torch.batch_norm_update_stats(x, *kept, 0.0))
        mean, square = summed(torch.stack([mean, variance + mean * mean])) / world_size()
        mean, variance = mean.float(), (square - mean * mean).float()
        y = functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, mean, scale, False, ctx.eps, [False, True, True]
        )
        count = x.numel() // x.shape[1] * world_size()
        by_weight, by_bias = summed(torch.stack([of_weight, of_bias]).double()).float() / count
        shape = (1, -1, *[1] * (x.dim() - 2))
        slope = by_weight * scale
        of_x = gradient - (by_bias - slope * mean).view(shape)
        of_x.sub_(x * slope.view(shape))
        of_x.mul_((scale if weight is None else scale * weight).view(shape))
        _, weighted, biased, _ = ctx.needs_input_grad
        return of_x.to(x.dtype), of_weight if weighted else None, of_bias if biased else None, None


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `functional.batch_norm`, with mean and variance over all processes' (B, C, …).

    Each process has to have as many in its part.
    """
    if not training:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    y, mean, variance = _BatchNormOverAll.apply(x, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1] * world_size()
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / (count - 1)), momentum)
    return y


class SharedNorms(StandIns):
    """See `over_all_processes`."""

    functions: ClassVar = {functional.batch_norm: batch_norm}


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let the running statistics be what they are, though the network is in training mode."""
    norms = [norm for norm in network.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
