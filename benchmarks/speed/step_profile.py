"""Where the time of an S4GAN iteration goes, part by part.

    python benchmarks/speed/step_profile.py [--generator NAME]

CPU milliseconds on one thread, as `salakseg train` runs the step on this CPU (batch of 4, the test
samples' patches of 128 pixels, random weights): of each network's passes, of the losses, of
augmentation, and of what is left. A part's time is without that of parts inside it.
"""

import argparse
import functools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from salakseg.data.shards import read_shards
from salakseg.data.stream import TrainingStream
from salakseg.device import autocast_dtype
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR
from salakseg.training import step as step_module
from salakseg.training.options import S4GAN, Recipe
from salakseg.training.step import Step

sys.path.append(str(Path(__file__).parents[1]))
from samples import pack_samples

FUNCTIONS = {
    "augmentation": ("weak_view", "color_view", "cutmix"),
    "losses": ("cross_entropy_loss", "self_training_loss", "feature_matching_loss"),
}
WARM_UP = 2


class Clock:
    """CPU seconds by part; `timed` wraps a function so that its own time is counted."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, counted as `part`."""

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.process_time()
            self._inside.append(0.0)
            try:
                return function(*arguments, **keywords)
            finally:
                taken = time.process_time() - began
                self.parts[part] += taken - self._inside.pop()
                self._inside[-1] += taken

        return call


def watch(step: Step, clock: Clock) -> Callable[..., Any]:
    """The step, its parts counted by `clock`."""
    for part, names in FUNCTIONS.items():
        for name in names:
            setattr(step_module, name, clock.timed(part, getattr(step_module, name)))
    assert step.discriminator is not None
    networks = {"G": step.generator, "teacher": step.teacher, "D": step.discriminator}
    for name, network in networks.items():
        network.forward = clock.timed(f"{name}, forward", network.forward)  # type: ignore[method-assign]
    step._descend = clock.timed("backward and optimisers", step._descend)  # type: ignore[method-assign]
    step._update_teacher = clock.timed("running mean of G", step._update_teacher)  # type: ignore[method-assign]
    return clock.timed("rest", step)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default=DEFAULT_GENERATOR)
    parser.add_argument("--iterations", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        shards = read_shards(pack_samples(Path(temporary)))
        classes, device = shards.mapping.num_classes, torch.device("cpu")
        step = Step(
            create_generator(options.generator, classes, "none"),
            classes,
            Recipe(S4GAN, 1000, 1e-3, None, 1.0, 0.1, 0, False),
            device,
            autocast_dtype(device, None),
        )
        batches = iter(TrainingStream(shards, 4, seed=0, unlabeled_batch_size=4))
        clock = Clock()
        for iteration in range(1, WARM_UP + 1):
            step(iteration, *next(batches))
        watched = watch(step, clock)
        for iteration in range(WARM_UP + 1, WARM_UP + 1 + options.iterations):
            watched(iteration, *next(batches))
    whole = sum(clock.parts.values())
    for part, taken in sorted(clock.parts.items(), key=lambda item: -item[1]):
        print(f"{part:24}{taken / options.iterations * 1e3:8.1f} ms {taken / whole:6.1%}")
    print(f"{'an iteration':24}{whole / options.iterations * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
