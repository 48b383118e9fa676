"""Confusion matrix → IoU, precision, recall, F1; confidence → calibration. Formulas alone.

The confusion matrix is int64 (K, K): rows are the truth, columns the prediction. Pixels whose truth
is 255 (`IGNORE_INDEX`) never enter it. A class that the truth does not hold is absent: its IoU is
NaN here, shown as "absent", and left out of the mean, its false positives still counted.

Intervals of scores are made in `evaluation.intervals`, those of areas in `mapping.areas`; here is
Student's t, which widens both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Confidence is counted in this many steps, and shown in this many bins.
LEVELS = 1000
BINS = 20
LEVEL = 0.95
# Of Student's t; below, its quantile has no number.
LEAST_FREEDOM = 0.01


def confusion_matrix(truth: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Count pixels by (truth, prediction).

    Args:
        truth: integer, any shape; class indices or 255.
        prediction: integer, same shape; class indices 0 … K-1.
        num_classes: K.

    Returns:
        int64 (K, K) on the same device, without a device synchronisation.
    """
    return confusion_matrices(truth.flatten()[None], prediction.flatten()[None], num_classes)[0]


def confusion_matrices(truth: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """`confusion_matrix` of each of B pictures, (B, …) → int64 (B, K, K), in one count."""
    batch = len(truth)
    # One extra row takes the ignored pixels, so that no boolean index needs to know their number.
    cells = (num_classes + 1) * num_classes
    index = truth.clamp(max=num_classes).int().mul_(num_classes).add_(prediction.int())
    index = index.view(batch, -1)
    index += torch.arange(batch, dtype=torch.int32, device=index.device)[:, None] * cells
    counts = count(index, batch * cells).view(batch, num_classes + 1, num_classes)
    return counts[:, :num_classes]


def count(values: Tensor, size: int) -> Tensor:
    """How often each of 0 … size-1 is in `values` (integer): int64 (size,) on the same device."""
    if values.device.type == "cpu":
        return torch.bincount(values.flatten(), minlength=size)
    return _count_by_sorting(values, size)


def _count_by_sorting(values: Tensor, size: int) -> Tensor:
    """`count` on a GPU: there bincount waits for the device, to learn the largest value, and a
    deterministic scatter sorts too, and then walks through the values of a bin one by one."""
    ordered = values.flatten().int().sort().values
    borders = torch.arange(size + 1, dtype=torch.int32, device=values.device)
    return torch.searchsorted(ordered, borders).diff()


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


def student_t(freedom: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Upper 2.5 % point of Student's t, for any degrees of freedom, whole or not."""
    from scipy.special import stdtrit  # by a few commands only

    return np.asarray(stdtrit(np.maximum(freedom, LEAST_FREEDOM), (1 + LEVEL) / 2))


@dataclass(frozen=True)
class Calibration:
    """What confidence is worth, in `BINS` bins of equal width: float64 (BINS,), NaN where empty.

    `error` is the expected calibration error: the mean distance of accuracy from confidence over
    all pixels (Naeini et al. 2015, Guo et al. 2017); NaN without pixels.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]
    error: float


def calibration(counts: NDArray[np.int64]) -> Calibration:
    """Calibration from int64 (2, LEVELS + 1): pixels, wrong and right, by confidence in steps."""
    level = np.arange(LEVELS + 1)
    which = np.minimum(level * BINS // LEVELS, BINS - 1)

    def by_bin(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(which, values, BINS).astype(np.float64)

    pixels = by_bin(counts.sum(0).astype(float))
    total = pixels.sum()
    with np.errstate(invalid="ignore"):
        confidence = by_bin(counts.sum(0) * level / LEVELS) / pixels
        accuracy = by_bin(counts[1].astype(float)) / pixels
        share = pixels / total
    gap = np.nansum(share * np.abs(accuracy - confidence)) if total else np.nan
    return Calibration(confidence, accuracy, share, float(gap))
