"""The S4GAN losses, one function each, after section 3.1 of the paper.

Mittal, Tatarchenko, Brox 2019, "Semi-Supervised Semantic Segmentation with High- and Low-level
Consistency". G is the segmentation network, D the discriminator, ⊕ concatenation along channels:

    L_G = L_CE + λ_FM · L_FM + λ_ST · L_ST

Means are over the batch of all processes: a loss is the same number in each of them, and its
gradient what the process's own part adds (`distributed.summed`).
"""

import torch
from torch import Tensor
from torch.nn import functional

from salakseg.classes import IGNORE_INDEX
from salakseg.distributed import summed, world_size


def cross_entropy_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """L_CE: mean cross entropy over the pixels that have a class.

    The paper sums over pixels; the mean does not change with the share of ignored ones. Where no
    pixel has a class it is 0, not NaN.

    Args:
        logits: float (B, K, H, W).
        labels: uint8 (B, H, W), class indices or 255.
        weights: float (B, H, W) ≥ 0, or None for 1 everywhere. The mean is over all pixels that
            have a class, so that little weight in a batch means a small loss.

    Returns:
        float32 scalar.
    """
    # Against one-hot targets: with indices the loss has no deterministic CUDA kernel in some
    # releases, or, flattened to 2-D, is slow on a CPU. Ignored pixels have no target: 0.
    targets = _one_hot(labels, logits.shape[1])
    loss = functional.cross_entropy(logits.float(), targets, reduction="none")  # (B, H, W)
    if weights is not None:
        loss = loss * weights
    return summed(loss.sum()) / summed((labels != IGNORE_INDEX).sum()).clamp(min=1)


def self_training_loss(logits: Tensor, pseudo_labels: Tensor, trust: Tensor) -> Tensor:
    """L_ST: cross entropy of the student against the teacher's labels where these are trusted.

    The paper's indicator [D(G(x) ⊕ x) ≥ γ] is `trust`, pixel by pixel.

    Args:
        logits: float (B, K, H, W) of the student on the strong view.
        pseudo_labels: uint8 (B, H, W), 255 where there is no image.
        trust: float (B, H, W) in [0, 1].
    """
    return cross_entropy_loss(logits, pseudo_labels, trust)


def feature_matching_loss(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """L_FM: mean absolute difference of D's mean features of drawn and of predicted maps.

    | E[D_k(y ⊕ x)] − E[D_k(G(x) ⊕ x)] |

    In the paper the second mean is over other images than the first, the unlabelled ones.

    Args:
        real_features, fake_features: float (B, F); only the second carries a gradient to G.
    """
    return (_mean(real_features) - _mean(fake_features)).abs().mean()


def at_most(loss: Tensor, limit: Tensor) -> Tensor:
    """The loss, scaled down to `limit` where it is above it: both scalars ≥ 0.

    D sets drawn and predicted maps apart by ever larger features, and L_FM grows with them.
    """
    return loss * (limit / loss.clamp(min=1e-12)).detach().clamp(max=1)


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """L_D: binary cross entropy, drawn maps to 1 and predicted maps to 0, both sides alike.

    Args:
        real_scores, fake_scores: logits (B,).
    """
    real, fake = (
        functional.binary_cross_entropy_with_logits(
            scores, torch.full_like(scores, target), reduction="none"
        )
        for scores, target in ((real_scores, 1), (fake_scores, 0))
    )
    return (_mean(real) + _mean(fake)) / 2


def _mean(rows: Tensor) -> Tensor:
    """Over the batch of all processes: (B, …) → (…)."""
    return summed(rows.sum(0)) / (len(rows) * world_size())


def drawn_class_maps(labels: Tensor, probabilities: Tensor) -> Tensor:
    """Drawn masks as class maps for D.

    Pixels without a class get what G predicts there, or D would know a drawn map by its holes.

    Args:
        labels: uint8 (B, H, W), class indices or 255.
        probabilities: float (B, K, H, W), G's.

    Returns:
        float (B, K, H, W).
    """
    one_hot = _one_hot(labels, probabilities.shape[1])
    return torch.where((labels == IGNORE_INDEX)[:, None], probabilities, one_hot)


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """uint8 (B, H, W) → float32 (B, K, H, W), all zeros where a pixel has no class."""
    classes = torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)
    return (labels[:, None] == classes).float()
