#!/usr/bin/env bash
# torch 2.14.1, timm 1.0.31: torch's conversion for several GPUs takes the activations out of timm's encoders.
#
# Guess: `SyncBatchNorm.convert_sync_batchnorm` changes how statistics are taken and nothing else; in
# evaluation a converted network gives what it gave.
# Seen: timm's norms are one module with the activation after them (`BatchNormAct2d`, a subclass of
# BatchNorm2d), and the conversion puts a bare SyncBatchNorm in its place: of an EfficientNet all 33
# activations behind norms hang in the tree of modules as before, and are never called, without a word.
# timm's own function keeps them.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
env/bin/python - <<'PY'
from copy import deepcopy

import timm
import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm

torch.manual_seed(0)
network = timm.create_model("efficientnet_lite0", num_classes=5).eval()
with torch.no_grad():
    for module in network.modules():
        if isinstance(module, BatchNormAct2d):
            module.running_var.fill_(0.1)
image = torch.rand(1, 3, 64, 64)
acting = [m for m in network.modules() if isinstance(m, BatchNormAct2d) and not isinstance(m.act, torch.nn.Identity)]
usual = torch.nn.SyncBatchNorm.convert_sync_batchnorm(deepcopy(network))
own = convert_sync_batchnorm(deepcopy(network))
calls = []
for module in usual.modules():
    if isinstance(module, torch.nn.ReLU6):
        module.register_forward_hook(lambda *_: calls.append(1))
there = sum(isinstance(module, torch.nn.ReLU6) for module in usual.modules())
with torch.no_grad():
    before, after, kept = (one(image) for one in (network, usual, own))
print(f"norms with an activation: {len(acting)}; after torch's conversion {there} in the tree, {len(calls)} called")
print(f"largest difference: torch {(before - after).abs().max():.3g}, timm {(before - kept).abs().max():.3g},"
      f" of outputs up to {before.abs().max():.3g}")
assert len(acting) == there == 33 and not calls
assert (before - kept).abs().max() < 1e-5 < 0.1 < (before - after).abs().max() / before.abs().max()
PY
