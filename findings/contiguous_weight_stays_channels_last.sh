#!/usr/bin/env bash
# torch 2.14.1: a convolution whose kernels have one channel (depthwise) stays channels-last for good.
#
# Guess: after `network.to(memory_format=torch.channels_last)`, an input and a weight that were made
# `.contiguous()` are computed, and come out, class after class in memory.
# Seen: `weight.contiguous()` of (C, 1, 3, 3) gives the very same tensor, strides (9, 1, 3, 1), since a
# dimension of one has no order to put right; and torch takes the layout from the weight, so that the
# output of a contiguous input is channels-last. A view of other strides does what was meant. It matters
# where the layouts differ in speed: on a CPU dilated depthwise layers take two to three times as long.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch

layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8).to(memory_format=torch.channels_last)
plain = layer.weight.contiguous()
x = torch.randn(2, 8, 16, 16).contiguous()
y = torch.nn.functional.conv2d(x, plain, layer.bias, padding=1, groups=8)
viewed = plain.flatten(1).view(plain.shape)
z = torch.nn.functional.conv2d(x, viewed, layer.bias, padding=1, groups=8)
print("torch", torch.__version__)
print("weight.contiguous() strides", plain.stride(), "the same memory:", plain.data_ptr() == layer.weight.data_ptr())
print("output of a contiguous input:", y.stride(), "with a view:", z.stride())
assert plain.stride() == (9, 1, 3, 1)
assert y.stride() == (2048, 1, 128, 8) and z.stride() == (2048, 256, 16, 1)
assert torch.allclose(y, z, atol=1e-6)
PY
