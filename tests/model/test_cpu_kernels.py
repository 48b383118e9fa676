from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from salakseg.model.cpu_kernels import FastKernels, fast_kernels

CPU = torch.device("cpu")


def depthwise(**options: Any) -> nn.Module:
    return nn.Conv2d(8, 8, groups=8, **options)


LAYERS = {
    "ordinary": lambda: nn.Conv2d(8, 4, 3, padding=1),
    "grouped": lambda: nn.Conv2d(8, 8, 3, groups=2),
    "depthwise": lambda: depthwise(kernel_size=3, padding=1),
    "depthwise with two kernels a channel": lambda: nn.Conv2d(8, 16, 5, groups=8),
    "depthwise 5": lambda: depthwise(kernel_size=5, padding=2, bias=False),
    "depthwise of stride 2": lambda: depthwise(kernel_size=3, stride=2),
    "dilated": lambda: depthwise(kernel_size=3, padding="same", dilation=(2, 2)),
    "group norm": lambda: nn.GroupNorm(4, 8),
    "group norm of vectors": lambda: nn.Sequential(nn.Flatten(), nn.GroupNorm(4, 8 * 24 * 20)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("amp", [False, True])
def test_they_compute_what_torch_computes(name: str, amp: bool) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 24, 20).contiguous(memory_format=torch.channels_last).requires_grad_()

    def both_ways() -> list[torch.Tensor]:
        layer.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            y = layer(x)
        y.float().square().sum().backward()
        gradients = [x.grad, *(p.grad for p in layer.parameters())]
        return [y, *(g.clone() for g in gradients if g is not None)]

    torchs = both_ways()
    with fast_kernels(CPU):
        ours = both_ways()
    for mine, usual in zip(ours, torchs, strict=True):
        assert mine.dtype == usual.dtype and mine.shape == usual.shape
        close = 0.03 * usual.abs().max().item() if amp else 1e-4
        assert torch.allclose(mine, usual, rtol=0.02, atol=close)
    if ours[0].dim() == 4:
        assert ours[0].is_contiguous(memory_format=torch.channels_last)


def test_depthwise_gradients_are_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    original = functional.conv2d
    monkeypatch.setattr(
        functional, "conv2d", lambda x, *rest: seen.append(x.dtype) or original(x, *rest)
    )
    from salakseg.model import cpu_kernels

    x, weight = torch.randn(1, 4, 8, 8).bfloat16(), torch.randn(4, 1, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = cpu_kernels.conv2d(x, weight, None, 1, 2, 1, 4)
        with torch.no_grad():
            cpu_kernels.conv2d(x, weight, None, 1, 2, 1, 4)
    assert seen == [torch.float32, torch.bfloat16] and y.dtype == torch.bfloat16


def test_only_a_cpu_has_use_for_them() -> None:
    assert isinstance(fast_kernels(CPU), FastKernels)
    assert not isinstance(fast_kernels(torch.device("cuda")), FastKernels)
