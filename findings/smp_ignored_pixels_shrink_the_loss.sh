#!/usr/bin/env bash
# SoftCrossEntropyLoss and SoftBCEWithLogitsLoss divide by all pixels, also by those that ignore_index leaves out.
# Guess: with ignore_index the loss is the mean over the labelled pixels, as in torch's cross_entropy.
# Seen:  segmentation-models-pytorch==0.6.0, torch==2.14.1, torchvision==0.29.1, timm==1.0.31, numpy==2.4.6; Python 3.11,
#        Linux x86-64, 2026-11: half of the pixels ignored, half the loss; nine tenths ignored, a tenth. DiceLoss and
#        FocalLoss of the same library are not concerned.
# Matters: sparsely labelled pictures hardly train, and their share in a batch sets the learning rate.
#        Works: torch.nn.CrossEntropyLoss(ignore_index=..., label_smoothing=...).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q segmentation-models-pytorch==0.6.0 torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
env/bin/python - <<'PY'
import torch
from segmentation_models_pytorch import losses
from torch.nn import functional as F

r = torch.Generator().manual_seed(0)
scores, labels = torch.randn(1, 2, 10, 10, generator=r), torch.randint(0, 2, (1, 10, 10), generator=r)
soft = losses.SoftCrossEntropyLoss(ignore_index=255, smooth_factor=0.0)
binary = losses.SoftBCEWithLogitsLoss(ignore_index=255)
for rows in (10, 5, 1):                                            # labelled rows of ten
    part = labels.clone()
    part[:, rows:] = 255
    right = F.cross_entropy(scores, part, ignore_index=255).item()
    ratio = soft(scores, part).item() / right
    right2 = F.binary_cross_entropy_with_logits(scores[:, :1, :rows], labels[:, None, :rows].float()).item()
    ratio2 = binary(scores[:, :1], part[:, None].float()).item() / right2
    print(f"{rows / 10:.0%} labelled: SoftCrossEntropyLoss is {ratio:.3f} of torch's, SoftBCEWithLogitsLoss {ratio2:.3f}")
    assert abs(ratio - rows / 10) < 1e-4 and abs(ratio2 - rows / 10) < 1e-4
    for loss in (losses.DiceLoss("multiclass", ignore_index=255), losses.FocalLoss("multiclass", ignore_index=255)):
        assert abs(loss(scores, part) - loss(scores[:, :, :rows], labels[:, :rows])) < 1e-4
PY
