"""Which labels unlabelled patches get, and which pixels and images of them are trusted to teach.

Labels: the teacher's, with the shares of the classes that it gave before it learnt of itself.
Pixels: class by class, the most confident of what the teacher has lately called that class.
One number for all classes fails: where water and land sit at a confidence of 0.9, buildings and
roads sit at 0.6. Images: by D's score, as in the paper, or, where D has not been shown to rank
images by how right their maps are, by the teacher's mean confidence (see `Probe`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from salakseg.distributed import gathered, summed
from salakseg.metrics import count

CONFIDENCE_BINS = 256
HISTOGRAM_DECAY = SHARES_DECAY = 0.98
# Of a class that is hardly ever found nothing is known.
LEAST_SHARE = 1e-3
SCORE_WINDOW = 128
# The least rank correlation with accuracy at which a judge of images is listened to.
USEFUL_RANK_CORRELATION = 0.2
DISCRIMINATOR, CONFIDENCE = "discriminator", "confidence"


class ClassShares:
    """Holds the teacher's shares of the classes at what they were when self-training set in.

    A class that the teacher finds too seldom it would find less and less, until it is gone. So its
    probabilities are weighed by the shares then over those now, as in the distribution alignment of
    ReMixMatch (Berthelot et al., ICLR 2020); there the shares then are those of the labels, which
    those of unlabelled photographs, of other ground, need not be.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        # Running mean, and what is held; NaN: not known yet.
        self.now = torch.full((num_classes,), torch.nan, device=device)
        self.held = self.now.clone()

    def kept(self, probabilities: Tensor, valid: Tensor, hold: bool) -> Tensor:
        """Take in a batch of the teacher's maps, and weigh them.

        Args:
            probabilities: float32 (B, K, H, W).
            valid: bool (B, H, W): where there is ground; the rest is not counted.
            hold: whether self-training has set in; before, nothing is held.

        Returns:
            float32 (B, K, H, W), which sum to 1 again.
        """
        seen = summed((probabilities * valid[:, None]).sum((0, 2, 3)))
        pixels = seen.sum()
        seen = torch.where(pixels > 0, seen / pixels, self.now)
        self.now = torch.where(self.now.isnan(), seen, self.now.lerp(seen, 1 - SHARES_DECAY))
        if not hold:
            return probabilities
        self.held = torch.where(self.held.isnan(), self.now, self.held)
        weights = self.held.clamp(min=LEAST_SHARE) / self.now.clamp(min=LEAST_SHARE)
        weighed = probabilities * weights.nan_to_num(1.0)[:, None, None]
        return weighed / weighed.sum(1, keepdim=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors."""
        return {"now": self.now, "held": self.held}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.now, self.held = (state[name].to(self.now.device) for name in ("now", "held"))


class PixelTrust:
    """Running histogram of the teacher's confidence, class by class, and the cut in each.

    Args:
        num_classes: K.
        kept: share of a class's pixels that is trusted.
    """

    def __init__(self, num_classes: int, kept: float, device: torch.device) -> None:
        self.kept = kept
        self.histogram = torch.zeros(
            num_classes, CONFIDENCE_BINS, dtype=torch.float32, device=device
        )

    def thresholds(self) -> Tensor:
        """float32 (K,): the confidence that `kept` of a class's pixels reach; 0 at first."""
        from_top = self.histogram.flip(1).cumsum(1)
        seen = from_top[:, -1]
        bins_above = (from_top < self.kept * seen[:, None]).sum(1) + 1
        cut = (CONFIDENCE_BINS - bins_above).float() / CONFIDENCE_BINS
        return torch.where(seen > 0, cut, 0.0)

    def trusted(self, confidence: Tensor, labels: Tensor) -> Tensor:
        """Take in a batch of the teacher's labels and say which of its pixels to trust.

        Args:
            confidence: float32 (B, H, W) in [0, 1].
            labels: uint8 (B, H, W), class indices, or 255 where there is no ground: such pixels
                are not counted and never trusted.

        Returns:
            bool (B, H, W).
        """
        classes = len(self.histogram)
        # Also from below: of a run that has just diverged, NaN becomes some negative number.
        bins = (confidence * CONFIDENCE_BINS).int().clamp(0, CONFIDENCE_BINS - 1)
        # One more row takes the pixels without ground.
        rows = labels.int().clamp(max=classes)
        counts = summed(count(rows * CONFIDENCE_BINS + bins, (classes + 1) * CONFIDENCE_BINS))
        self.histogram = self.histogram * HISTOGRAM_DECAY + counts.view(classes + 1, -1)[:-1]
        cuts = functional.pad(self.thresholds(), (0, 1), value=torch.inf)
        return confidence >= cuts[rows]


def mean_confidence(confidence: Tensor, valid: Tensor) -> Tensor:
    """float (B, H, W) and bool (B, H, W) → (B,): the mean where there is ground, NaN where none."""
    return (confidence * valid).sum((1, 2)) / valid.sum((1, 2))


class ImageTrust:
    """Accepts images by a fixed threshold on D's score, or by rank among recent scores.

    Args:
        threshold: the paper's γ: accept where D's probability of "drawn" is at least this; or None:
            accept by rank among the last `SCORE_WINDOW` scores.
        accepted_share: by rank, the share that is accepted.
    """

    def __init__(
        self, threshold: float | None, accepted_share: float, device: torch.device
    ) -> None:
        self.threshold, self.accepted_share = threshold, accepted_share
        self.judge = CONFIDENCE if threshold is None else DISCRIMINATOR
        # NaN: not filled yet.
        self.recent = torch.full((SCORE_WINDOW,), torch.nan, device=device)

    def accepted(self, discriminator_scores: Tensor | None, confidence: Tensor) -> Tensor:
        """Judge a batch.

        Args:
            discriminator_scores: logits (B,) of D on image and teacher's map; of no use, and
                may be None, where confidence is the judge.
            confidence: float32 (B,), `mean_confidence` of the teacher's map; an image without
                ground, where it is NaN, is neither accepted nor remembered.

        Returns:
            bool (B,).
        """
        scores = confidence
        if self.judge == DISCRIMINATOR:
            assert discriminator_scores is not None
            # In float32 first: close to 1, bfloat16 has but a few numbers.
            probability = discriminator_scores.float().sigmoid()
            scores = probability.masked_fill(confidence.isnan(), torch.nan)
        if self.threshold is not None:
            return scores >= self.threshold
        self.recent = torch.cat([self.recent, gathered(scores)])[-SCORE_WINDOW:]
        # Not "≥": nothing is below the quantile of an empty window.
        below = scores < self.recent.nanquantile(1 - self.accepted_share)
        return ~(below | scores.isnan())

    def listen_to(self, judge: str) -> None:
        """Change the judge; scores of another judge are no measure for it."""
        if self.threshold is None and judge != self.judge:
            self.judge = judge
            self.recent = torch.full_like(self.recent, torch.nan)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"judge": self.judge, "recent": self.recent, "by_rank": self.threshold is None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; with acceptance by rank in place of a threshold, or the other
        way round, as a run that was begun so."""
        # Checkpoints of earlier versions do not say; by a threshold no score was remembered.
        by_rank = state.get("by_rank", not state["recent"].isnan().all())
        if by_rank == (self.threshold is None):
            self.judge = state["judge"]
            self.recent = state["recent"].to(self.recent.device)


@dataclass(frozen=True)
class Probe:
    """How well each judge ranks images by how right their maps are.

    Measured on labelled patches that G does not train on: Spearman's rank correlation of a judge's
    score with the share of right pixels, from -1 to 1; NaN where it cannot be told.
    """

    discriminator: float
    confidence: float

    @property
    def judge(self) -> str:
        """D where it ranks usefully and no worse than confidence does, else confidence."""
        useful = self.discriminator >= USEFUL_RANK_CORRELATION
        no_worse = not self.discriminator < self.confidence
        return DISCRIMINATOR if useful and no_worse else CONFIDENCE


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's ρ with mean ranks for ties; NaN for fewer than three values or constant ones."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]
