#!/usr/bin/env bash
# grid_sample(mode="nearest") by half a pixel drops every other column of a mask and doubles the others.
# Guess: a mask moved by half a pixel is moved by 0 or by 1 pixel, all of it alike.
# Seen:  torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: it rounds half to even, pixel by pixel:
#        columns 1 2 2 4 4 6 6 8 8 9, while the image beside it (bilinear) moves smoothly.
# Matters: to whoever warps masks by affine_grid/grid_sample (kornia too): lines one pixel wide vanish or double.
#        Works: a shift that is no exact half, or bilinear on the one-hot mask and argmax.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch
from torch.nn import functional as F

mask = torch.arange(10.0).view(1, 1, 1, 10)                      # ten columns, numbered
def moved(pixels, mode):
    grid = F.affine_grid(torch.tensor([[[1.0, 0.0, 2 * pixels / 10], [0.0, 1.0, 0.0]]]), [1, 1, 1, 10], align_corners=False)
    return F.grid_sample(mask, grid, mode=mode, padding_mode="border", align_corners=False).flatten().tolist()
half, bilinear, less = moved(0.5, "nearest"), moved(0.5, "bilinear"), moved(0.49, "nearest")
print("nearest, 0.5 pixel ", half)
print("bilinear, 0.5 pixel", [round(v, 3) for v in bilinear])
print("nearest, 0.49 pixel", less)
assert half == [1, 2, 2, 4, 4, 6, 6, 8, 8, 9] and less == list(range(10))
assert all(abs(v - (i + 0.5)) < 1e-4 for i, v in enumerate(bilinear[:9]))
PY
