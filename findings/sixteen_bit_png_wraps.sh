#!/usr/bin/env bash
# A 16-bit colour PNG: Pillow keeps the upper byte and says "RGB"; torchvision gives uint16, which a uint8 batch cuts to the lower.
# Guess: Pillow keeps 16 bits or refuses; torchvision's ImageReadMode.RGB is uint8, or copying into a uint8 tensor complains.
# Seen:  pillow==13.0.0, torchvision==0.29.1, torch==2.14.1, rasterio==1.4.4 (GDAL 3.10.3), numpy==2.4.6; Python 3.11,
#        Linux x86-64, 2026-11: 300, 4075, 4096 are 1, 15, 16 in Pillow and 44, 235, 0 in the batch; grey + alpha opens as RGBA.
# Matters: to whoever trains on 12- or 16-bit drone images: black in one library, noise in the other. Works: rasterio,
#        and scaling before the batch; byte 24 of a PNG tells its bits, Image.mode does not.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pillow==13.0.0 torchvision==0.29.1 torch==2.14.1 rasterio==1.4.4 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import numpy as np, rasterio, torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)

values = np.array([[0, 300, 4075, 4096]], np.uint16)
for name, bands in (("rgb.png", [values] * 3), ("la.png", [values, values * 0 + 65535])):
    with rasterio.open(name, "w", "PNG", 4, 1, len(bands), dtype="uint16") as f:
        f.write(np.stack(bands))
    image = Image.open(name)
    with rasterio.open(name) as f:
        gdal = f.read(1)[0].tolist()
    pillow = image.mode, np.asarray(image)[0, :, 0].tolist()
    print(name, "GDAL", gdal, "Pillow", *pillow)
    assert gdal == [0, 300, 4075, 4096] and pillow == ("RGB" if name == "rgb.png" else "RGBA", [0, 1, 15, 16])

decoded = decode_image("rgb.png", ImageReadMode.RGB)
batch = torch.zeros(1, 3, 1, 4, dtype=torch.uint8)
batch[0] = decoded
print("torchvision", decoded.dtype, decoded[0, 0].tolist(), "in a uint8 batch", batch[0, 0, 0].tolist())
assert decoded.dtype == torch.uint16 and batch[0, 0, 0].tolist() == [0, 44, 235, 0]
PY
