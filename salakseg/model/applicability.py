"""Whether an image is like what a model was trained on: its area of applicability.

After Meyer and Pebesma, "Predicting into unknown space? Estimating the area of applicability of
spatial prediction models" (Methods in Ecology and Evolution 12, 2021): the distance to the nearest
training sample, in features standardised by the training samples, is compared with the distances
among these, each to the nearest one of another fold. Here the samples are labelled patches, the
features an encoder's (`model.features`), the folds photographs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.errors import InputError

Floats = NDArray[np.float32]

# So many labelled patches stand for all of them.
MOST_LABELLED = 512
# As far as this share of the labelled patches are from other photographs' is far.
FAR_SHARE = 0.1
# An image is far if more than this share of its patches are.
FAR_PATCHES = 0.5
UNLIKE = "like nothing that the model was trained on"
# Half precision resolves a two-thousandth of a value; a feature that varies no more says nothing.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Scaling:
    """Mean and spread of D features, float32 (D,); infinite spread where one says nothing."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, total: NDArray[np.float64], squares: NDArray[np.float64], count: int) -> "Scaling":
        """From the sums (D,) of `count` samples and of their squares."""
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
        says_something = spread > LEAST_SPREAD * np.sqrt(squares / count)
        spread = np.where(says_something, spread, np.inf)
        return cls(mean.astype(np.float32), spread.astype(np.float32))

    def standardised(self, features: NDArray[Any]) -> Floats:
        """Features (N, D) → float32 (N, D), mean 0 and spread 1."""
        return ((features - self.mean) / self.spread).astype(np.float32)


@dataclass(frozen=True)
class Applicability:
    """What a model file keeps of the labelled patches, to tell images that are like none of them.

    Attributes:
        scaling: of the features of the labelled patches.
        labelled: float16 (M, D), the standardised features of M of them.
        limit: the distance from which on a patch is far.
    """

    scaling: Scaling
    labelled: NDArray[np.float16]
    limit: float

    def distance(self, features: NDArray[Any]) -> Floats:
        """Features (N, D) → distance to the nearest labelled patch, float32 (N,); from 1 on far.

        Raises:
            InputError: features of another network.
        """
        if features.shape[1] != self.labelled.shape[1]:
            raise InputError(
                f"the model file describes its labelled patches by {self.labelled.shape[1]} "
                f"features, its network has {features.shape[1]}: train it again"
            )
        labelled = self.labelled.astype(np.float32)
        return _distances(self.scaling.standardised(features), labelled).min(1) / self.limit

    def as_plain(self) -> dict[str, Any]:
        """Tensors and plain values, for a model file."""
        return {
            "mean": torch.from_numpy(self.scaling.mean),
            "spread": torch.from_numpy(self.scaling.spread),
            "labelled": torch.from_numpy(self.labelled),
            "limit": self.limit,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Applicability":
        """The way back.

        Raises:
            KeyError, ValueError, AttributeError, TypeError: not what `as_plain` gave.
        """
        mean, spread, labelled = (plain[key].numpy() for key in ("mean", "spread", "labelled"))
        limit = float(plain["limit"])
        fits = labelled.ndim == 2 and mean.shape == spread.shape == labelled.shape[1:]
        if not (fits and limit > 0):
            raise ValueError("the description of the labelled patches does not fit")
        return cls(Scaling(mean, spread), labelled, limit)


def are_beyond(distance: NDArray[Any]) -> NDArray[np.bool_]:
    """Which patches are far, by `Applicability.distance`."""
    return distance >= 1


def is_far(share: float) -> bool:
    """Whether an image is, by the share of its patches that are."""
    return share > FAR_PATCHES


def described_rows(count: int) -> NDArray[np.int64]:
    """Which of `count` labelled patches, in the order of their photographs, stand for all."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_LABELLED)).round().astype(np.int64))


def applicability_of(
    features: NDArray[Any], photo: NDArray[np.integer[Any]]
) -> Applicability | None:
    """From the features (M, D) of labelled patches and the number of each one's photograph (M,).

    None where nothing can be said: patches of one photograph only, or all alike.
    """
    if len(np.unique(photo)) < 2:
        return None
    precise = features.astype(np.float64)
    scaling = Scaling.of(precise.sum(0), (precise**2).sum(0), len(precise))
    labelled = scaling.standardised(features)
    distances = _distances(labelled, labelled)
    distances[photo[:, None] == photo] = np.inf
    limit = float(np.quantile(distances.min(1), 1 - FAR_SHARE))
    return Applicability(scaling, labelled.astype(np.float16), limit) if limit > 0 else None


def _distances(some: Floats, others: Floats) -> Floats:
    """Euclidean, float32 (N, M)."""
    squares = (some**2).sum(1)[:, None] + (others**2).sum(1) - 2 * some @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
