#!/usr/bin/env bash
# The same small class mask holds other numbers in Pillow than in GDAL, and Pillow's GIF holds other numbers than were saved.
# Guess: two libraries read the same values of a grey image; a palette image keeps its indices in every lossless format.
# Seen:  pillow==13.0.0, rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        classes 0 1 2 3 in a 2-bit PNG are 0 85 170 255 in Pillow; "min is white" TIFF 255 254 253 252; int8 -1 is 255;
#        palette indices 2 2 1 come back from GIF as 1 1 0 (PNG and TIFF keep them).
# Matters: masks from GIS tools mean other classes in training. Works: rasterio for masks; PNG, never GIF, from Pillow.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from PIL import Image
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

classes = np.array([[0, 1, 2, 3]], np.uint8)
seen = {}
for name, driver, dtype, more in (("two_bits.png", "PNG", "uint8", {"nbits": 2}), ("int8.tif", "GTiff", "int8", {}),
                                  ("min_is_white.tif", "GTiff", "uint8", {"photometric": "miniswhite"})):
    with rasterio.open(name, "w", driver, 4, 1, 1, dtype=dtype, **more) as f:
        f.write(classes.astype(dtype) - (dtype == "int8"), 1)
    with rasterio.open(name) as f:
        seen[name] = np.asarray(Image.open(name))[0].tolist(), f.read(1)[0].tolist()
    print(name, "Pillow", seen[name][0], "GDAL", seen[name][1])
assert seen == {"two_bits.png": ([0, 85, 170, 255], [0, 1, 2, 3]), "int8.tif": ([255, 0, 1, 2], [-1, 0, 1, 2]),
                "min_is_white.tif": ([255, 254, 253, 252], [0, 1, 2, 3])}

mask = Image.fromarray(np.array([[2, 2, 1]], np.uint8))
mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
kept = {}
for name in ("m.png", "m.tif", "m.gif"):
    mask.save(name)
    kept[name] = np.asarray(Image.open(name))[0].tolist()
    print(name, kept[name])
assert kept == {"m.png": [2, 2, 1], "m.tif": [2, 2, 1], "m.gif": [1, 1, 0]}
PY
