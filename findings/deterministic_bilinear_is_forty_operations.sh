#!/usr/bin/env bash
# With deterministic algorithms one bilinear enlargement on CUDA becomes some 40 operations instead of 2.
# Guess: torch.use_deterministic_algorithms(True) picks another kernel.
# Seen:  torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: 2 and 40 operations, counted on fake CUDA
#        tensors (no GPU needed); four of the 40 are gathers, whose backward sorts.
# Matters: reproducible training of segmentation networks is slow for this alone. Works: the same enlargement as two
#        matrix products (A_h @ x @ A_w^T), deterministic by itself and equal to 1e-6.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        self.names.append(str(f))
        return f(*args, **(kwargs or {}))
seen = {}
for deterministic in (False, True):
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    with FakeTensorMode():
        x = torch.empty(2, 8, 16, 16, device="cuda")
        with Count() as count:
            F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=True)
    seen[deterministic] = len(count.names)
    print(f"deterministic {deterministic}: {seen[deterministic]} operations, gathers: {sum('index' in n for n in count.names)}")
assert seen[False] <= 3 and seen[True] >= 30

torch.use_deterministic_algorithms(False)
x = torch.rand(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
a = F.interpolate(torch.eye(16)[None], size=64, mode="linear", align_corners=True)[0].T      # 64 x 16
apart = (a @ x @ a.T - F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=True)).abs().max().item()
print(f"two matrix products differ by {apart:.1e}")
assert apart < 1e-5
PY
