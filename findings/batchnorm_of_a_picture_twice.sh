#!/usr/bin/env bash
# "Expected more than 1 value per channel": giving the picture twice makes BatchNorm train, and evaluation useless.
# Guess: torch.cat([x, x]) satisfies the pooled BatchNorm of DeepLabV3+ or PSPNet in a batch of one and changes nothing else.
# Seen:  torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: two equal values have variance 0, running_var goes
#        to 1e-23, the layer trains on zeros, and in evaluation it divides by sqrt(1e-5): values are 300-fold.
# Matters: to whoever trains on large pictures one at a time. Works: let that layer use its running statistics (eval()).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch

torch.manual_seed(0)
norm = torch.nn.BatchNorm2d(4)
def pooled():
    return torch.rand(1, 4, 1, 1)                              # what global pooling leaves of one picture
for _ in range(500):
    x = pooled()
    y = norm(torch.cat([x, x]))
trained = y.abs().max().item()
norm.eval()
evaluated = norm(pooled()).abs().max().item()
print(f"running_var {norm.running_var.max().item():.1e}, output in training {trained:.1e}, in evaluation {evaluated:.1f}")
assert norm.running_var.max() < 1e-12 and trained < 1e-3 and evaluated > 30
PY
