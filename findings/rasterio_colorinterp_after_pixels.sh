#!/usr/bin/env bash
# A colour interpretation that is set after the pixels are written is lost without a word.
# Guess: dst.colorinterp = [gray, alpha] counts wherever it stands before close().
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: after write() the file says
#        gray, undefined and all pixels are valid; before write() gray, alpha.
# Matters: a mask or mosaic whose transparency is gone. Works: set it before the first write.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from rasterio.enums import ColorInterp
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

bands = np.zeros((2, 8, 8), np.uint8)
bands[1, 4:] = 255                                              # half is transparent
seen = {}
for name in ("after", "before"):
    with rasterio.open(f"{name}.tif", "w", "GTiff", 8, 8, 2, dtype="uint8") as f:
        if name == "after":
            f.write(bands)
        f.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        inside = [c.name for c in f.colorinterp]
        if name == "before":
            f.write(bands)
    with rasterio.open(f"{name}.tif") as f:
        seen[name] = [c.name for c in f.colorinterp], int((f.dataset_mask() == 0).sum())
    print(f"set {name} the pixels: while writing {inside}, in the file {seen[name][0]}, {seen[name][1]} of 32 transparent pixels masked")
assert seen == {"after": (["gray", "undefined"], 0), "before": (["gray", "alpha"], 32)}
PY
