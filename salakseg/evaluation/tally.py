"""What a model's pass over patches or full images counts, from which all scores are made.

What is scored on is a `ScoredSource`; it gives a `Tally` for a model and keeps nothing else. What a
pass holds does not grow with the number of patches, but for three numbers a patch, one confusion
matrix a base image and, for full images, a few kilobytes of prediction each. What the counts say is
in `metrics`, how sure that is in `intervals`, and the command in `evaluate`.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.distributed import gathered, summed
from salakseg.imagery.drawing import Picture
from salakseg.metrics import LEVELS, count
from salakseg.model.weights import Model

# Calibration and boundaries are counted on every eighth row of pixels: neighbours say the same.
EVERY = 8
# Pixels no further than this from another class, up, down, left or right, are boundary; < EVERY.
BOUNDARY = 3


@dataclass
class Tally:
    """What a pass counts.

    Attributes:
        confusions: int64 (G, K, K), one matrix for each base image.
        right, scored: int64 (N,), pixels of each patch or image.
        by_confidence: int64 (2, 2, LEVELS + 1), pixels of every `EVERY`th row by interior or
            boundary, wrong or right, and confidence.
        examples: int64 (K, K), the patch with most pixels of each pair of truth and prediction.
        thumbnails: predictions of full images, small.
    """

    confusions: NDArray[np.int64]
    right: NDArray[np.int64]
    scored: NDArray[np.int64]
    by_confidence: NDArray[np.int64]
    examples: NDArray[np.int64]
    thumbnails: list[bytes] = field(default_factory=list)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """float64 (N,): share of right pixels; NaN where a patch has no scored pixel."""
        return np.where(self.scored > 0, self.right / np.maximum(self.scored, 1), np.nan)


class ScoredSource(Protocol):
    """N patches or full images with masks, of G base images, to score a model on.

    Attributes:
        mapping: the classes, as the masks have them.
        base_images: (folder, name) of each base image.
        owner: int64 (N,), the base image of each patch.
        names: of the patches.
        facts: what `metrics.json` says of the data.
        described: the same in words.
        notes: what a reader must know of the data.
        pixel_size: metres on the ground, None where not known.
    """

    mapping: ClassMapping
    base_images: list[tuple[str, str]]
    owner: NDArray[np.int64]
    names: list[str]
    facts: dict[str, Any]
    described: str
    notes: list[str]
    pixel_size: float | None

    @abstractmethod
    def score(self, model: Model, batch_size: int, num_workers: int, amp: bool | None) -> Tally:
        """One pass of a model."""

    @abstractmethod
    def notes_on(self, model: Model) -> list[str]:
        """Where the model has seen what is scored on."""

    @abstractmethod
    def show(self, entry: int) -> tuple[Picture, NDArray[np.uint8]]:
        """Image uint8 (H, W, 3) and truth uint8 (H, W)."""

    @abstractmethod
    def predicted(
        self, model: Model, tally: Tally, entry: int, amp: bool | None
    ) -> NDArray[np.uint8]:
        """A model's class map, uint8 (H, W); of a large image a small one."""


class Counter:
    """Adds up a `Tally` on the device; nothing is fetched before the end. Of several processes each
    adds its own patches, and gets the tally of all."""

    def __init__(self, owner: NDArray[np.int64], num_classes: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self.owner = torch.from_numpy(owner).to(device)
        self.confusions = zeros(int(owner.max()) + 1, num_classes, num_classes)
        self.right, self.scored = zeros(len(owner)), zeros(len(owner))
        self.by_confidence = zeros(2, 2, LEVELS + 1)
        self.most, self.examples = zeros(num_classes, num_classes), zeros(num_classes, num_classes)

    def add(self, entries: Tensor, confusions: Tensor, by_confidence: Tensor) -> None:
        """Entries int64 (B,) with their confusion matrices (B, K, K)."""
        self.confusions.index_add_(0, self.owner[entries], confusions)
        self.right[entries] = confusions.diagonal(dim1=1, dim2=2).sum(1)
        self.scored[entries] = confusions.sum((1, 2))
        self.by_confidence += by_confidence
        most, which = confusions.max(0)
        self._keep(most, entries[which])

    def _keep(self, most: Tensor, examples: Tensor) -> None:
        """Of equals the earlier patch, whoever counted it."""
        better = (most > self.most) | ((most == self.most) & (examples < self.examples))
        self.examples = torch.where(better, examples, self.examples)
        self.most = torch.maximum(self.most, most)

    def tally(self) -> Tally:
        """All of it, on the host."""
        examples = gathered(self.examples[None]), gathered(self.most[None])
        for example, most in zip(*examples, strict=True):
            self._keep(most, example)
        return Tally(
            summed(self.confusions).cpu().numpy(),
            summed(self.right).cpu().numpy(),
            summed(self.scored).cpu().numpy(),
            summed(self.by_confidence).cpu().numpy(),
            self.examples.cpu().numpy(),
        )


def near_boundary(truth: Tensor) -> Tensor:
    """Which pixels of every `EVERY`th row are within `BOUNDARY` of another class, or of none.

    Args:
        truth: uint8 (B, H, W), class indices or 255.

    Returns:
        bool (B, ⌈H / EVERY⌉, W) on the same device.
    """
    here = truth[:, ::EVERY].contiguous()
    near = torch.zeros(here.shape, dtype=torch.bool, device=truth.device)
    for step in range(1, BOUNDARY + 1):
        below, above = truth[:, step::EVERY], truth[:, EVERY - step :: EVERY]
        rows = below.shape[1]
        near[:, :rows] |= below != here[:, :rows]
        near[:, 1:] |= above[:, : here.shape[1] - 1] != here[:, 1:]
        differ = here[:, :, :-step] != here[:, :, step:]
        near[:, :, :-step] |= differ
        near[:, :, step:] |= differ
    return near


def count_by_confidence(truth: Tensor, prediction: Tensor, confidence: Tensor) -> Tensor:
    """Count by place, rightness and confidence on every `EVERY`th row.

    Args:
        truth: uint8 (B, H, W), class indices or 255.
        prediction: integer (B, H, W), class indices.
        confidence: float (B, H, W), 0 … 1.

    Returns:
        int64 (2, 2, LEVELS + 1): interior or boundary, wrong or right, confidence in steps.
    """
    near = near_boundary(truth)
    truth, prediction, confidence = (t[:, ::EVERY] for t in (truth, prediction, confidence))
    index = (confidence * LEVELS + 0.5).int().clamp_(0, LEVELS)
    index += (truth == prediction.to(torch.uint8)).int().mul_(LEVELS + 1)
    index += near.int().mul_(2 * (LEVELS + 1))
    index.masked_fill_(truth == IGNORE_INDEX, 4 * (LEVELS + 1))
    return count(index, 4 * (LEVELS + 1) + 1)[:-1].view(2, 2, LEVELS + 1)
