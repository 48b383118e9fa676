"""How often the interval of `assess` holds the truth, and that of `predict` on the same maps.

    python benchmarks/reliability/areas.py
    python benchmarks/reliability/areas.py --map predictions/farm_classes.tif --truth farm_truth.png

Without a map: photographs made up, as in `intervals.py`, eleven for validation and a new one that
is mapped; last, a new one on other ground, where the model errs twice as often. From each map
samples are drawn and checked without mistakes. Prints how often the true share of a class lies in
the interval that `predict` writes into `areas.csv`, in that of `assess`, and in plus and minus 1.96
standard errors, and how wide they are on each side; of classes that are more than 1 % of the map.
With a map and its truth: the same of samples of that map. A thousand samples a row.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from intervals import KINDS, LEAST_SHARE, made_up
from numpy.typing import NDArray

from salakseg.assessment.estimates import Sample, estimates
from salakseg.assessment.sampling import allocate
from salakseg.mapping.areas import error_adjusted

SAMPLES, MAPS, VALIDATION = 1000, 100, 11
POINTS = (150, 300, 600)
LEAST = 30


def sampled(confusion: NDArray[np.int64], points: int, random: np.random.Generator):
    """The areas that a sample of a map tells, of which this is the confusion (truth, map)."""
    by_map = confusion.T[confusion.sum(0) > 0]
    sizes = by_map.sum(1)
    weights = sizes / sizes.sum()
    counts = allocate(weights, sizes, points, LEAST)
    drawn = np.array(
        [
            random.multivariate_hypergeometric(row, count)
            for row, count in zip(by_map, counts, strict=True)
        ]
    )
    stratum, reference = (np.repeat(one.ravel(), drawn.ravel()) for one in np.indices(drawn.shape))
    mapped = np.flatnonzero(confusion.sum(0))[stratum]
    return estimates(Sample(stratum, mapped, reference, weights, sizes), len(confusion)).areas


def judged(confusion: NDArray[np.int64], points: int, random: np.random.Generator):
    """Of a sample: held by the interval, half its width, held by 1.96 errors; (3, classes)."""
    truth = confusion.sum(1) / confusion.sum()
    found = sampled(confusion, points, random)
    value, error, low, high = (
        part[:-1] for part in (found.value, found.error, found.low, found.high)
    )
    held = (low <= truth + 1e-12) & (truth <= high + 1e-12)
    found = [held, (high - low) / 2, np.abs(value - truth) <= 1.96 * error]
    return np.array(found, float)[:, truth > LEAST_SHARE]


def worse(confusion: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """The same ground mapped with twice the errors, each class's going to classes of its own."""
    found = confusion.copy()
    for truth, row in enumerate(confusion):
        moved = min(int(row.sum() - row[truth]), int(row[truth]))
        others = np.delete(np.arange(len(row)), truth)
        found[truth, truth] -= moved
        found[truth, others] += random.multinomial(moved, random.dirichlet(np.ones(len(others))))
    return found


def print_row(what: str, points: int, predict: list, samples: list) -> None:
    """Print a row of the table."""
    of_predict = np.concatenate(predict, axis=1).mean(1) if predict else None
    held, wide, plain = np.concatenate(samples, axis=1).mean(1)
    first = "– | –" if of_predict is None else f"{of_predict[0]:.1%} | {of_predict[1]:.3f}"
    print(f"| {what} | {first} | {points} | {held:.1%} | {wide:.3f} | {plain:.1%} |", flush=True)


def main() -> None:
    """Parse, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--map", type=Path)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    print("| map | `predict`'s held | ± | points | `assess`'s held | ± | 1.96 errors held |")
    print("|---|---|---|---|---|---|---|")
    if options.map is not None:
        with rasterio.open(options.map) as raster, rasterio.open(options.truth) as stored:
            mapped, truth = raster.read(1), stored.read(1)
        there = (mapped != 255) & (truth != 255)
        classes = int(max(mapped[there].max(), truth[there].max())) + 1
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (truth[there], mapped[there]), 1)
        for points in POINTS:
            found = [judged(confusion, points, random) for _ in range(SAMPLES)]
            print_row(options.map.name, points, [], found)
        return
    kinds = {**KINDS, "all classes, on other ground": KINDS["all classes, errors of their own"]}
    for what, kind in kinds.items():
        maps, predict = [], []
        for _ in range(MAPS):
            photos = made_up(VALIDATION + 1, *kind, random)
            new = worse(photos[0], random) if "other ground" in what else photos[0]
            truth, shares = new.sum(1) / new.sum(), new.sum(0) / new.sum()
            adjusted = error_adjusted(shares, photos[1:])
            maps.append(new)
            if adjusted is not None:
                _, low, high = adjusted.T
                held = np.array([(low <= truth) & (truth <= high), (high - low) / 2])
                predict.append(held[:, truth > LEAST_SHARE])
        for points in POINTS:
            found = [judged(one, points, random) for one in maps for _ in range(SAMPLES // MAPS)]
            print_row(what, points, predict, found)


if __name__ == "__main__":
    main()
