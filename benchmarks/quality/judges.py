"""What stands between self-training and the oracle: who knows which pseudo-labels are right?

    python benchmarks/quality/judges.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

After `methods.py --setting small` with the same `--work`, whose supervised models it reads. Two
looks at the 40 unlabelled photographs of a rotation, whose masks are known here:

1. The supervised model labels them, and several judges choose of each class the same share of its
   pixels: by confidence, as `s4gan` does; by agreement with a ridge regression on the features of
   the encoder before it was trained, then by confidence; by the product of both probabilities; by
   agreement with the `s4gan` model. Printed: how many of the chosen are right.
2. `--perfect` trains `s4gan` with a judge that knows: every pixel where the teacher is right
   teaches, and no other. What comes of it on `val` is the most that choosing pixels can bring.
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from methods import ROTATIONS, SETTINGS, arguments, of_split, photographs, prepare, shrunk, trained
from torch import Tensor
from torch.nn import functional

import salakseg
from salakseg.classes import IGNORE_INDEX
from salakseg.data.augment import to_float
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import Batch, read_split
from salakseg.metrics import scores
from salakseg.model.generator import Generator, create_generator
from salakseg.model.weights import load_model
from salakseg.training.step import Lesson, Step, View
from salakseg.training.trust import ImageTrust, PixelTrust

# Of each class's pixels, what `s4gan` trusts: 80 % of the pixels of 80 % of the images.
SHARE = 0.64
BATCH = 16
CELL = 4  # pixels of a side of what the regression looks at
RIDGE = 0.03


def truths(oracle: Shards, keys: list[str]) -> Tensor:
    """The masks of some patches, uint8 (N, P, P), from shards in which they are labelled."""
    known = {}
    rows = oracle.split("train").key.tolist()
    for batch in read_split(oracle, "train", BATCH):
        assert batch.masks is not None
        known |= {rows[i]: mask for i, mask in zip(batch.entries, batch.masks, strict=True)}
    return torch.stack([known[key] for key in keys])


def features(frozen: Generator, images: Tensor) -> Tensor:
    """What the encoder says of each cell, at all its scales: (B, F, P / 4, P / 4)."""
    stages = frozen.network.encoder((to_float(images) - frozen.mean) / frozen.std)[2:]
    side = images.shape[-1] // CELL
    stages = [functional.interpolate(one, size=(side, side), mode="bilinear") for one in stages]
    return torch.cat([*stages, torch.ones_like(stages[0][:, :1])], 1)


class Regression:
    """Ridge regression from features to the shares of the classes in a cell."""

    def __init__(self, frozen: Generator, shards: Shards) -> None:
        self.frozen = frozen
        seen, wanted = [], []
        for batch in read_split(shards, "train", BATCH):
            assert batch.masks is not None
            classes = torch.arange(shards.mapping.num_classes).view(1, -1, 1, 1)
            shares = functional.avg_pool2d((batch.masks[:, None] == classes).float(), CELL)
            seen.append(features(frozen, batch.images).permute(0, 2, 3, 1).flatten(0, 2))
            wanted.append(shares.permute(0, 2, 3, 1).flatten(0, 2))
        x, y = torch.cat(seen), torch.cat(wanted)
        self.deviation = x.std(0)
        self.deviation[-1] = 1  # the constant
        x = x / self.deviation * y.sum(1, keepdim=True).sqrt()
        squares = x.T @ x
        weight = RIDGE * squares.diagonal().mean()
        y = y / y.sum(1, keepdim=True).sqrt().clamp(min=1e-3)
        self.weights = torch.linalg.solve(squares + weight * torch.eye(len(squares)), x.T @ y)

    def __call__(self, images: Tensor) -> Tensor:
        """Shares (B, K, P, P), some a little below 0 or above 1."""
        x = features(self.frozen, images).permute(0, 2, 3, 1) / self.deviation
        cells = (x @ self.weights).permute(0, 3, 1, 2)
        return functional.interpolate(cells, scale_factor=CELL, mode="bilinear")


def precision(labels: Tensor, score: Tensor, truth: Tensor) -> list[float]:
    """Of the best `SHARE` of each class's pixels: the share that is right, of all and by class."""
    known = truth != IGNORE_INDEX
    right, chosen = [], []
    for number in labels.unique():
        some = (labels == number) & known
        cut = np.quantile(score[some].numpy(), 1 - SHARE)
        some &= score >= cut
        right.append(int((labels == truth)[some].sum()))
        chosen.append(int(some.sum()))
    return [sum(right) / sum(chosen), *(r / c for r, c in zip(right, chosen, strict=True))]


@torch.inference_mode()
def judges(options: argparse.Namespace, rotation: str) -> None:
    """Print what each judge is worth in a rotation."""
    shards = read_shards(prepare(options.dubai, options.work, options.patch_size, rotation, False))
    oracle = read_shards(prepare(options.dubai, options.work, options.patch_size, rotation, True))
    truth = truths(oracle, shards.split("unlabeled").key.tolist())
    run = list(ROTATIONS).index(rotation)
    models = [
        load_model(options.work / f"{arm}-{run}-{options.steps}" / "final_model.pth")
        for arm in ("supervised", "s4gan")
    ]
    weights = str(options.encoder_weights)
    frozen = create_generator(options.generator, shards.mapping.num_classes, weights).eval()
    ridge = Regression(frozen, shards)
    answers: list[list[Tensor]] = [[], [], []]
    for batch in read_split(shards, "unlabeled", BATCH):
        for model, some in zip(models, answers, strict=False):
            some.append(model.probabilities(batch.images).float())
        answers[2].append(ridge(batch.images))
    teacher, other, regression = (torch.cat(some) for some in answers)
    confidence, labels = teacher.max(1)
    known = truth != IGNORE_INDEX

    def miou(maps: Tensor) -> float:
        found = maps.max(1).indices[known] + len(shards.mapping.names) * truth[known].long()
        size = len(shards.mapping.names)
        return scores(torch.bincount(found, minlength=size**2).view(size, size)).miou

    print(
        f"rotation {rotation}, mIoU on the 40: supervised {miou(teacher):.3f}, s4gan "
        f"{miou(other):.3f}, regression {miou(regression):.3f}, supervised times regression "
        f"{miou(teacher * regression.clamp(min=0.02)):.3f}; all labels right: "
        f"{(labels == truth)[known].float().mean():.3f}"
    )
    names = shards.mapping.names
    for judge, score in {
        "confidence": confidence,
        "regression agrees": confidence + (labels == regression.max(1).indices),
        "product": confidence * regression.gather(1, labels[:, None])[:, 0].clamp(min=0),
        "s4gan agrees": confidence + (labels == other.max(1).indices),
    }.items():
        whole, *each = precision(labels, score, truth)
        by_class = ", ".join(f"{n} {p:.2f}" for n, p in zip(names, each, strict=False))
        print(f"  {judge:18} {whole:.3f} right ({by_class})")


@contextmanager
def perfect_judge(truth: Tensor) -> Iterator[None]:
    """Meanwhile exactly those pixels teach where the teacher is right."""
    view, lesson = Step._view, Step._lesson
    now: list[Tensor] = []

    def seeing(step: Step, batch: Batch, color: float = 0.0) -> View:
        if batch.masks is None:
            batch = replace(batch, masks=truth[batch.entries])
        return view(step, batch, color)

    def taught(step: Step, labeled: View, weak: View) -> Lesson:
        now[:] = [weak.y]
        return lesson(step, labeled, weak)

    def right(_: PixelTrust, confidence: Tensor, labels: Tensor) -> Tensor:
        return (labels == now[0]) & (labels != IGNORE_INDEX)

    def every(_: ImageTrust, scores_of_d: Tensor | None, confidence: Tensor) -> Tensor:
        return ~confidence.isnan()

    with ExitStack() as replaced:
        for owner, name, other in (
            (Step, "_view", seeing),
            (Step, "_lesson", taught),
            (PixelTrust, "trusted", right),
            (ImageTrust, "accepted", every),
        ):
            replaced.enter_context(mock.patch.object(owner, name, other))
        yield


def perfect(options: argparse.Namespace, rotation: str) -> dict[str, Any]:
    """Train with the perfect judge; the scores on `val`."""
    shards = prepare(options.dubai, options.work, options.patch_size, rotation, False)
    oracle = read_shards(prepare(options.dubai, options.work, options.patch_size, rotation, True))
    run = list(ROTATIONS).index(rotation)
    folder: Path = options.work / f"perfect-{run}-{options.steps}"
    truth = truths(oracle, read_shards(shards).split("unlabeled").key.tolist())
    with perfect_judge(truth):
        model = trained(options, shards, folder, run, "s4gan")
    data = options.work / f"val-{rotation}"
    photographs(options.dubai, data, of_split(options.dubai, rotation, "val"))
    return salakseg.evaluate(model, data=data, out=options.work / f"eval-{folder.name}-val")


def main() -> None:
    """Parse and run."""
    parser = arguments()
    parser.set_defaults(**SETTINGS["small"])
    parser.add_argument("--rotations", nargs="+", choices=ROTATIONS, default=list("abc"))
    parser.add_argument("--perfect", action="store_true")
    options = parser.parse_args()
    options.dubai = shrunk(options.dubai, options.work / "photographs")
    for rotation in options.rotations:
        if options.perfect:
            result = perfect(options, rotation)
            by_class = ", ".join(f"{c['class_name']} {c['iou']:.3f}" for c in result["classes"])
            print(f"rotation {rotation}, a perfect judge: {result['miou']:.4f} ({by_class})")
        else:
            judges(options, rotation)


if __name__ == "__main__":
    main()
