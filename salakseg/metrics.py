"""Confusion matrix → IoU, precision, recall, F1.

The confusion matrix is int64 (K, K): rows are the truth, columns the prediction. Pixels whose truth
is 255 (`IGNORE_INDEX`) never enter it. A class that the truth does not hold is absent: its IoU is
NaN here, shown as "absent", and left out of the mean, its false positives still counted.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.classes import IGNORE_INDEX


def confusion_matrix(truth: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Count pixels by (truth, prediction).

    Args:
        truth: integer, any shape; class indices or 255.
        prediction: integer, same shape; class indices 0 … K-1.
        num_classes: K.

    Returns:
        int64 (K, K) on the same device, without a device synchronisation.
    """
    # One extra row takes the ignored pixels, so that no boolean index needs to know their number.
    row = torch.where(truth == IGNORE_INDEX, num_classes, truth).long()
    pairs = row * num_classes + prediction.long()
    counts = torch.zeros((num_classes + 1) * num_classes, dtype=torch.int64, device=pairs.device)
    counts.scatter_add_(0, pairs.flatten(), torch.ones_like(pairs.flatten()))
    return counts.view(num_classes + 1, num_classes)[:num_classes]


@dataclass(frozen=True)
class Scores:
    """Scores per class, float64 (K,), NaN where the truth holds none of the class; and over all."""

    iou: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    miou: float
    pixel_accuracy: float


def scores(confusion: NDArray[np.int64] | Tensor) -> Scores:
    """Scores of a confusion matrix (K, K).

    mIoU is the mean over the classes that the truth holds; precision of a class that is in the
    truth and never predicted is 0. With no scored pixel at all, miou and pixel_accuracy are NaN.
    """
    matrix = np.asarray(confusion, dtype=np.int64)
    hit = np.diag(matrix).astype(float)
    support = matrix.sum(1)
    predicted = matrix.sum(0)
    present = support > 0

    def ratio(part: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(present, part / np.maximum(whole, 1), np.nan)

    iou = ratio(hit, support + predicted - np.diag(matrix))
    return Scores(
        iou=iou,
        precision=ratio(hit, predicted),
        recall=ratio(hit, support),
        f1=ratio(2 * hit, support + predicted),
        support=support,
        false_positives=predicted - np.diag(matrix),
        miou=float(iou[present].mean()) if present.any() else float("nan"),
        pixel_accuracy=float(hit.sum() / support.sum()) if present.any() else float("nan"),
    )
