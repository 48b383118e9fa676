#!/usr/bin/env bash
# A smaller read with Resampling.average averages an overview, not the image: the values depend on how overviews were made.
# Guess: 500 pixels read as 100 with average are means of 5 x 5 pixels.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: a chessboard of 0 and 200 has mean
#        100; once the file has overviews (nearest, gdaladdo's default), 0. gdalwarp -r average does the same.
# Matters: to whoever brings an orthomosaic to another pixel size. Works: open with OVERVIEW_LEVEL="NONE"; gdalwarp -ovr NONE.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from rasterio.enums import Resampling
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

board = (np.indices((500, 500)).sum(0) % 2 * 200).astype(np.uint8)
with rasterio.open("c.tif", "w", "GTiff", 500, 500, 1, dtype="uint8") as f:
    f.write(board, 1)
def mean(**more):
    with rasterio.open("c.tif", **more) as f:
        assert (f.read(1) == board).all()
        return float(f.read(1, out_shape=(100, 100), resampling=Resampling.average).mean())
before = mean()
with rasterio.open("c.tif", "r+") as f:
    f.build_overviews([2, 4], Resampling.nearest)
after, without = mean(), mean(OVERVIEW_LEVEL="NONE")
print(f"mean {before}, with overviews in the file {after}, OVERVIEW_LEVEL=NONE {without}")
assert abs(before - 100) < 1 and after < 1 and abs(without - 100) < 1
PY
