#!/usr/bin/env bash
# Four 8-bit bands written by rasterio without a word about colour become RGB + alpha: near infrared 0 means "no data".
# Guess: four bands are four bands, and all their pixels are valid; 8 and 16 bits do not differ in this.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: a lake with NIR 0 is masked
#        in the 8-bit file (band 4 "alpha"), valid in the 16-bit one (band 4 "undefined").
# Matters: to whoever masks multispectral mosaics by dataset_mask(). Works: photometric="minisblack" with alpha="no".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

bands = np.random.default_rng(0).integers(30, 220, (4, 64, 64), dtype=np.uint8)
bands[3, :32, :32] = 0                                                   # a lake: 1024 pixels without near infrared
seen = {}
for name, dtype, more in (("8 bits", "uint8", {}), ("16 bits", "uint16", {}),
                          ("8 bits, told", "uint8", {"photometric": "minisblack", "alpha": "no"})):
    with rasterio.open("a.tif", "w", "GTiff", 64, 64, 4, dtype=dtype, **more) as f:
        f.write(bands.astype(dtype))
    with rasterio.open("a.tif") as f:
        seen[name] = f.colorinterp[3].name, int((f.dataset_mask() == 0).sum())
        assert (f.read() == bands).all()
    print(f"{name}: band 4 is {seen[name][0]!r}, {seen[name][1]} pixels masked")
assert seen == {"8 bits": ("alpha", 1024), "16 bits": ("undefined", 0), "8 bits, told": ("undefined", 0)}
PY
