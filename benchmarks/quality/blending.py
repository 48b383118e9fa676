"""Linear ramps against Gaussian weights against none, where tiles of a map overlap.

    python benchmarks/quality/blending.py PHOTOS MODEL --split-file PHOTOS/protocol.csv

PHOTOS has `images/` and `masks/`; of a split file (`base_image,split`) the validation photographs
are taken. Each tile goes through the network once; its probabilities are then blended in three
ways. Seam: the mean jump of the probabilities across the lines where a tile begins, ends or is cut,
over the mean jump between all other neighbouring pixels, so 1 is a map without seams.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.classes import IGNORE_INDEX, read_class_mapping, read_mask
from salakseg.device import select_device
from salakseg.imagery.photo import read_photo
from salakseg.imagery.tiles import Axis, plan_axis
from salakseg.model.weights import Model, load_model

BLENDS = ("none", "linear", "gaussian")
# Of a tile's side, and the least weight: as in MONAI and nnU-Net.
SIGMA, LEAST = 0.125, 1e-3


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--split-file", type=Path)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(options.model, select_device(options.device))
    mapping = read_class_mapping(options.photos / "class_mapping.csv")
    paths = sorted((options.photos / "images").iterdir())
    if options.split_file:
        with options.split_file.open(encoding="utf-8-sig", newline="") as file:
            chosen = {row["base_image"] for row in csv.DictReader(file) if row["split"] == "val"}
        paths = [path for path in paths if path.stem in chosen]
    seams: dict[str, list[float]] = {blend: [] for blend in BLENDS}
    right, scored = dict.fromkeys(BLENDS, 0), 0
    for path in paths:
        truth = read_mask(options.photos / "masks" / f"{path.stem}.png", mapping).labels
        maps, lines = blended(model, read_photo(path), options.overlap)
        known = truth != IGNORE_INDEX
        scored += known.sum()
        for blend, probabilities in maps.items():
            seams[blend].append(seam(probabilities, lines))
            right[blend] += ((probabilities.argmax(0) == truth) & known).sum()
    print(f"{len(paths)} photographs, tiles of {model.patch_size}, overlap {options.overlap:g}")
    print("| blending | seam | pixel accuracy |\n|---|---|---|")
    for blend in BLENDS:
        values = seams[blend]
        print(
            f"| {blend} | {np.mean(values):.3f} ({min(values):.2f} to {max(values):.2f}) "
            f"| {right[blend] / scored:.2%} |"
        )


def blended(
    model: Model, image: NDArray[np.uint8], overlap: float
) -> tuple[dict[str, NDArray[np.float32]], tuple[list[int], list[int]]]:
    """Probabilities float32 (K, H, W) of each blending, and the rows and columns of the seams."""
    shape = image.shape[:2]
    tile = model.patch_size
    down, across = (plan_axis(size, tile, overlap) for size in shape)
    sums = {
        blend: np.zeros((model.mapping.num_classes + 1, *shape), np.float32) for blend in BLENDS
    }
    for row in range(down.count):
        for column in range(across.count):
            top, left = down.begin(row), across.begin(column)
            pixels = image[
                np.ix_(down.reflected(top, top + tile), across.reflected(left, left + tile))
            ]
            batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            found = model.probabilities(batch.to(model.generator.mean.device))[0].cpu().numpy()
            # What lies outside the image is cut off.
            first = max(0, -top), max(0, -left)
            last = min(tile, shape[0] - top), min(tile, shape[1] - left)
            inside = np.s_[first[0] : last[0], first[1] : last[1]]
            onto = np.s_[top + first[0] : top + last[0], left + first[1] : left + last[1]]
            for blend, total in sums.items():
                weight = np.outer(weights(blend, down, row), weights(blend, across, column))
                total[:-1, *onto] += (found * weight)[:, *inside]
                total[-1, *onto] += weight[inside]
    maps = {blend: total[:-1] / total[-1] for blend, total in sums.items()}
    return maps, (seam_lines(down), seam_lines(across))


def weights(blend: str, axis: Axis, index: int) -> NDArray[np.float32]:
    """float32 (tile,): of tile `index` along one side, before the sum is made 1."""
    if blend == "linear":
        return axis.weight(index)
    if blend == "gaussian":
        place = np.arange(axis.tile) - (axis.tile - 1) / 2
        return np.exp(-((place / (SIGMA * axis.tile)) ** 2) / 2).clip(LEAST).astype(np.float32)
    # Cut in the middle of the overlap.
    return (axis.weight(index) >= 0.5).astype(np.float32)


def seam_lines(axis: Axis) -> list[int]:
    """Pixels whose predecessor lies on the other side of a tile's beginning, end or cut."""
    half = (axis.tile - axis.stride) // 2
    lines = set()
    for index in range(1, axis.count):
        begin = axis.begin(index)
        lines |= {begin, begin + half, begin + 2 * half}
    return sorted(line for line in lines if 0 < line < axis.size)


def seam(probabilities: NDArray[np.float32], lines: tuple[list[int], list[int]]) -> float:
    """The mean jump across the lines over the mean jump elsewhere, rows and columns together."""
    at_lines, elsewhere = [], []
    for axis, places in zip((1, 2), lines, strict=True):
        jumps = np.abs(np.diff(probabilities, axis=axis)).mean(0).mean(2 - axis)
        here = np.isin(np.arange(1, len(jumps) + 1), places)
        at_lines.append(jumps[here])
        elsewhere.append(jumps[~here])
    return float(np.concatenate(at_lines).mean() / np.concatenate(elsewhere).mean())


if __name__ == "__main__":
    main()
