"""Intervals of scores by bootstrap.

Made over base images, never over pixels: neighbouring pixels say the same thing.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from salakseg.metrics import student_t

RESAMPLES = 2000
# Numbers (confusion matrices and draws) that the bootstrap holds at a time.
AT_ONCE = 4_000_000


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


def groups_with(confusions: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (K,): how many of the G base images (G, K, K) hold each class in their truth."""
    return (confusions.sum(2) > 0).sum(0, dtype=np.int64)
