#!/usr/bin/env bash
# The same JPEG (4:2:0, as cameras write it) is up to 27 grey values different in Pillow and in rasterio.
# Guess: decoding a JPEG is the same in every library, to one grey value.
# Seen:  pillow==13.0.0 (libjpeg-turbo), rasterio==1.4.4 (IJG libjpeg 9 in the wheel), numpy==2.4.6; Python 3.11,
#        Linux x86-64, 2026-11: 4:4:4 differs by at most 1, 4:2:2 by 15, 4:2:0 by 27: IJG 9 enlarges chroma by DCT.
# Matters: to whoever trains with one library and maps with the other, or compares pixels. Works: one decoder for both.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from PIL import Image, ImageFilter
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3))).astype(float)
picture = Image.fromarray(np.clip((blurred - 128) * 6 + 128, 0, 255).astype(np.uint8))    # soft patches of strong colour
largest = {}
for name in ("4:4:4", "4:2:2", "4:2:0"):
    picture.save("p.jpg", quality=90, subsampling=name)
    with rasterio.open("p.jpg") as f:
        gdal = f.read().transpose(1, 2, 0).astype(int)
    apart = np.abs(gdal - np.asarray(Image.open("p.jpg")).astype(int))
    largest[name] = apart.max()
    print(name, "largest difference", apart.max(), "mean", apart.mean().round(2))
assert largest["4:4:4"] <= 2 and largest["4:2:2"] >= 10 and largest["4:2:0"] >= 10
PY
