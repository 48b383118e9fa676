"""Seconds and peak memory of each stage at a real size, as a person runs them.

    python benchmarks/speed/real_size.py [--patches 120000] [--iterations 1000]

Draws that many patches of 256 pixels (PNG of aerial photographs, about 120 KB each, one in 25 with
a mask), every file with bytes of its own; then `index`, `shard`, `train` of `tiny` and `eval`, each
a process. The patches are removed once they are packed: the disk needs about 250 KB a patch.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1]))
from samples import draw_patches

EVERY = 0.2  # seconds from one look at the memory to the next


def stage(folder: Path, name: str, *words: str) -> None:
    """Run `salakseg NAME WORDS` in `folder`; print seconds, and the most that it and its workers
    had in memory together."""
    began, most = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "salakseg", name, *words], cwd=folder, stdout=subprocess.DEVNULL
    )
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        whole = psutil.Process(process.pid)
        while not ended.wait(EVERY):
            try:
                all_of_it = [whole, *whole.children(recursive=True)]
                most = max(most, sum(one.memory_info().rss for one in all_of_it))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"salakseg {name} ended with {code}")
    taken = time.perf_counter() - began
    print(f"| `{name}` | {taken:.0f} | {most / 1e6:.0f} MB |", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=120_000)
    parser.add_argument("--iterations", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        written = draw_patches(work / "data", options.patches)
        print(f"{options.patches} patches, {written / 1e9:.1f} GB")
        print("| stage | seconds | peak memory |\n|---|---|---|", flush=True)
        stage(work, "index", "data")
        stage(work, "shard")
        shutil.rmtree(work / "data")
        steps = str(options.iterations)
        stage(work, "train", "--generator", "tiny", "--encoder-weights", "none", "--no-wandb",
              "--num-steps", steps, "--eval-every", steps)  # fmt: skip
        stage(work, "eval", "best_model.pth")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"seconds of processor: {used.ru_utime + used.ru_stime:.0f}")


if __name__ == "__main__":
    main()
