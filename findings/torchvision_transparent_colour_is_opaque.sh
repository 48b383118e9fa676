#!/usr/bin/env bash
# torchvision reads the transparent colour of a grey or RGB PNG (tRNS) as opaque.
# Guess: decode_image(data, ImageReadMode.RGB_ALPHA) gives the alpha that Pillow gives.
# Seen:  torchvision==0.29.1, torch==2.14.1, pillow==13.0.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: for a palette PNG
#        both agree; of grey and RGB Pillow has one transparent pixel, torchvision none. (GDAL writes nodata of PNGs so.)
# Matters: margins of tiles become black ground in training. Works: Pillow's convert("RGBA").
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torchvision==0.29.1 torch==2.14.1 pillow==13.0.0 numpy==2.4.6
env/bin/python - <<'PY'
import io
import numpy as np, torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
seen = {}
for name, image, key in (("grey", grey, 5), ("RGB", grey.convert("RGB"), (5, 5, 5)), ("palette", grey.convert("RGB").quantize(8), 5)):
    file = io.BytesIO()
    image.save(file, "PNG", transparency=key)
    data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    pillow = int((np.asarray(Image.open(file).convert("RGBA"))[..., 3] == 0).sum())
    vision = int((decode_image(data, ImageReadMode.RGB_ALPHA)[3] == 0).sum())
    seen[name] = pillow, vision
    print(f"{name}: transparent pixels {pillow} in Pillow, {vision} in torchvision")
assert seen["grey"] == seen["RGB"] == (1, 0) and seen["palette"][0] == seen["palette"][1] > 0
PY
