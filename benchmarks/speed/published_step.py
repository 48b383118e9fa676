"""Claim: an S4GAN iteration takes half the time of the published loop's, or less.

    python benchmarks/speed/published_step.py

The published iteration is written here afresh from Mittal et al. 2019, the way that the public
training loops run it: float32 in NCHW, a forward of G each for labelled and unlabelled images, four
forwards of D at full size with dropout, images for D scaled by each batch's extremes, masks made
one-hot and pseudo-labels made on the CPU in NumPy, copies that wait, a look at each loss in each
iteration, SGD for G, Adam for D. Ours runs as `salakseg train` runs it on the device: mixed
precision where the device is fast at it, deterministic. Both have the same network from the same
weights, the same patches and batch size, and take turns; random weights, as speed does not depend
on them.

What is compared:

- `s4gan-paper` has the paper's losses and decisions: the same number of images through G, forwards
  and backwards. Ours does more: augmentation of the batch (the public loops do it in the loader,
  which is not timed here), the running mean of G's weights that is evaluated, a confusion matrix of
  the training batches, AdamW instead of SGD. Ours does less: D sees half the resolution, and beside
  `tiny` it has a quarter of the channels, so that a ratio with `tiny` says more about D than about
  the loop. The published D, fresh here, accepts no image, which saves that loop its self-training
  loss; ours computes it anyway.
- `s4gan` does all of that and more: a teacher, a forward without
  backward on the unlabelled images.

Patches are those of the test samples, of 128 pixels, resized for another `--patch-size`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from salakseg.classes import IGNORE_INDEX
from salakseg.data.augment import to_float
from salakseg.data.shards import read_shards
from salakseg.data.stream import Batch, TrainingStream
from salakseg.device import autocast_dtype, select_device, set_determinism
from salakseg.model.generator import Generator, create_generator
from salakseg.model.names import DEFAULT_GENERATOR
from salakseg.training.options import PAPER_THRESHOLD, S4GAN, S4GAN_PAPER, Recipe
from salakseg.training.step import Step

sys.path.append(str(Path(__file__).parents[1]))
from claims import HEAD, ratios, report, take_turns
from samples import pack_samples

GOAL = 2.0
LAMBDA_FM, LAMBDA_ST = 0.1, 1.0
Pairs = list[tuple[Batch, Batch]]


class PublishedDiscriminator(nn.Module):
    """Probability that a map (B, K, H, W), stacked on its image, was drawn; and mean features."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3 + num_classes
        for width in (64, 128, 256, 512):
            layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.5)]
            channels = width
        self.convolutions = nn.Sequential(*layers[:-1])  # no dropout before the pooling
        self.score = nn.Linear(channels, 1)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolutions(pairs).mean((2, 3))  # (B, 512)
        return torch.sigmoid(self.score(features)), features


class PublishedLoop:
    """The published iteration; it gets batches as the published loader gives them, on the CPU."""

    def __init__(self, network: nn.Module, num_classes: int, device: torch.device) -> None:
        self.num_classes, self.device = num_classes, device
        self.generator = network.to(device).train()
        self.discriminator = PublishedDiscriminator(num_classes).to(device)
        self.optimizer = torch.optim.SGD(
            self.generator.parameters(), 2.5e-4, momentum=0.9, weight_decay=5e-4
        )
        self.optimizer_D = torch.optim.Adam(
            self.discriminator.parameters(), 1e-4, betas=(0.9, 0.99)
        )

    def __call__(self, images: Tensor, masks: Tensor, unlabeled: Tensor) -> dict[str, float]:
        """Normalised float images (B, 3, P, P) and masks (B, P, P) → the losses."""
        self.optimizer.zero_grad()
        self.optimizer_D.zero_grad()

        # G. D's own weights gather no gradient meanwhile.
        self.discriminator.requires_grad_(False)
        x_l = images.to(self.device)
        loss_ce = self._cross_entropy(self.generator(x_l), masks.to(self.device))
        x_u = unlabeled.to(self.device)
        logits_u = self.generator(x_u)
        predicted = torch.cat([logits_u.softmax(1), scaled(x_u)], 1)
        scores_u, features_u = self.discriminator(predicted)
        drawn = torch.cat([one_hot(masks, self.num_classes).to(self.device), scaled(x_l)], 1)
        _, features_l = self.discriminator(drawn)
        loss_fm = (features_l.mean(0) - features_u.mean(0)).abs().mean()
        loss_g = loss_ce + LAMBDA_FM * loss_fm
        # Each comparison waits for the device.
        accepted = [i for i in range(len(x_u)) if scores_u[i] > PAPER_THRESHOLD]
        loss_st = 0.0
        if accepted:
            labels = [class_map(logits_u[i]) for i in accepted]
            pseudo = torch.from_numpy(np.stack(labels)).to(self.device)
            self_training = self._cross_entropy(logits_u[accepted], pseudo)
            loss_g = loss_g + LAMBDA_ST * self_training
            loss_st = self_training.item()
        loss_g.backward()

        # D.
        self.discriminator.requires_grad_(True)
        score_fake, _ = self.discriminator(predicted.detach())
        score_real, _ = self.discriminator(drawn)
        fake = functional.binary_cross_entropy(score_fake, torch.zeros_like(score_fake))
        real = functional.binary_cross_entropy(score_real, torch.ones_like(score_real))
        loss_d = (fake + real) / 2
        loss_d.backward()

        self.optimizer.step()
        self.optimizer_D.step()
        return {
            "ce": loss_ce.item(),
            "fm": loss_fm.item(),
            "st": loss_st,
            "d": loss_d.item(),
        }

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels.long(), ignore_index=IGNORE_INDEX)


def scaled(images: Tensor) -> Tensor:
    """To [0, 1] by the extremes of the batch."""
    low, high = images.min(), images.max()
    return (images - low) / (high - low)


def one_hot(masks: Tensor, num_classes: int) -> Tensor:
    """(B, P, P) → float (B, K, P, P), class by class on the CPU; zeros where ignored."""
    labels = masks.numpy()
    maps = np.zeros((len(labels), num_classes, *labels.shape[1:]), np.float32)
    for k in range(num_classes):
        maps[:, k] = labels == k
    return torch.from_numpy(maps)


def class_map(logits: Tensor) -> NDArray[np.int64]:
    """(K, P, P) → (P, P), on the CPU."""
    return logits.detach().cpu().numpy().argmax(0)


def resized(batch: Batch, size: int) -> Batch:
    """The batch with patches of another size."""
    images = functional.interpolate(batch.images, size, mode="nearest")
    masks = batch.masks
    if masks is not None:
        masks = functional.interpolate(masks[:, None], size, mode="nearest")[:, 0]
    valid = torch.ones_like(images[:, 0], dtype=torch.bool)
    return replace(batch, images=images, masks=masks, valid=valid)


def published_side(
    generator: Generator, num_classes: int, device: torch.device, pairs: Pairs
) -> Callable[[], object]:
    """One iteration of the published loop a call, on what its loader would give."""
    # Straight to the network: our generator's forward would turn images to channels-last.
    loop = PublishedLoop(generator.network, num_classes, device)
    loaded = []
    for labeled, unlabeled in pairs:
        assert labeled.masks is not None
        x_l, x_u = (normalised(batch.images, generator) for batch in (labeled, unlabeled))
        loaded.append((x_l, labeled.masks, x_u))
    turns: Iterator[tuple[Tensor, Tensor, Tensor]] = cycle(loaded)

    def iterate() -> None:
        set_determinism(False)  # the public loops let cuDNN choose by the clock
        loop(*next(turns))

    return iterate


def our_side(
    method: str,
    generator: Generator,
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype | None,
    pairs: Pairs,
) -> Callable[[], object]:
    """One of our iterations a call."""
    # In the middle of a run, where self-training has its full weight.
    recipe = Recipe(method, 1000, 1e-3, None, LAMBDA_ST, LAMBDA_FM, 0, False)
    step = Step(generator, num_classes, recipe, device, dtype)
    turns = enumerate(cycle(pairs), start=500)

    def iterate() -> None:
        set_determinism(True)
        iteration, (labeled, unlabeled) = next(turns)
        step(iteration, labeled, unlabeled)

    return iterate


def normalised(images: Tensor, generator: Generator) -> Tensor:
    """uint8 (B, 3, P, P) → float, as the published loader gives them: in page-locked memory."""
    x = (to_float(images) - generator.mean.cpu()) / generator.std.cpu()
    return x.pin_memory() if torch.cuda.is_available() else x


def measured(
    name: str, side: Callable[[], object], device: torch.device, memory: dict[str, int]
) -> Callable[[], None]:
    """The side, waited for; on CUDA `memory` takes its peak above what was there before."""

    def iterate() -> None:
        if device.type != "cuda":
            side()
            return
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        side()
        torch.cuda.synchronize(device)
        memory[name] = torch.cuda.max_memory_allocated(device) - before

    return iterate


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default=DEFAULT_GENERATOR)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--patch-size", type=int, default=128, help="a multiple of 32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--no-amp", action="store_true", help="ours in float32 too")
    options = parser.parse_args()
    if options.patch_size % 32:
        parser.error("--patch-size: the networks themselves need a multiple of 32")
    device = select_device(options.device)
    dtype = autocast_dtype(device, False if options.no_amp else None)
    with tempfile.TemporaryDirectory() as temporary:
        shards = read_shards(pack_samples(Path(temporary)))
        size = options.batch_size
        stream = TrainingStream(shards, size, seed=0, unlabeled_batch_size=size)
        pairs: Pairs = []
        for labeled, unlabeled in islice(stream, options.turns + 1):
            assert unlabeled is not None
            patch_size = options.patch_size
            pairs.append((resized(labeled, patch_size), resized(unlabeled, patch_size)))
    num_classes = shards.mapping.num_classes
    generator = create_generator(options.generator, num_classes, "none")
    sides = {
        "published": published_side(deepcopy(generator), num_classes, device, pairs),
        **{
            method: our_side(method, deepcopy(generator), num_classes, device, dtype, pairs)
            for method in (S4GAN_PAPER, S4GAN)
        },
    }
    memory: dict[str, int] = {}
    columns = take_turns(
        [measured(name, side, device, memory) for name, side in sides.items()], options.turns
    )
    times = dict(zip(sides, columns, strict=True))
    print(f"{options.generator}, batch {size}, patches of {options.patch_size} pixels, on {device}")
    for name, column in times.items():
        line = f"{name}: {1 / statistics.median(column):.2f} it/s"
        if memory:
            line += f", {memory[name] / 2**20:.0f} MiB at the peak beside what stays"
        print(line)
    print(HEAD)
    precision = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    for method in (S4GAN_PAPER, S4GAN):
        report(
            f"an iteration, {options.generator}",
            f"{method}, {precision}",
            "published loop, float32",
            ratios(times["published"], times[method]),
            at_least=GOAL,
        )


if __name__ == "__main__":
    main()
