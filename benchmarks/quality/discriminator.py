"""What the discriminator knows: the map, or the image?

    python benchmarks/quality/discriminator.py

Trains `tiny` on the test samples and then shows D *drawn* maps: of labelled images that it learnt
from, of validation images that it has never seen, and of unlabelled ones, whose masks training did
not have. A D that judges maps gives all of them a high probability; one that has learnt which
images never come with a drawn map gives the last a low one. Beside it, how much of G's loss feature
matching is, in eight parts of the run. A few minutes a run.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from salakseg.data.augment import to_float
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import Patches, TrainingStream
from salakseg.model.generator import create_generator
from salakseg.model.names import TINY_GENERATOR
from salakseg.training.losses import drawn_class_maps
from salakseg.training.options import PAPER_THRESHOLD, S4GAN, S4GAN_PAPER, Recipe
from salakseg.training.step import LOSS_NAMES, Step

sys.path.append(str(Path(__file__).parents[1]))
from samples import ROLES, pack_samples

BATCH, LAMBDA_FM = 4, 0.1
SPLITS = ("train", "val", "unlabeled")


def trained(method: str, shards: Shards, steps: int, seed: int) -> Step:
    """A finished run; prints λ_FM · L_FM over L_CE in eight parts of it."""
    torch.manual_seed(seed)
    classes = shards.mapping.num_classes
    network = create_generator(TINY_GENERATOR, classes, "none")
    threshold = PAPER_THRESHOLD if method == S4GAN_PAPER else None
    recipe = Recipe(method, steps, 1e-3, threshold, 1.0, LAMBDA_FM, seed, False)
    step = Step(network, classes, recipe, torch.device("cpu"), None)
    stream = iter(TrainingStream(shards, BATCH, seed=seed, unlabeled_batch_size=BATCH))
    shares = []
    for iteration in range(1, steps + 1):
        step(iteration, *next(stream))
        if iteration % (steps // 8) == 0:
            sums = dict(zip(LOSS_NAMES, step.totals.tolist(), strict=False))
            shares.append(LAMBDA_FM * sums["loss_fm"] / sums["loss_ce"])
            step.totals.zero_()
    print(f"{method}, seed {seed}: λ_FM · L_FM / L_CE " + " ".join(f"{one:.2f}" for one in shares))
    return step


@torch.no_grad()
def probability_of_drawn_maps(step: Step, truth: Shards, keys: list[str]) -> float:
    """D's mean probability of "drawn" for the masks of these patches."""
    assert step.discriminator is not None
    step.discriminator.eval()
    rows = np.flatnonzero(truth.split("train").key.isin(keys))
    batch = Patches(truth, {"all": "train"}).read("all", rows)
    assert batch.masks is not None
    images = to_float(batch.images)
    maps = drawn_class_maps(batch.masks, step.teacher(images).softmax(1))
    scores, _ = step.discriminator(images, maps, batch.valid)
    return float(scores.sigmoid().mean())


def main() -> None:
    """Pack the samples twice, with and without the masks of the unlabelled; train; show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("run", "truth")]
        shards = read_shards(pack_samples(folders[0]))
        truth = read_shards(pack_samples(folders[1], roles=["train"] * len(ROLES)))
        rows = []
        for method in (S4GAN_PAPER, S4GAN):
            for seed in options.seeds:
                step = trained(method, shards, options.steps, seed)
                found = [
                    probability_of_drawn_maps(step, truth, shards.split(split).key.tolist())
                    for split in SPLITS
                ]
                rows.append(f"| `{method}` | {seed} | " + " | ".join(f"{p:.2f}" for p in found))
    print("| method | seed | labelled | validation | unlabelled |\n|---|---|---|---|---|")
    print(*(f"{row} |" for row in rows), sep="\n")


if __name__ == "__main__":
    main()
