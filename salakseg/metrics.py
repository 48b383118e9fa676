"""Confusion matrix → IoU, precision, recall, F1, their intervals; confidence → calibration.

The confusion matrix is int64 (K, K): rows are the truth, columns the prediction. Pixels whose truth
is 255 (`IGNORE_INDEX`) never enter it. A class that the truth does not hold is absent: its IoU is
NaN here, shown as "absent", and left out of the mean, its false positives still counted.

Intervals are made over base images, never over pixels: neighbouring pixels say the same thing.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Confidence is counted in this many steps, and shown in this many bins.
LEVELS = 1000
BINS = 20
RESAMPLES = 2000
LEVEL = 0.95
# Of Student's t; below, its quantile has no number.
LEAST_FREEDOM = 0.01
# Numbers (confusion matrices and draws) that the bootstrap holds at a time.
AT_ONCE = 4_000_000


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


@dataclass(frozen=True)
class Resampled:
    """Scores of R sets of base images drawn with replacement: `iou` is float64 (R, K), NaN where
    a set does not hold the class; `miou` float64 (R,), the mean over the classes that it holds."""

    iou: NDArray[np.float64]
    miou: NDArray[np.float64]


def bootstrap_over(
    confusions: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """Draw as many base images as there are, with replacement, `resamples` times, and score each.

    The draws depend on the number of base images and the seed alone, so that two models on the same
    base images are compared draw by draw.

    Args:
        confusions: int64 (G, K, K), a confusion matrix for each base image.
    """
    groups, classes = confusions.shape[:2]
    generator = np.random.default_rng(seed)
    flat = confusions.reshape(groups, -1).astype(np.float64)  # exact, and multiplied fast
    iou = np.empty((resamples, classes))
    step = max(1, AT_ONCE // (groups + classes**2))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(groups, size=(rows, groups))
        drawn += np.arange(rows)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups)
        sums = (times @ flat).reshape(rows, classes, classes)
        hit, support = np.diagonal(sums, axis1=1, axis2=2), sums.sum(2)
        union = support + sums.sum(1) - hit
        iou[start : start + rows] = np.where(support > 0, hit / np.maximum(union, 1), np.nan)
    held = ~np.isnan(iou)
    miou = np.where(held, iou, 0).sum(1) / np.maximum(held.sum(1), 1)
    return Resampled(iou, np.where(held.any(1), miou, np.nan))


def interval(values: NDArray[np.float64], groups: int) -> tuple[float, float]:
    """The 95 % interval of a score from its resamples; NaN where there are fewer than two groups.

    Percentiles, set further out for few groups by what Student's t has over the normal distribution
    ("expanded percentile interval", Hesterberg 2015, "What Teachers Should Know about the
    Bootstrap"): plain ones hold the truth in 87 % of the cases with 8 groups, these in 93 %.

    Args:
        values: float64 (R,); NaN is left out.
        groups: how many base images the score hangs on.
    """
    values = values[~np.isnan(values)]
    if groups < 2 or not len(values):
        return float("nan"), float("nan")
    reach = float(student_t(groups - 1)) * np.sqrt(groups / (groups - 1))
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def student_t(freedom: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Upper 2.5 % point of Student's t, for any degrees of freedom, whole or not."""
    from scipy.special import stdtrit  # by a few commands only

    return np.asarray(stdtrit(np.maximum(freedom, LEAST_FREEDOM), (1 + LEVEL) / 2))


def groups_with(confusions: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (K,): how many of the G base images (G, K, K) hold each class in their truth."""
    return (confusions.sum(2) > 0).sum(0, dtype=np.int64)


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
