#!/usr/bin/env bash
# With an orientation tag Pillow turns a TIFF by itself, JPEG and PNG not; exif_transpose turns a PNG too; GDAL turns nothing.
# Guess: Pillow leaves turning to ImageOps.exif_transpose in every format, and a PNG has no orientation.
# Seen:  pillow==13.0.0, rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        4 x 2 pixels with orientation 6: TIFF is (2, 4) in Pillow and 4 x 2 in GDAL; PNG (4, 2), after exif_transpose (2, 4).
# Matters: image and mask of other formats, or one read by GDAL, no longer lie on each other (square tiles: no error).
#        Works: exif_transpose on image and mask alike, or no tag in the files.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio
from PIL import Image, ImageOps
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
exif = Image.Exif()
exif[0x112] = 6                                                   # "turn by 90 degrees to see it upright"
seen = {}
for kind in ("tif", "png", "jpg"):
    image.save(f"o.{kind}", exif=exif)
    opened = Image.open(f"o.{kind}")
    opened.load()
    with rasterio.open(f"o.{kind}") as f:
        seen[kind] = opened.size, ImageOps.exif_transpose(opened).size, (f.width, f.height)
    print(kind, "Pillow %s, exif_transpose %s, GDAL %s" % seen[kind])
assert seen == {"tif": ((2, 4), (2, 4), (4, 2)), "png": ((4, 2), (2, 4), (4, 2)), "jpg": ((4, 2), (2, 4), (4, 2))}
PY
