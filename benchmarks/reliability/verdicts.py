"""How often `eval --against` calls two methods different that are not, and finds those that are.

    python benchmarks/reliability/verdicts.py

Makes up the tallies of models on the same photographs: what is hard about a photograph is common
to all, each model has luck of its own (by class, and by photograph). Prints how often a difference
in mIoU is called real that is none, by the number of models a side; beside it how often it would be
if the luck of the runs were left out, and if models were only drawn anew, without making up for how
few they are; and how often 5 points are called real.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from salakseg.classes import ClassMapping
from salakseg.evaluation.compare import Rated, compare
from salakseg.evaluation.intervals import bootstrap_over, interval
from salakseg.evaluation.tally import Tally
from salakseg.metrics import LEVELS

CLASSES = 5
PIXELS = 10_000
# Luck of a model, by class and by photograph; what is hard about a photograph.
KINDS = {
    "luck by run": (0.02, 0.0, 0.05),
    "luck by run and photograph": (0.01, 0.02, 0.1),
    "little luck": (0.002, 0.005, 0.1),
}
MODELS = (2, 3, 5)
# In IoU, where there is a difference to be found.
GAIN = 0.05


class MadeUp:
    """Stands for a data set of photographs of a patch each."""

    def __init__(self, photos: int) -> None:
        self.mapping = ClassMapping(tuple((f"{n}", (n, n, n), False) for n in range(CLASSES)))
        self.names = [f"{n}" for n in range(photos)]


def rated(name: str, right: NDArray[np.float64]) -> Rated:
    """A model that has this share (G, K) of each class in each photograph right."""
    confusions = np.zeros((*right.shape, CLASSES), np.int64)
    hit = np.round(PIXELS * right.clip(0, 1)).astype(np.int64)
    for index in range(CLASSES):
        confusions[:, index, index] = hit[:, index]
        confusions[:, index, (index + 1) % CLASSES] = PIXELS - hit[:, index]
    tally = Tally(
        confusions,
        confusions.trace(axis1=1, axis2=2),
        confusions.sum((1, 2)),
        np.zeros((2, 2, LEVELS + 1), np.int64),
        np.zeros((CLASSES, CLASSES), np.int64),
    )
    return Rated(name, "made-up", 0, {}, tally)


def excludes_0(draws: NDArray[np.float64], groups: int) -> bool:
    """Whether the interval of a difference does."""
    low, high = interval(draws, groups)
    return bool(low > 0 or high < 0)


def trial(
    kind: tuple[float, float, float],
    photos: int,
    models: int,
    gain: float,
    random: np.random.Generator,
) -> tuple[bool, bool, bool]:
    """Whether a difference is called real: by `compare`, without luck, with plain draws."""
    by_run, by_photo, hard = kind
    common = 0.75 + random.normal(0, hard, (photos, CLASSES))
    sides = [
        [
            rated(
                f"{more}{n}",
                common
                + more
                + random.normal(0, by_run, CLASSES)
                + random.normal(0, by_photo, (photos, CLASSES)),
            )
            for n in range(models)
        ]
        for more in (gain, 0.0)
    ]
    ours, theirs = (
        np.stack([bootstrap_over(one.tally.confusions).miou for one in side]) for side in sides
    )
    resamples = np.arange(ours.shape[1])
    drawn = [
        side[random.integers(models, size=(models, len(resamples))), resamples].mean(0)
        for side in (ours, theirs)
    ]
    return (
        bool(compare(*sides, MadeUp(photos))["miou"]["real"]),
        excludes_0(ours.mean(0) - theirs.mean(0), photos),
        excludes_0(drawn[0] - drawn[1], photos),
    )


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--photos", type=int, nargs="+", default=[12])
    options = parser.parse_args()
    print("| luck | photographs | models a side | real | without luck | drawn anew only | found |")
    print("|---|---|---|---|---|---|---|")
    for what, kind in KINDS.items():
        for photos in options.photos:
            for models in MODELS:
                shares = []
                for gain in (0.0, GAIN):
                    random = np.random.default_rng(0)
                    found = [
                        trial(kind, photos, models, gain, random) for _ in range(options.trials)
                    ]
                    shares += [f"{share:.0%}" for share in np.mean(found, axis=0)]
                row = " | ".join(shares[: len(found[0]) + 1])
                print(f"| {what} | {photos} | {models} | {row} |", flush=True)


if __name__ == "__main__":
    main()
