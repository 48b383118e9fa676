"""Which patches to look at, and the pictures of them: `contact_sheet.png`, `confusion_matrix.png`.

A patch is shown as four pictures: image, truth, prediction, and what is wrong.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.imagery.drawing import Picture, colorize, fit

# Pictures are shown in cells of this side.
CELL = 256
PICTURES = 8
PICTURE_TITLES = ["Image", "Truth", "Prediction", "Errors"]
COLUMNS = [*PICTURE_TITLES[:3], "Wrong in red, unscored in black"]
WRONG = (230, 25, 25)
# Beyond this many classes the numbers in the picture would be too small to read.
MOST_ANNOTATED = 20
# A patch with fewer scored pixels than this part of the most is no good example.
LEAST_SCORED = 0.1


def spread(accuracy: NDArray[np.floating], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to `PICTURES` patches from the worst to the best, from many base images.

    The patches, sorted by accuracy, are cut into as many parts; of each part the first patch is
    taken whose base image (`owner`) was taken least often so far.
    """
    order = np.argsort(accuracy, kind="stable")
    order = order[~np.isnan(accuracy[order])]
    taken = np.zeros(owner.max() + 1, np.int64)
    chosen = []
    for part in np.array_split(order, min(PICTURES, max(1, len(order)))):
        if len(part):
            chosen.append(part[taken[owner[part]].argmin()])
            taken[owner[chosen[-1]]] += 1
    return np.array(chosen, np.int64)


def extremes(
    score: NDArray[np.float64], scored: NDArray[np.int64], owner: NDArray[np.int64], wanted: int
) -> list[int]:
    """The `wanted` patches of the lowest score, from as many base images as there are.

    Args:
        score: float64 (N,); NaN is left out.
        scored: int64 (N,), scored pixels; patches with few are left out.
        owner: int64 (N,), the base image of each.

    Returns:
        Rows, by rising score.
    """
    usable = ~np.isnan(score) & (scored >= LEAST_SCORED * scored.max())
    order = np.argsort(score, kind="stable")
    order = order[usable[order]]
    # How many worse patches of the same base image come before each.
    turn = np.empty(len(order), np.int64)
    seen = np.zeros(owner.max() + 1, np.int64)
    for place, base in enumerate(owner[order].tolist()):
        turn[place] = seen[base]
        seen[base] += 1
    chosen = np.sort(np.lexsort((np.arange(len(order)), turn))[:wanted])
    return [int(entry) for entry in order[chosen]]


def four_pictures(
    image: Picture,
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    mapping: ClassMapping,
) -> list[Picture]:
    """Image, truth, prediction and errors, small enough for a cell of the contact sheet."""
    image = fit(image, CELL, CELL)
    size = image.shape[1], image.shape[0]
    truth, prediction = (
        # Labels have no values between: the nearest pixel.
        np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        for labels in (truth, prediction)
    )
    grey = np.repeat(image.mean(2, keepdims=True) / 2 + 100, 3, axis=2)
    scored = (truth != IGNORE_INDEX) & (prediction != IGNORE_INDEX)
    errors = np.where((scored & (truth != prediction))[..., None], WRONG, grey)
    errors = np.where(scored[..., None], errors, 0).astype(np.uint8)
    return [image, colorize(truth, mapping), colorize(prediction, mapping), errors]


def draw_confusion(path: Path, confusion: NDArray[np.int64], names: Sequence[str]) -> None:
    """Each row in percent of its truth, with the counts of pixels, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    count = len(names)
    support = confusion.sum(1, keepdims=True)
    share = np.where(support > 0, confusion / np.maximum(support, 1), np.nan)
    side = min(2.5 + 0.95 * count, 24)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.9")  # absent classes: NaN is not painted
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(
        range(count), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.set_yticks(range(count), names, parse_math=False)
    axes.set_xlabel("Prediction")
    axes.set_ylabel("Truth")
    axes.set_title("Share of each true class's pixels, and pixels")
    figure.colorbar(shown, ax=axes, shrink=0.8, format=lambda value, _: f"{value:.0%}")
    short = EngFormatter(places=1, sep=" ")
    if count <= MOST_ANNOTATED:
        for row, column in np.ndindex(count, count):
            if support[row, 0]:
                part = share[row, column]
                pixels = int(confusion[row, column])
                label = f"{part:.1%}\n{pixels if pixels < 1000 else short(pixels)}"
                color = "white" if part > 0.55 else "black"
            else:
                label, color = ("absent" if row == column else ""), "0.4"
            axes.text(column, row, label, ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, format="png")
