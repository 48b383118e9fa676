#!/usr/bin/env bash
# torchvision v2.Resize and albumentations A.Resize make image and mask smaller together, but not in the same place.
# Guess: one call for both keeps the mask on the image: the nearest pixel is that at the centre of the new one.
# Seen:  torchvision==0.29.1, torch==2.14.1, albumentations==2.0.8, opencv-python-headless==5.0.0.93, numpy==2.4.6,
#        pillow==13.0.0; Python 3.11, Linux x86-64, 2026-11: at an eighth the mask of a disc lies 0.46 pixels below and
#        right of the image's in both, with Pillow 0.02.
# Matters: labels, and the maps learnt from them, are off by up to half a pixel of the smaller picture.
#        Works: Pillow; torch "nearest-exact"; cv2.INTER_NEAREST_EXACT (A.Resize(mask_interpolation=)).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torchvision==0.29.1 torch==2.14.1 albumentations==2.0.8 opencv-python-headless==5.0.0.93 numpy==2.4.6 pillow==13.0.0
NO_ALBUMENTATIONS_UPDATE=1 env/bin/python - <<'PY'
import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torch.nn.functional import interpolate

SIDE, SMALL = 512, 64
rows, columns = np.mgrid[:SIDE, :SIDE]
disc = (rows - 255.5) ** 2 + (columns - 255.5) ** 2 < 150**2
image, mask = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, 2), disc.astype(np.uint8)


def slip(small_image, small_mask):
    """How far the mask lies from the image, in pixels, down and to the right."""
    there, drawn = np.asarray(small_image) > 127, np.asarray(small_mask) > 0
    return np.argwhere(drawn).mean(0) - np.argwhere(there).mean(0)


picture = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
drawn = tv_tensors.Mask(torch.from_numpy(mask)[None])
small, small_mask = v2.Resize((SMALL, SMALL))(picture, drawn)
seen = {"torchvision": slip(small[0], small_mask[0])}
both = A.Resize(SMALL, SMALL)(image=image, mask=mask)
seen["albumentations"] = slip(both["image"][..., 0], both["mask"])
exact = A.Resize(SMALL, SMALL, mask_interpolation=cv2.INTER_NEAREST_EXACT)(image=image, mask=mask)
seen["albumentations, exact"] = slip(exact["image"][..., 0], exact["mask"])
nearest = interpolate(torch.from_numpy(mask)[None, None].float(), (SMALL, SMALL), mode="nearest-exact")
seen["torch, nearest-exact"] = slip(small[0], nearest[0, 0])
size = SMALL, SMALL
pillow = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).convert("L")
seen["Pillow"] = slip(pillow, Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
for name, (down, right) in seen.items():
    print(f"{name}: {down:+.2f} down, {right:+.2f} to the right")
assert all((seen[name] > 0.4).all() for name in ("torchvision", "albumentations"))
assert all((abs(seen[name]) < 0.1).all() for name in list(seen)[2:])
PY
