"""The share of an evaluation that counting takes, and our confusion matrix against torchmetrics'.

    pip install -e ".[bench]"
    python benchmarks/speed/eval_speed.py

Scores a network (random weights) on 256-pixel patches of the samples. The clock runs inside: the
pass of `salakseg.evaluate` from its first patch to its last, and in it all that counts (confusion
matrices, calibration, boundaries). What is left is reading and predicting. The tables, pictures and
the report that follow the pass cost the same for any number of patches, and are given apart.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import torch
from predict_speed import wait

import salakseg
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.device import select_device
from salakseg.evaluation import shard_split
from salakseg.metrics import confusion_matrix
from salakseg.model.names import TINY_GENERATOR

sys.path.append(str(Path(__file__).parents[1]))
from claims import ratios, report, take_turns
from samples import REALISTIC, SAMPLES, pack_samples, random_model

ROLES = ("train", *["val"] * 7)
SALAK_VAL = 2571  # patches: a fifth of the labelled ones of the Salak data


class Clock:
    """Sums up the seconds that functions take, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            wait(self.device)
            began = perf_counter()
            result = function(*arguments, **named)
            wait(self.device)
            self.seconds += perf_counter() - began
            return result

        return timed


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    console.quiet = True
    device = select_device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        shards = pack_samples(work, size=256, roles=ROLES)
        for name in (REALISTIC, TINY_GENERATOR):
            file = random_model(work / f"{name}.pth", name, SAMPLES / "class_mapping.csv")
            counting(file, shards, options.turns, device)
        num_classes = read_shards(shards).mapping.num_classes
    against_torchmetrics(num_classes, options.turns, device)


def counting(file: Path, shards: Path, turns: int, device: torch.device) -> None:
    """The seconds of counting against those of the pass, and of what follows it."""
    patches = len(read_shards(shards).split("val"))
    whole, counted, after = [], [], []
    for turn in range(turns + 1):
        in_pass, in_counting = Clock(device), Clock(device)
        counters = ("confusion_matrices", "count_by_confidence")
        inside = {name: in_counting.around(getattr(shard_split, name)) for name in counters}
        add = in_counting.around(shard_split.Counter.add)
        score = in_pass.around(shard_split.ShardSplit.score)
        with (
            mock.patch.multiple(shard_split, **inside),
            mock.patch.object(shard_split.Counter, "add", lambda *given, add=add: add(*given)),
            mock.patch.object(
                shard_split.ShardSplit, "score", lambda *given, score=score: score(*given)
            ),
        ):
            began = perf_counter()
            salakseg.evaluate(file, shards_dir=shards, out=file.parent / "eval", device=str(device))
            seconds = perf_counter() - began
        if turn:  # the first one warms up
            whole.append(in_pass.seconds)
            counted.append(in_counting.seconds)
            after.append(seconds - in_pass.seconds)
    report(
        f"eval: counting in a pass over {patches} patches, {file.stem}",
        f"{statistics.median(counted):.3f} s",
        f"{statistics.median(whole):.2f} s",
        ratios(counted, whole),
        at_most=0.02 if file.stem == REALISTIC else None,
    )
    fixed, a_patch = statistics.median(after), statistics.median(whole) / patches
    print(
        f"beside the pass (loading, tables, pictures, report): {fixed:.2f} s, "
        f"{fixed / (fixed + a_patch * SALAK_VAL):.1%} of an evaluation on {SALAK_VAL} such patches"
    )


def against_torchmetrics(num_classes: int, turns: int, device: torch.device) -> None:
    """Both confusion matrices of one batch, which must agree."""
    try:
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    except ImportError:
        print("torchmetrics is not installed (pip install torchmetrics): its row is left out")
        return
    generator = torch.Generator().manual_seed(0)
    size = (16, 256, 256)
    truth = torch.randint(num_classes + 1, size, dtype=torch.uint8, generator=generator)
    truth = truth.masked_fill(truth == num_classes, 255).to(device)
    prediction = torch.randint(num_classes, size, generator=generator).to(device)

    def ours() -> torch.Tensor:
        matrix = confusion_matrix(truth, prediction, num_classes)
        wait(device)
        return matrix

    def theirs() -> torch.Tensor:
        matrix = multiclass_confusion_matrix(
            prediction, truth.long(), num_classes, ignore_index=255
        )
        wait(device)
        return matrix

    if not torch.equal(ours(), theirs()):
        raise SystemExit("the two confusion matrices differ")
    mine, other = take_turns([ours, theirs], 5 * turns)
    report(
        f"eval: the confusion matrix of {' × '.join(map(str, size))} pixels, against torchmetrics'",
        f"{1000 * statistics.median(mine):.1f} ms",
        f"{1000 * statistics.median(other):.1f} ms",
        ratios(other, mine),
    )


if __name__ == "__main__":
    main()
