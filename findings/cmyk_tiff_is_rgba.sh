#!/usr/bin/env bash
# GDAL turns a CMYK TIFF into red, green, blue and an alpha of 255 as it reads; the four inks are not to be had this way.
# Guess: four CMYK bands are read as four CMYK bands, with the colour interpretation cyan, magenta, yellow, black.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), pillow==13.0.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: inks 0 1 2 3
#        are read as red 255 253 251 249; only the tag SOURCE_COLOR_SPACE tells. Pillow gives the inks, mode CMYK.
# Matters: scanned maps and prints have other numbers in each library, and an alpha that nobody stored.
#        Works: GTIFF_RAW: before the path.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from PIL import Image
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

inks = np.stack([np.array([[0, 1, 2, 3]], np.uint8)] * 4)
with rasterio.open("c.tif", "w", "GTiff", 4, 1, 4, dtype="uint8", photometric="cmyk") as f:
    f.write(inks)
with rasterio.open("c.tif") as f:
    red, alpha, names, tag = f.read(1)[0].tolist(), f.read(4)[0].tolist(), [c.name for c in f.colorinterp], f.tags(ns="IMAGE_STRUCTURE")
print("rasterio", names, "red", red, "alpha", alpha, tag)
image = Image.open("c.tif")
print("Pillow", image.mode, np.asarray(image)[0, :, 0].tolist())
with rasterio.open("GTIFF_RAW:c.tif") as f:
    raw = f.read()
    print("GTIFF_RAW:", [c.name for c in f.colorinterp], raw[0, 0].tolist())
assert names == ["red", "green", "blue", "alpha"] and red == [255, 253, 251, 249] and alpha == [255] * 4
assert tag["SOURCE_COLOR_SPACE"] == "CMYK" and image.mode == "CMYK" and (np.asarray(image) == inks.transpose(1, 2, 0)).all()
assert (raw == inks).all()
PY
