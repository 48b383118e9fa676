#!/usr/bin/env bash
# A nodata tag on an RGBA GeoTIFF makes GDAL's masks ignore alpha; an internal mask hides alpha as well.
# Guess: where alpha is 0 a pixel is not valid, whatever other tags the file has.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: with nodata 0 the masks of the
#        colour bands call all 4096 pixels valid. With nodata 255 dataset_mask() masks the opaque picture and not the
#        margin: ALPHA is compared with the nodata value. (rasterio warns of both: NodataShadowWarning.)
#        With an internal mask, and no warning, 896 of 1024 transparent pixels are valid.
# Matters: to whoever runs "gdal_edit.py -a_nodata 0" on an orthomosaic with alpha. Works: read the alpha band itself.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
warnings.simplefilter("ignore")

rgb = np.random.default_rng(0).integers(30, 220, (3, 64, 64), dtype=np.uint8)     # holds neither 0 nor 255
alpha = np.full((1, 64, 64), 255, np.uint8)
alpha[0, :16] = 0                                                                 # 1024 transparent pixels
def write(name, **more):
    with rasterio.open(name, "w", "GTiff", 64, 64, 4, dtype="uint8", **more) as f:
        f.write(np.concatenate([rgb, alpha]))
def look(name):
    with rasterio.open(name) as f:
        assert (f.read(4) == alpha[0]).all() and f.colorinterp[3].name == "alpha"
        red, all_ = f.read_masks(1), f.dataset_mask()
        counts = [int((m == 0).sum()) for m in (red[:16], red[16:], all_[:16], all_[16:])]
        print(f"{name}: nodata {f.nodata}, {[e.name for e in f.mask_flag_enums[0]]}; masked of 1024 transparent and 3072 "
              f"opaque pixels: red {counts[0]} and {counts[1]}, dataset_mask {counts[2]} and {counts[3]}")
        return counts

write("none.tif"); write("zero.tif", nodata=0); write("white.tif", nodata=255); write("inside.tif")
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("inside.tif", "r+") as f:
    inner = np.full((64, 64), 255, np.uint8)
    inner[:, :8] = 0
    f.write_mask(inner)
assert look("none.tif") == [1024, 0, 1024, 0]
assert look("zero.tif") == [0, 0, 1024, 0]
assert look("white.tif") == [0, 0, 0, 3072]
assert look("inside.tif") == [128, 384, 128, 384]
PY
