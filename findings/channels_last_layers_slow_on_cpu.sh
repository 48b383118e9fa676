#!/usr/bin/env bash
# torch 2.14.1 on a CPU: channels-last and bfloat16 slow two kinds of layers down, several times.
#
# Guess: channels-last, which is faster for convolutions, is no slower for what lies between them; and
# bfloat16 is no slower than float32, as it moves half of the bytes.
# Seen (one thread, forward and backward; AMD EPYC with AVX-512 and bfloat16 in hardware): GroupNorm of
# (8, 64, 16, 16) takes 0.97 ms channels-last and 0.16 ms contiguous;
# a depthwise 5 x 5 of (8, 144, 35, 35) and stride 2 takes 28 ms in bfloat16 and 5.9 in float32. An
# EfficientNet with an FPN's decoder spent a third of a training iteration so.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import time

import torch
from torch.nn import functional

torch.set_num_threads(1)


def milliseconds(layer, x):
    taken = []
    for _ in range(8):
        began = time.process_time()
        y = layer(x)
        y.backward(torch.ones_like(y))
        taken.append(time.process_time() - began)
    return min(taken) * 1e3


def norm(x):
    return functional.group_norm(x, 32)


def depthwise(dtype):
    weight = torch.randn(144, 1, 5, 5, dtype=dtype, requires_grad=True)
    return lambda x: functional.conv2d(x, weight, None, 2, 0, 1, 144)


def image(*shape, dtype=torch.float32, last=True):
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()


print("torch", torch.__version__)
last, plain = (milliseconds(norm, image(8, 64, 16, 16, last=last)) for last in (True, False))
print(f"group norm: channels-last {last:.2f} ms, contiguous {plain:.2f} ms")
half, single = (
    milliseconds(depthwise(dtype), image(8, 144, 35, 35, dtype=dtype))
    for dtype in (torch.bfloat16, torch.float32)
)
print(f"depthwise 5 x 5, stride 2: bfloat16 {half:.1f} ms, float32 {single:.1f} ms")
assert last > 2 * plain and half > 2 * single
PY
