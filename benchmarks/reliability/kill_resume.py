"""Kill a training at random moments, resume it, and compare the bits with an unbroken run's.

    python benchmarks/reliability/kill_resume.py --kills 50

Trains `tiny` on the test samples in processes of their own, with saves so frequent that many kills
fall into one, and prints a row a run: kills, and whether the final model, the best model and
log.csv are the unbroken run's, byte by byte.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from samples import pack_samples

COMPARED = ("final_model.pth", "final_model_D.pth", "best_model.pth", "log.csv")


def training(folder: Path, steps: int, workers: int, resume: bool) -> list[str]:
    """The command line of a run, or of going on with it."""
    command = [sys.executable, "-m", "salakseg", "train", "--checkpoint-dir", str(folder)]
    if resume:
        return [*command, "--resume", "--device", "cpu", "--num-workers", str(workers)]
    return [
        *command,
        *("--generator", "tiny", "--encoder-weights", "none", "--device", "cpu"),
        *("--num-steps", str(steps), "--batch-size", "2", "--num-workers", str(workers)),
        *("--eval-every", "40", "--save-latest-every", "3", "--save-pred-every", "100"),
    ]


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each compared file."""
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in COMPARED}


def broken_run(folder: Path, steps: int, workers: int, kills: int, longest: float) -> int:
    """Train with up to `kills` SIGKILLs; how many there were."""
    done = 0
    while True:
        resume = (folder / "latest_checkpoint.pth").exists()
        # A kill before the first save leaves nothing to go on from: that run begins again.
        command = training(folder, steps, workers, resume) + ([] if resume else ["--overwrite"])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            timeout = random.uniform(0.3, 0.6) * longest if done < kills else None
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
            continue
        if process.returncode != 0:
            raise SystemExit(f"a resumed run failed:\n{said.decode()}")
        return done


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        pack_samples(work)

        os.chdir(work)
        began = time.monotonic()
        subprocess.run(training(work / "whole", options.steps, 0, False), check=True)
        longest = time.monotonic() - began
        expected = hashes(work / "whole")
        print(f"{'run':>4} {'workers':>7} {'kills':>6}  same bytes")
        total, run = 0, 0
        while total < options.kills:
            run += 1
            workers = (run % 2) * 2
            folder = work / f"broken-{run}"
            kills = broken_run(
                folder, options.steps, workers, min(10, options.kills - total), longest
            )
            total += kills
            same = hashes(folder) == expected
            print(f"{run:>4} {workers:>7} {kills:>6}  {same}", flush=True)
            if not same:
                raise SystemExit(f"differs: {hashes(folder)} {expected}")
        print(f"{total} kills, {run} runs, every one with the unbroken run's bytes")


if __name__ == "__main__":
    main()
