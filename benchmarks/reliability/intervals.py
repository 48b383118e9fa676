"""How often the interval of `predict`'s areas holds the truth.

    python benchmarks/reliability/intervals.py
    python benchmarks/reliability/intervals.py --model final_model.pth --photos FOLDER

Without a model: photographs made up, each with shares and errors of its own, a new one judged by
the errors of so many others. With one: photographs with masks (FOLDER/images, FOLDER/masks) that it
was not trained on, each judged by the errors of the others, or of so many drawn from them. Prints
how often the true share of a class lies in the interval, how wide that is on each side, and how far
off the mapped and the corrected share are; of classes that are more than 1 % of the photograph. In
the last column what Olofsson's interval for a random sample of pixels would have held.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salakseg.classes import read_class_mapping
from salakseg.evaluation.image_folder import ImageFolder
from salakseg.mapping.areas import LEAST_PHOTOS, error_adjusted
from salakseg.model.weights import load_model

CLASSES = 5
LEAST_SHARE = 0.01
# How the made-up photographs are: Dirichlet's parameter of their shares, small for photographs
# that lack most classes, and how alike their errors are.
KINDS = {
    "all classes, alike errors": (1, (100,)),
    "all classes, errors of their own": (1, (10,)),
    "few classes, errors of their own": (0.2, (10,)),
    "few classes, some photographs much worse": (0.2, (3, 100)),
}
COUNTS = (3, LEAST_PHOTOS, 8, 11, 20, 40)

Confusions = NDArray[np.int64]


def made_up(count: int, shares: float, alike: tuple[float, ...], random: np.random.Generator):
    """Confusion matrices of photographs, int64 (count, K, K)."""
    truth = random.dirichlet(np.full(CLASSES, shares), count)
    mean = 0.8 * np.eye(CLASSES) + 0.2 / CLASSES
    rates = np.array(
        [[random.dirichlet(random.choice(alike) * row) for row in mean] for _ in range(count)]
    )
    pixels = random.uniform(1e5, 3e6, (count, 1, 1))
    return np.round(pixels * truth[:, :, None] * rates).astype(np.int64)


def sampled(shares: NDArray[np.float64], confusion: Confusions) -> NDArray[np.float64]:
    """Half the width of equation 10's interval of Olofsson et al. 2014, float64 (K,)."""
    counts = confusion.T.astype(float)
    pixels = np.maximum(counts.sum(1, keepdims=True), 2)
    rates = counts / pixels
    return 1.96 * np.sqrt((shares[:, None] ** 2 * rates * (1 - rates) / (pixels - 1)).sum(0))


def judged(new: Confusions, others: Confusions) -> NDArray[np.float64]:
    """Of a photograph, by others: held, half width, error mapped, error corrected, held by
    Olofsson's interval, float64 (5, classes)."""
    mapped, truth = new.sum(0) / new.sum(), new.sum(1) / new.sum()
    adjusted = error_adjusted(mapped, others)
    if adjusted is None:
        return np.zeros((5, 0))
    middle, low, high = adjusted.T
    rows = [
        (low <= truth) & (truth <= high),
        (high - low) / 2,
        np.abs(mapped - truth),
        np.abs(middle - truth),
        np.abs(middle - truth) <= sampled(mapped, others.sum(0)),
    ]
    return np.array(rows, float)[:, truth > LEAST_SHARE]


def row(what: str, count: int, found: list[NDArray[np.float64]]) -> None:
    """Print a row of the table."""
    values = np.concatenate(found, axis=1)
    held, wide, mapped, corrected, olofsson = values.mean(1)
    interval = "none" if count < LEAST_PHOTOS else f"{held:.0%} | {wide:.3f}"
    if count < LEAST_PHOTOS:
        interval += " | "
    print(
        f"| {what} | {count} | {values.shape[1]} | {interval} | {mapped:.3f} | {corrected:.3f} | "
        f"{olofsson:.0%} |",
        flush=True,
    )


def main() -> None:
    """Parse, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--trials", type=int, default=400)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    print("| photographs | validation | cases | held | ± | mapped | corrected | sample of pixels |")
    print("|---|---|---|---|---|---|---|---|")
    if options.model is None:
        for what, kind in KINDS.items():
            for count in COUNTS:
                photos = [made_up(count + 1, *kind, random) for _ in range(options.trials)]
                row(what, count, [judged(some[0], some[1:]) for some in photos])
        return
    model = load_model(options.model)
    own = options.photos / "class_mapping.csv"
    mapping = read_class_mapping(own) if own.is_file() else model.mapping
    confusions = ImageFolder(options.photos, mapping).score(model, 16, 0, None).confusions
    for count in (*COUNTS, len(confusions) - 1):
        if count >= len(confusions):
            continue
        found = []
        for new in range(len(confusions)):
            others = np.delete(np.arange(len(confusions)), new)
            repeats = 1 if count == len(others) else max(1, options.trials // len(confusions))
            for _ in range(repeats):
                some = random.choice(others, count, replace=False)
                found.append(judged(confusions[new], confusions[some]))
        row(options.photos.name, count, found)


if __name__ == "__main__":
    main()
