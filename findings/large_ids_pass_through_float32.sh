#!/usr/bin/env bash
# Rotating or resizing an int32 instance mask in torchvision, and warping one by GDAL's mode, changes ids above 16,777,216.
# Guess: nearest and mode only choose among the numbers that are there.
# Seen:  torchvision==0.29.1, torch==2.14.1, rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        16777217 and 16777219 become 16777216 and 16777220 (through float32), in a result of type int32.
# Matters: parcel or tree numbers burnt into rasters become other numbers. Works: number them 1 to n first, keep a table.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torchvision==0.29.1 torch==2.14.1 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np, torch
from rasterio.warp import Resampling, reproject
from affine import Affine
from torchvision import tv_tensors
from torchvision.transforms import v2

ids = np.full((64, 64), 16777217, np.int32)
ids[:, 32:] = 16777219
mask = tv_tensors.Mask(torch.from_numpy(ids))
def warp(how):
    out = np.zeros((16, 16), np.int32)
    reproject(ids, out, src_transform=Affine(1, 0, 0, 0, -1, 64), dst_transform=Affine(4, 0, 0, 0, -4, 64),
              src_crs="EPSG:32633", dst_crs="EPSG:32633", resampling=how)
    return out
seen = {"torchvision resize": v2.functional.resize(mask, [16, 16]), "torchvision rotate by 10": v2.functional.rotate(mask, 10.0),
        "GDAL warp, mode": warp(Resampling.mode), "GDAL warp, nearest": warp(Resampling.nearest),
        "torchvision rotate by 90": v2.functional.rotate(mask, 90.0)}
for name, got in seen.items():
    assert str(got.dtype).endswith("int32")
    seen[name] = sorted(set(np.unique(np.asarray(got)).tolist()) - {0})            # 0 fills the corners of a turned mask
    print(f"{name}: {seen[name]}")
changed, kept = [16777216, 16777220], [16777217, 16777219]
assert list(seen.values()) == [changed, changed, changed, kept, kept]
PY
