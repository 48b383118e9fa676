#!/usr/bin/env bash
# Pillow's Resampling.BOX gives each source pixel wholly to one target pixel: it is no average by area at factors that are not whole.
# Guess: BOX weighs the pixels by the area that the new pixel covers, as "area" and "average" do in OpenCV and GDAL.
# Seen:  pillow==13.0.0, rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        [0, 90, 30] to two pixels: [45, 30], mirrored [0, 60]; by area [30, 50]. A ramp is moved by a quarter of a pixel.
# Matters: to whoever brings photographs to another ground sampling distance: image and mask part. Works: GDAL's average,
#        Image.reduce for whole factors, or BILINEAR (which Pillow widens when it shrinks).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np
from PIL import Image
from affine import Affine
from rasterio.warp import Resampling, reproject

def box(row, n):
    return np.asarray(Image.fromarray(row[None]).resize((n, 1), Image.Resampling.BOX))[0]
def area(row, n):
    out, factor = np.zeros((1, n), row.dtype), len(row) / n
    reproject(row[None], out, src_transform=Affine(1, 0, 0, 0, -1, 1), dst_transform=Affine(factor, 0, 0, 0, -1, 1),
              src_crs="EPSG:32633", dst_crs="EPSG:32633", resampling=Resampling.average)
    return out[0]

row = np.array([0, 90, 30], np.uint8)
a, b, c = box(row, 2).tolist(), box(row[::-1], 2)[::-1].tolist(), area(row, 2).tolist()
print("BOX", a, "BOX of the mirrored row, mirrored back", b, "GDAL average", c)
assert (a, b, c) == ([45, 30], [0, 60], [30, 50])

ramp = np.arange(240, dtype=np.float32)                       # a pixel's value is its place
true = (np.arange(160) + 0.5) * 1.5 - 0.5                     # the place of a new pixel's centre
off = {"BOX": box(ramp, 160) - true, "GDAL average": area(ramp, 160) - true}
for name, d in off.items():
    print(f"{name}: off by {d.mean():.3f} source pixels in the mean, {np.abs(d).max():.3f} at most")
assert np.abs(off["BOX"]).max() > 0.2 and np.abs(off["GDAL average"]).max() < 0.2
PY
