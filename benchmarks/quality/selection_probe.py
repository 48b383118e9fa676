"""Which photographs to label, by a linear probe: thousands of choices instead of a dozen trainings.

    python benchmarks/quality/selection_probe.py PATH/TO/dubai --encoder-weights lite0.pth

A training takes minutes and differs from its repetition by a point of mIoU, so `selection.py` can
try few choices. Here the encoder stays as ImageNet left it, and what is trained on the labelled
photographs is a ridge regression, from the features of the last three stages to the class of a
pixel: exact, without a seed, in milliseconds.

Seven pools: the 56 photographs without one of each of the eight scenes. From each pool 4, 8 and 16
are chosen by each strategy of `suggest` that needs no model, and by random draws; each choice is
scored on every photograph that it leaves without a label, those outside the pool included. Printed:
the mean mIoU of random draws, and of each strategy the mean gain over it (with the least and the
greatest of the seven pools), the share of random draws that it is above, and how many patches its
photographs have, where those of random draws have 1. `by patch` is coverage where each patch counts
the same, not each photograph; `scene` draws one photograph of each scene.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from methods import pack, split_of
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional

from salakseg.classes import IGNORE_INDEX
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import read_split
from salakseg.metrics import scores
from salakseg.model.features import STAGES, stage_means, stage_outputs
from salakseg.model.generator import create_generator
from salakseg.suggestion.embed import Features
from salakseg.suggestion.ranking import even_weights, rank, units_of

BUDGETS = (4, 8, 16)
STRIDE = 8  # positions that are looked at
POSITIONS = 96  # of these, drawn at random, of each patch
RIDGE = 30.0
BATCH = 16

Floats = NDArray[np.float32]
Choice = NDArray[np.int64]  # numbers of photographs


class Probe:
    """Ridge regressions on any photographs, from sums over each of them.

    Args:
        features: float32 (N, D) of pixels.
        labels: (N,), their classes.
        photo: (N,), the number of each one's photograph.
    """

    def __init__(self, features: Floats, labels: NDArray[np.uint8], photo: Choice) -> None:
        self.num_classes, count = int(labels.max()) + 1, int(photo.max()) + 1
        scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
        scaled = np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], 1)
        parts = [photo == number for number in range(count)]
        self.inputs = [scaled[part] for part in parts]
        self.labels = [labels[part].astype(np.int64) for part in parts]
        one_hot = np.eye(self.num_classes, dtype=np.float32)
        self.squares = np.stack([x.T @ x for x in self.inputs])
        self.products = np.stack(
            [x.T @ one_hot[y] for x, y in zip(self.inputs, self.labels, strict=True)]
        )

    def miou(self, chosen: Choice) -> float:
        """Trained on these photographs, on all others."""
        squares = self.squares[chosen].sum(0)
        squares += RIDGE * np.eye(len(squares), dtype=np.float32)
        weights = np.linalg.solve(squares, self.products[chosen].sum(0))
        size = self.num_classes
        confusion = np.zeros(size**2, np.int64)
        for number in np.setdiff1d(np.arange(len(self.inputs)), chosen):
            said = (self.inputs[number] @ weights).argmax(1)
            confusion += np.bincount(self.labels[number] * size + said, minlength=size**2)
        return float(scores(confusion.reshape(size, size)).miou)


@torch.inference_mode()
def look(
    shards: Shards, generator: str, encoder_weights: str
) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Features of the patches (N, D) and of positions in them (N, POSITIONS, D), and labels."""
    network = create_generator(generator, shards.mapping.num_classes, encoder_weights).eval()
    random = np.random.default_rng(0)
    of_patches, of_positions, labels = [], [], []
    total = -(-len(shards.samples) // BATCH)
    with stage_outputs(network) as stages:
        for batch in track(read_split(shards, "train", BATCH), "Features", total):
            stages.clear()
            network(batch.images.float() / 255)
            of_patches.append(stage_means(stages).numpy())
            side = shards.patch_size // STRIDE
            fine = torch.cat(
                [
                    functional.interpolate(stage, size=(side, side), mode="bilinear")
                    for stage in stages[-STAGES:]
                ],
                1,
            )  # (B, D, side, side)
            assert batch.masks is not None
            masks = batch.masks[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
            for pixels, mask in zip(fine.flatten(2), masks.flatten(1), strict=True):
                some = random.permutation(side**2)[:POSITIONS]
                of_positions.append(pixels[:, some].T.numpy())
                labels.append(mask[some].numpy())
    return np.concatenate(of_patches), np.stack(of_positions), np.stack(labels)


def by_strategy(features: Features, photos: NDArray[np.str_], strategy: str, budget: int) -> Choice:
    """What a strategy of `suggest` chooses; numbers in `photos`."""
    units = units_of(features.patches, "base")
    evenly = "patch" if strategy == "by patch" else "base"
    name = "coverage" if strategy == "by patch" else strategy
    weights = even_weights(features.patches, evenly)
    ranked = rank(features, units, weights, budget, budget, name)
    return np.searchsorted(photos, ranked.base_image.iloc[:budget].to_numpy(str))


def main() -> None:
    """Parse, look, choose, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dubai", type=Path)
    parser.add_argument("--encoder-weights", required=True)
    parser.add_argument("--generator", default="fpn128-tu-tf_efficientnet_lite0")
    parser.add_argument("--patch-size", type=int, default=192)
    parser.add_argument("--draws", type=int, default=50, help="random choices a pool and budget")
    parser.add_argument("--work", type=Path, default=Path("selection-work"))
    options = parser.parse_args()
    everything = split_of(options.dubai, "a").assign(split="train")
    shards = read_shards(
        pack(options.dubai, options.work, options.patch_size, "everything", everything)
    )
    of_patches, of_positions, labels = look(shards, options.generator, options.encoder_weights)

    samples = shards.split("train")
    photos, photo = np.unique(samples.base_image.to_numpy(str), return_inverse=True)
    scene_of = split_of(options.dubai, "a").set_index("base_image").scene
    scenes = scene_of[photos].to_numpy(str)
    known = labels.ravel() != IGNORE_INDEX
    probe = Probe(
        of_positions.reshape(-1, of_positions.shape[-1])[known],
        labels.ravel()[known],
        np.repeat(photo, labels.shape[1])[known],
    )
    random = np.random.default_rng(0)
    by_scene = [np.flatnonzero(scenes == scene) for scene in np.unique(scenes)]
    rows = []
    sizes = np.bincount(photo)
    for left_out in track(range(min(map(len, by_scene))), "Choosing"):
        outside = [some[left_out] for some in by_scene]
        pool = np.setdiff1d(np.arange(len(photos)), outside)
        inside = np.isin(photo, pool)
        patches = samples[inside].reset_index(drop=True).assign(split="unlabeled")
        features = Features(patches, of_patches[inside].astype(np.float16), of_patches.shape[1])
        for budget in BUDGETS:
            draws = [random.permutation(pool)[:budget] for _ in range(options.draws)]
            choices = {
                name: [by_strategy(features, photos, name, budget)]
                for name in ("coverage", "by patch", "k-centre")
            }
            if budget == len(by_scene):
                choices["scene"] = [
                    np.array([random.choice(np.intersect1d(some, pool)) for some in by_scene])
                    for _ in range(options.draws)
                ]
            drawn = np.array([probe.miou(draw) for draw in draws])
            for name, chosen in choices.items():
                found = np.array([probe.miou(choice) for choice in chosen])
                row = {
                    "budget": budget,
                    "strategy": name,
                    "random": drawn.mean(),
                    "gain": found.mean() - drawn.mean(),
                    "above": (found[:, None] > drawn).mean(),
                    "patches": sizes[chosen].mean() / sizes[draws].mean(),
                }
                rows.append(row)
    table = pd.DataFrame(rows)
    print(f"{len(photos)} photographs, {options.draws} random draws a pool")
    print("| labelled | random | strategy | gain (least, greatest) | above | patches |")
    print("|---|---|---|---|---|---|")
    for (budget, name), part in table.groupby(["budget", "strategy"], sort=False):
        mean = part[["random", "gain", "above", "patches"]].mean()
        gains = f"{mean.gain:+.3f} ({part.gain.min():+.3f}, {part.gain.max():+.3f})"
        print(
            f"| {budget} | {mean.random:.3f} | {name} | {gains} | {mean.above:.0%} | "
            f"{mean.patches:.2f} |"
        )


if __name__ == "__main__":
    main()
