"""How long the command line takes to answer, and training to begin.

    python benchmarks/speed/start_up.py

`salakseg --help` and `salakseg index --help`, each a new process, take turns with a Python that
does nothing. Then training: from the call to the first iteration, on the samples, torch and the
library of networks being imported already and without weights to read. The goals are seconds, so
the ratio of these rows is the seconds over the goal.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from salakseg.console import console

sys.path.append(str(Path(__file__).parents[1]))
from claims import report, take_turns
from samples import REALISTIC, pack_samples

HELP_GOAL = 0.3
TRAIN_GOAL = 5.0
TO_FIRST_ITERATION = """
import os, sys, time
import torch
import salakseg
from salakseg.model.generator import create_generator
create_generator(sys.argv[3], 6, "none")
from salakseg.training.step import Step
def begins(*arguments):
    print("began", time.perf_counter() - called, flush=True)
    os._exit(0)
Step.__call__ = begins
called = time.perf_counter()
salakseg.train(shards_dir=sys.argv[1], checkpoint_dir=sys.argv[2], generator=sys.argv[3],
               encoder_weights="none", overwrite=True, wandb_mode="disabled")
"""


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--generator", default=REALISTIC)
    options = parser.parse_args()
    console.quiet = True
    words: list[list[str]] = [["--help"], ["index", "--help"]]
    python, *answers = take_turns(
        [
            lambda: run("-c", "pass"),
            *(lambda line=line: run("-m", "salakseg", *line) for line in words),
        ],
        options.turns,
    )
    for line, taken in zip(words, answers, strict=True):
        report(
            f"start: `salakseg {' '.join(line)}`, seconds over the goal of {HELP_GOAL} s",
            f"{statistics.median(taken):.2f} s",
            f"python alone: {statistics.median(python):.2f} s",
            [seconds / HELP_GOAL for seconds in taken],
            at_most=1,
        )
        before = os.times()
        run("-m", "salakseg", *line)
        used = os.times()
        # Windows does not say; a busy machine takes longer, with the same work.
        work = used.children_user + used.children_system
        work -= before.children_user + before.children_system
        print(f"of these it computes for {work:.2f} s")
    with tempfile.TemporaryDirectory() as temporary:
        shards = pack_samples(Path(temporary))
        turns = max(1, options.turns // 2)
        begun = [first_iteration(shards, options.generator) for _ in range(turns)]
    report(
        f"start: `salakseg train` to its first iteration, {options.generator}, beyond torch and "
        f"weights, seconds over the goal of {TRAIN_GOAL:g} s",
        f"{statistics.median(begun):.2f} s",
        "",
        [seconds / TRAIN_GOAL for seconds in begun],
        at_most=1,
    )


def run(*words: str) -> str:
    """What a new Python prints."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def first_iteration(shards: Path, generator: str) -> float:
    """Seconds from the call of `train` to its first iteration, in a new process."""
    said = run("-c", TO_FIRST_ITERATION, str(shards), str(shards.parent / "run"), generator)
    return float(next(line for line in said.splitlines() if line.startswith("began")).split()[1])


if __name__ == "__main__":
    main()
