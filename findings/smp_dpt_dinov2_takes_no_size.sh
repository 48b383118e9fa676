#!/usr/bin/env bash
# segmentation-models-pytorch: DPT on a DINOv2 encoder (patch 14) works at no size, and the size that its error advises fails too.
# Guess: "Consider pad your images to shape (266, 266)" means that multiples of 14 work.
# Seen:  segmentation-models-pytorch==0.6.0, timm==1.0.31, torch==2.14.1, torchvision==0.29.1, numpy==2.4.6; Python 3.11,
#        Linux x86-64, 2026-11: 256 is refused with that advice; 266, 280, 518 stop in the decoder ("size of tensor a ...").
# Matters: to whoever plans on DINOv2 features. Works: patches of 8, 16 or 32 (DINOv3: 16).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q segmentation-models-pytorch==0.6.0 timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
env/bin/python - <<'PY'
import segmentation_models_pytorch as smp
import torch

def tried(encoder, side):
    torch.manual_seed(0)
    net = nets.setdefault(encoder, smp.create_model("dpt", encoder, None, classes=2, dynamic_img_size=True).eval())
    try:
        with torch.no_grad():
            return "works" if net(torch.rand(1, 3, side, side)).shape[-1] == side else "other size"
    except RuntimeError as e:
        return str(e).splitlines()[0]
nets, seen = {}, {}                                            # encoder weights None: nothing is fetched
for encoder, sides in (("tu-vit_small_patch14_dinov2", (256, 266, 280, 518)), ("tu-vit_small_patch16_224", (256, 512))):
    for side in sides:
        seen[side, encoder[7:]] = tried(encoder, side)
        print(encoder, side, seen[side, encoder[7:]])
assert "266, 266" in seen[256, "small_patch14_dinov2"]
assert all("size of tensor" in seen[side, "small_patch14_dinov2"] for side in (266, 280, 518))
assert seen[256, "small_patch16_224"] == seen[512, "small_patch16_224"] == "works"
PY
