#!/usr/bin/env bash
# torchmetrics.segmentation.MeanIoU is a mean over pictures of the classes in each: a class that is never found costs little.
# Guess: it is the mean over the classes of intersection over union of all pixels, as MulticlassJaccardIndex and benchmarks have it.
# Seen:  torchmetrics==1.9.0, torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: a class in one of four
#        pictures, missed altogether: 0.797 and 0.498. The more pictures without it, the better the score.
# Matters: numbers under the same name are not comparable; rare classes vanish. Works: MulticlassJaccardIndex.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

seen = {}
for pictures in (4, 40):
    truth = torch.zeros(pictures, 8, 8, dtype=torch.long)
    truth[0, 0, 0] = 1                                           # a rare class, in one picture
    found = torch.zeros_like(truth)                              # never found
    per_picture = MeanIoU(num_classes=2, input_format="index")
    per_picture.update(found, truth)
    overall = MulticlassJaccardIndex(num_classes=2)
    overall.update(found, truth)
    seen[pictures] = per_picture.compute().item(), overall.compute().item()
    print(f"{pictures} pictures: MeanIoU {seen[pictures][0]:.3f}, MulticlassJaccardIndex {seen[pictures][1]:.3f}")
assert 0.79 < seen[4][0] < 0.81 and seen[40][0] > 0.97 and all(v[1] <= 0.5 for v in seen.values())
PY
