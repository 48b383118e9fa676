#!/usr/bin/env bash
# GDAL's sieve leaves most areas below its size where small areas lie beside small areas.
# Guess: after rasterio.features.sieve(labels, 100) no area has fewer than 100 pixels.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        1307 of 1309 areas are smaller; after a second pass 234 of 236; after the third none.
# Matters: noisy borders of class maps keep their specks, one pass "with the minimum mapping unit" does not hold it.
#        Works: sieve until nothing changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np
from rasterio.features import shapes, sieve
from shapely.geometry import shape

labels = np.zeros((200, 200), np.uint8)
labels[:, 100:] = 1
labels[:, 85:115] = np.random.default_rng(0).integers(0, 3, (200, 30))     # a noisy border between two areas
small = []
for turn in range(3):
    labels = sieve(labels, 100, connectivity=4)
    areas = np.array([shape(g).area for g, _ in shapes(labels, connectivity=4)])
    small.append(int((areas < 100).sum()))
    print(f"pass {turn + 1}: {len(areas)} areas, {small[-1]} of fewer than 100 pixels")
assert small[0] > 1000 and small[1] > 100 and small[2] == 0
PY
