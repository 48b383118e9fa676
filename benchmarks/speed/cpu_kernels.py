"""What the ways round torch's slow kernels on a CPU bring, kernel by kernel.

    python benchmarks/speed/cpu_kernels.py

Forward and backward of `model.cpu_kernels` and of torch's own in turns, channels-last, as autocast
runs them in bfloat16, one thread: the layers of EfficientNet-Lite0, of DeepLabV3+'s pyramid and of
an FPN's decoder, for a batch of eight patches of 128 pixels.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from salakseg.model.cpu_kernels import fast_kernels

sys.path.append(str(Path(__file__).parents[1]))
from claims import HEAD, ratios, report, take_turns


def depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """A layer that keeps the side, but for its stride."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "depthwise 5 × 5": (lambda: depthwise(1152, 5), (8, 1152, 4, 4)),
    "depthwise 5 × 5, stride 2": (lambda: depthwise(144, 5, 2), (8, 144, 32, 32)),
    "depthwise 3 × 3, stride 2": (lambda: depthwise(96, 3, 2), (8, 96, 64, 64)),
    "depthwise 3 × 3, dilation 12": (lambda: depthwise(2048, 3, 1, 12), (8, 2048, 8, 8)),
    "depthwise 3 × 3, as torch does it": (lambda: depthwise(32, 3), (8, 32, 64, 64)),
    "group norm": (lambda: nn.GroupNorm(32, 64), (8, 64, 16, 16)),
}


def side(layer: nn.Module, x: Tensor, fast: bool) -> Callable[[], None]:
    """Twenty forwards and backwards a call."""

    def run() -> None:
        for _ in range(20):
            with torch.autocast("cpu", torch.bfloat16):
                if fast:
                    with fast_kernels(x.device):
                        y = layer(x)
                else:
                    y = layer(x)
            functional.relu(y).sum().backward()

    return run


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD)
    for name, (make, shape) in LAYERS.items():
        layer = make().to(memory_format=torch.channels_last)
        x = torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        ours, torchs = take_turns([side(layer, x, True), side(layer, x, False)], options.turns)
        report(
            f"{name}, {'×'.join(map(str, shape))}",
            f"{statistics.median(ours) / 20 * 1e3:.2f} ms",
            f"torch {statistics.median(torchs) / 20 * 1e3:.2f} ms",
            ratios(torchs, ours),
        )


if __name__ == "__main__":
    main()
