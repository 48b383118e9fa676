"""Claim: two processes on two cores do a work in little more than half of the time of one.

    python benchmarks/speed/scale_out.py [--turns 3]

Training of `tiny` and of a larger network, and that one's `eval` on 400 patches and `predict` of an
image of 3,072 × 3,072 pixels, each started by torchrun in one process and in two, a thread each, in
turns; connected by gloo. Of two processes also the share of the time in which they exchange
something or wait for each other; of training the most that can come of it: what two processes take
that know nothing of each other, with half of the batch each. Then what an iteration sends, and how
long that takes of a network of 25 and of 200 Gbit/s, on paper.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import salakseg
from salakseg import distributed
from salakseg.console import console

sys.path.append(str(Path(__file__).parents[1]))
from claims import ratios, report
from samples import REALISTIC, SAMPLES, draw_patches, make_mosaic, pack_samples, random_model

TRAINING = {"tiny": 40, REALISTIC: 8}  # iterations
GOALS = {"eval": 1.8, "predict": 1.8}
TRAINING_GOAL = 1.6
BATCH = 8


def work_of(name: str, data: Path, out: Path, batch: int) -> float:
    """Do it; seconds, without the start."""
    began = time.perf_counter()
    here: dict[str, Any] = {"device": "cpu", "amp": False}
    if name == "eval":
        model = data / "model.pth"
        salakseg.evaluate(model, shards_dir=data / "drawn-shards", split="train", out=out, **here)
    elif name == "predict":
        salakseg.predict([data / "field.tif"], model=data / "model.pth", out=out, **here)
    else:
        salakseg.train(
            shards_dir=data / "shards",
            checkpoint_dir=out,
            generator=name,
            encoder_weights="none",
            num_steps=TRAINING[name],
            batch_size=batch,
            wandb_mode="disabled",
            **here,
        )
        with open(out / "timing.csv", encoding="utf-8") as file:
            return float(list(csv.DictReader(file))[-1]["seconds"])
    return time.perf_counter() - began


def measured(name: str, data: Path, out: Path, batch: int) -> None:
    """In each process: print the seconds, and those that it exchanged and waited."""
    console.quiet = True
    talking, collect = 0.0, distributed._collect

    def counted(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        nonlocal talking
        began = time.perf_counter()
        collect(call, *arguments, **named)
        talking += time.perf_counter() - began

    distributed._collect = counted
    with distributed.joined():
        # Not measured: the first use of each part.
        work_of(name, data, out / "first", batch)
        talking = 0.0
        taken = work_of(name, data, out / "second", batch)
        if distributed.is_first():
            print(f"took {taken} {talking}", flush=True)
    os._exit(0)  # as the command line does


def taken_by(processes: int, name: str, data: Path) -> tuple[float, float]:
    """Seconds of a work, and its share of exchange."""
    (found,) = finished([started(name, data, BATCH, processes)])
    return found


def taken_apart(name: str, data: Path) -> float:
    """Seconds of two processes at once, half of the batch each, that are not connected."""
    found = finished([started(name, data, BATCH // 2, 1) for _ in range(2)])
    return max(seconds for seconds, _ in found)


def started(name: str, data: Path, batch: int, processes: int) -> subprocess.Popen[str]:
    """This program for one work, by torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    out = tempfile.mkdtemp(dir=data)
    return subprocess.Popen(
        [sys.executable, *launch, __file__, "--work", name, str(data), out, str(batch)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finished(running: list[subprocess.Popen[str]]) -> list[tuple[float, float]]:
    """Of each its seconds, and its share of exchange."""
    found = []
    for output, errors in [process.communicate() for process in running]:
        line = next((one for one in output.splitlines() if one.startswith("took")), None)
        if line is None:
            raise SystemExit(f"failed:\n{errors}")
        seconds, talking = map(float, line.split()[1:])
        found.append((seconds, talking / seconds))
    return found


def on_paper() -> None:
    """What an iteration of the default network sends, and what that takes."""
    from salakseg.model.discriminator import Discriminator
    from salakseg.model.generator import create_generator
    from salakseg.model.names import DEFAULT_GENERATOR

    networks = create_generator(DEFAULT_GENERATOR, 7, "none"), Discriminator(7)
    count = sum(parameter.numel() for one in networks for parameter in one.parameters())
    print(f"\n{DEFAULT_GENERATOR} and its discriminator: {count / 1e6:.1f} million gradients")
    # Of two machines in a ring each sends and takes every number once.
    sent = 4 * count
    for gigabits in (25, 200):
        milliseconds = sent * 8 / (gigabits * 1e9) * 1e3
        print(f"2 machines, {gigabits} Gbit/s: {sent / 1e6:.0f} MB, {milliseconds:.0f} ms")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["tiny", REALISTIC, "eval", "predict"])
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, data, out, batch = options.work
        measured(name, Path(data), Path(out), int(batch))
        return
    console.quiet = True
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        pack_samples(data)
        draw_patches(data / "drawn", 400, labelled=1)
        split = data / "drawn" / "split.csv"
        salakseg.index(data / "drawn", out=data / "drawn-index", split_file=split)
        salakseg.shard(index_dir=data / "drawn-index", out=data / "drawn-shards")
        photos = [np.asarray(Image.open(path)) for path in sorted((SAMPLES / "images").iterdir())]
        make_mosaic(data / "field.tif", photos, 3072, "utm")
        random_model(data / "model.pth", REALISTIC, SAMPLES / "class_mapping.csv")
        for name in options.only:
            turns = []
            for _ in range(options.turns):
                turns.append([taken_by(count, name, data) for count in (1, 2)])
            one, two = ([turn[side][0] for turn in turns] for side in (0, 1))
            talking = statistics.median(turn[1][1] for turn in turns)
            report(
                f"two processes for one: {name if name in GOALS else f'training of {name}'}, "
                f"{talking:.0%} of it exchange and waiting",
                f"{statistics.median(two):.1f} s",
                f"{statistics.median(one):.1f} s",
                ratios(one, two),
                at_least=GOALS.get(name, TRAINING_GOAL),
            )
            if name in TRAINING:
                apart = [taken_apart(name, data) for _ in range(options.turns)]
                report(
                    f"two that know nothing of each other: training of {name}",
                    f"{statistics.median(apart):.1f} s",
                    f"{statistics.median(one):.1f} s",
                    ratios(one, apart),
                )
    on_paper()


if __name__ == "__main__":
    main()
