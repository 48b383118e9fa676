#!/usr/bin/env bash
# Pillow weighs red, green and blue by the fourth band when it resizes, also where that is near infrared: NIR 0 makes them black.
# Guess: resize treats the four bands of an 8-bit RGB + NIR image each on its own.
# Seen:  pillow==13.0.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: four bands are mode RGBA. Ground of 100 over water
#        (NIR 0) becomes 0; red 20 (NIR 0) and 100 (NIR 200) average to 99 and not 60. transform and rotate too; NEAREST not.
# Matters: NDVI and training on multispectral tiles; no error, no warning. Works: resize each band of split(), then merge.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np
from PIL import Image

def bands(red, nir):
    return Image.fromarray(np.dstack([np.tile(np.uint8(red), (8, 4))] * 3 + [np.tile(np.uint8(nir), (8, 4))]))
def each(image, size, how):
    return Image.merge(image.mode, [band.resize(size, how) for band in image.split()])
lake, shore = bands([100, 100], [0, 0]), bands([20, 100], [0, 200])
assert lake.mode == "RGBA"
R = Image.Resampling
seen = {"lake, BILINEAR": lake.resize((4, 4), R.BILINEAR), "lake, reduce": lake.reduce(2),
        "lake, rotate": lake.rotate(10, R.BICUBIC), "lake, NEAREST": lake.resize((4, 4), R.NEAREST),
        "shore, BOX": shore.resize((4, 4), R.BOX), "shore, BOX, each band": each(shore, (4, 4), R.BOX)}
seen = {name: np.asarray(image)[2, 2].tolist() for name, image in seen.items()}
for name, pixel in seen.items():
    print(f"{name}: {pixel}")
assert [pixel[0] for pixel in seen.values()] == [0, 0, 0, 100, 99, 60]
PY
