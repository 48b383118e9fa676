"""Batch normalisation over the batch of all processes, not each one's share alone.

On CUDA by `SyncBatchNorm`. That refuses a CPU, where the sums are exchanged here. In one process
networks stay as they are; in passes of `--micro-batch` each pass has its own mean and variance.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from salakseg.distributed import shared_sum, world_size
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
    """As `functional.batch_norm`, with mean and variance over all processes' (B, C, …)."""
    if not training:
        return functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
    over = [0, *range(2, x.dim())]
    count = x.numel() // x.shape[1] * world_size()

    def by_channel(values: Tensor) -> Tensor:
        return values.view(1, -1, *[1] * (x.dim() - 2))

    with torch.autocast(x.device.type, enabled=False):
        y = x.float()
        mean = shared_sum(y.sum(over)) / count
        y = y - by_channel(mean)
        variance = shared_sum((y * y).sum(over)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(variance * (count / (count - 1)), momentum)
        scale = (variance + eps).rsqrt()
        y = y * by_channel(scale if weight is None else scale * weight)
        if bias is not None:
            y = y + by_channel(bias)
    return y.to(x.dtype)


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
