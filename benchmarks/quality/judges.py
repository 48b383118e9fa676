"""What stands between self-training and the oracle: who knows which pseudo-labels are right?

    python benchmarks/quality/judges.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

After `methods.py --setting small` with the same `--work`, whose supervised models it reads. Two
looks at the 40 unlabelled photographs of a rotation, whose masks are known here:

1. The supervised model labels them, and several judges choose of each class the same share of its
   pixels: by confidence, as `s4gan` does; by agreement with a ridge regression on the features of
   the encoder before it was trained, then by confidence; by the product of both probabilities; by
   agreement with the `s4gan` model; by confidence where the supervised model looks several times,
   at turned and enlarged patches. Printed: how many of the chosen are right.
2. `--train perfect` trains `s4gan` with a judge that knows: every pixel where the teacher is right
   teaches, and no other. What comes of it on `val` is the most that choosing pixels can bring.
   `--train views`: its teacher looks several times.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from methods import (
    ROTATIONS,
    SETTINGS,
    arguments,
    of_split,
    photographs,
    prepare,
    shrunk,
    together,
    trained,
)
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
VIEWS = [(0, 1), (1, 1), (2, 1), (3, 1), (0, 1.5), (1, 1.5)]  # quarter turns, scale


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


def looking_often(probabilities: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The mean of what is said of the images in four turns, and in two of them enlarged."""

    def of(turns: int, scale: float) -> Tensor:
        view = torch.rot90(images, turns, (2, 3))
        if scale > 1:
            view = functional.interpolate(view.float(), scale_factor=scale, mode="bilinear")
            view = view.to(images.dtype)
        found = probabilities(view)
        found = functional.interpolate(found, images.shape[2:], mode="bilinear", antialias=True)
        return torch.rot90(found, -turns, (2, 3))

    return torch.stack([of(*view) for view in VIEWS]).mean(0)


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
    answers: list[list[Tensor]] = [[], [], [], []]
    for batch in read_split(shards, "unlabeled", BATCH):
        for model, some in zip(models, answers, strict=False):
            some.append(model.probabilities(batch.images).float())
        answers[2].append(ridge(batch.images))
        answers[3].append(looking_often(lambda x: models[0].probabilities(x).float(), batch.images))
    teacher, other, regression, often = (torch.cat(some) for some in answers)
    confidence, labels = teacher.max(1)
    known = truth != IGNORE_INDEX

    def miou(maps: Tensor) -> float:
        found = maps.max(1).indices[known] + len(shards.mapping.names) * truth[known].long()
        size = len(shards.mapping.names)
        return scores(torch.bincount(found, minlength=size**2).view(size, size)).miou

    print(
        f"rotation {rotation}, mIoU on the 40: supervised {miou(teacher):.3f}, s4gan "
        f"{miou(other):.3f}, regression {miou(regression):.3f}, supervised times regression "
        f"{miou(teacher * regression.clamp(min=0.02)):.3f}, looking often {miou(often):.3f}; all "
        "labels right: "
        f"{(labels == truth)[known].float().mean():.3f}"
    )
    names = shards.mapping.names
    for judge, score in {
        "confidence": confidence,
        "regression agrees": confidence + (labels == regression.max(1).indices),
        "product": confidence * regression.gather(1, labels[:, None])[:, 0].clamp(min=0),
        "s4gan agrees": confidence + (labels == other.max(1).indices),
        "looking often": often.max(1).values,
    }.items():
        of = often.max(1).indices if judge == "looking often" else labels
        whole, *each = precision(of, score, truth)
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


@contextmanager
def teacher_that_looks_often() -> Iterator[None]:
    """Meanwhile the teacher's answer is the mean over its views."""
    lesson = Step._lesson

    def taught(step: Step, labeled: View, weak: View) -> Lesson:
        forward = step.teacher.forward

        def often(x: Tensor) -> Tensor:
            return looking_often(lambda view: forward(view).float().softmax(1), x).log()

        with mock.patch.object(step.teacher, "forward", often):
            return lesson(step, labeled, weak)

    with mock.patch.object(Step, "_lesson", taught):
        yield


def train(options: argparse.Namespace, rotation: str) -> dict[str, dict[str, Any]]:
    """Train in one of the two ways; the scores on `val` and on the 40."""
    shards = prepare(options.dubai, options.work, options.patch_size, rotation, False)
    run = list(ROTATIONS).index(rotation)
    folder: Path = options.work / f"{options.train}-{run}-{options.steps}"
    way: AbstractContextManager[None] = teacher_that_looks_often()
    if options.train == "perfect":
        oracle = prepare(options.dubai, options.work, options.patch_size, rotation, True)
        keys = read_shards(shards).split("unlabeled").key.tolist()
        way = perfect_judge(truths(read_shards(oracle), keys))
    with way:
        # A judge of labels as the teacher gives them.
        model = trained(options, shards, folder, run, "s4gan", ["class-shares"])
    found = {}
    for split in ("val", "unlabeled"):
        data = options.work / f"{split}-{rotation}"
        photographs(options.dubai, data, of_split(options.dubai, rotation, split))
        out = options.work / f"eval-{folder.name}-{split}"
        found[split] = salakseg.evaluate(model, data=data, out=out)
    return found


def main() -> None:
    """Parse and run."""
    parser = arguments()
    parser.set_defaults(**SETTINGS["small"])
    parser.add_argument("--rotations", nargs="+", choices=ROTATIONS, default=list("abc"))
    parser.add_argument("--train", choices=("perfect", "views"))
    options = parser.parse_args()
    options.dubai = shrunk(options.dubai, options.work / "photographs")
    for rotation in options.rotations:
        if options.train:
            found = train(options, rotation)
            both = together(found)["miou_48"]
            val, rest = (f"{found[split]['miou']:.4f}" for split in ("val", "unlabeled"))
            print(f"rotation {rotation}, {options.train}: val {val}, the 40 {rest}, both {both}")
        else:
            judges(options, rotation)


if __name__ == "__main__":
    main()
