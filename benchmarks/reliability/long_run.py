"""Whether a long training grows: memory and open files of its process, early and at the end.

    python benchmarks/reliability/long_run.py

Trains `tiny` on the test samples in a process of its own, with evaluations, saves and log lines as
in a real run, looks at it twice a second, and prints one line: medians over the 1,000 iterations
after the warm-up and over the last 1,000. Needs psutil.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1]))
from samples import pack_samples

WARM_UP, SPAN = 500, 1000


def iteration_of(timing: Path) -> int:
    """The last iteration that a run's timing.csv tells of, 0 before there is one."""
    if not timing.exists():
        return 0
    first = timing.read_text(encoding="utf-8").splitlines()[-1].split(",")[0]
    return int(first) if first.isdigit() else 0


def open_files(process: psutil.Process) -> int:
    """File descriptors, or handles on Windows."""
    return process.num_handles() if sys.platform == "win32" else process.num_fds()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        shards = pack_samples(work)
        training = subprocess.Popen(
            [
                *(sys.executable, "-m", "salakseg", "train", "--generator", "tiny"),
                *("--encoder-weights", "none", "--batch-size", "2", "--no-wandb"),
                *("--num-steps", str(options.steps), "--keep-checkpoints", "2"),
                *("--num-workers", str(options.num_workers), "--device", options.device),
                *("--shards-dir", str(shards), "--checkpoint-dir", str(work / "run")),
            ]
        )
        process = psutil.Process(training.pid)
        early: list[tuple[int, int]] = []
        late: list[tuple[int, int]] = []
        while training.poll() is None:
            iteration = iteration_of(work / "run" / "timing.csv")
            try:
                reading = (process.memory_info().rss, open_files(process))
            except psutil.Error:  # it ended in between
                break
            if WARM_UP <= iteration < WARM_UP + SPAN:
                early.append(reading)
            if iteration >= options.steps - SPAN:
                late.append(reading)
            time.sleep(0.5)
        if training.wait() != 0:
            raise SystemExit("the training failed")
    (memory, files), (memory_late, files_late) = (
        [statistics.median(column) for column in zip(*readings, strict=True)]
        for readings in (early, late)
    )
    print(
        f"{options.steps} iterations: memory {memory / 2**20:.0f} MiB after {WARM_UP}, "
        f"{memory_late / 2**20:.0f} MiB at the end; open files {files:.0f}, then {files_late:.0f}"
    )


if __name__ == "__main__":
    main()
