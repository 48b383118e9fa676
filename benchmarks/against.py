"""Is this tree faster than another commit, or slower? The same work with both, in turns.

    python benchmarks/against.py COMMIT [step step-fpn step-deeplab map masks shard] [--turns 5]

COMMIT is laid out by `git worktree` for as long as it takes. A turn is a new process of this file
with `PYTHONPATH` one tree, then the other; it does the work once to warm up and once by the clock.
So of `salakseg` only functions of its `__all__` are called, which other commits have as well:

- `step`: a training of `tiny`, 100 iterations, from its start to its last file;
- `step-fpn`, `step-deeplab`: 20 iterations of an FPN on EfficientNet-Lite0, of the default network;
- `map`: `predict` of 4 megapixels with `tiny`;
- `masks`: `index`, for the first time, of 800 patches with a mask each;
- `shard`: packing these.

Prints medians and how many times as fast this tree is, turn by turn: above 1 is a gain. Seconds of
processors, of all processes of a side, suffer less from what else the machine does.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from claims import HEAD, ratios, report
from samples import REALISTIC, SAMPLES, draw_patches, make_mosaic, pack_samples

import salakseg

ROOT = Path(__file__).resolve().parents[1]
PATCHES, SIDE, STEPS = 800, 2000, 100
SAID = "took "


def trained(work: Path, shards: Path, steps: int, generator: str = "tiny") -> Path:
    """A folder with a finished training."""
    salakseg.train(
        shards_dir=shards,
        checkpoint_dir=work / "run",
        generator=generator,
        encoder_weights="none",
        num_steps=steps,
        batch_size=4,
        device="cpu",
        overwrite=True,
        wandb_mode="disabled",
    )
    return work / "run"


def step(work: Path, steps: int = STEPS, generator: str = "tiny") -> Callable[[], object]:
    """Training."""
    shards = pack_samples(work)
    return lambda: trained(work, shards, steps, generator)


def map_(work: Path) -> Callable[[], object]:
    """Mapping, from a GeoTIFF to all files of its map."""
    import numpy as np
    from PIL import Image

    model = trained(work, pack_samples(work), 1) / "final_model.pth"
    photos = [np.array(Image.open(path)) for path in sorted((SAMPLES / "images").iterdir())]
    make_mosaic(work / "mosaic.tif", photos, SIDE, "utm")
    return lambda: salakseg.predict(
        [work / "mosaic.tif"], model=model, out=work / "maps", device="cpu", overwrite=True
    )


def masks(work: Path) -> Callable[[], object]:
    """Reading masks: nothing is remembered of the time before."""
    draw_patches(work / "DATA", PATCHES, labelled=1)

    def index() -> None:
        shutil.rmtree(work / "index", ignore_errors=True)
        salakseg.index(work / "DATA", out=work / "index", split_file=work / "DATA" / "split.csv")

    return index


def shard(work: Path) -> Callable[[], object]:
    """Packing."""
    masks(work)()

    def pack() -> None:
        shutil.rmtree(work / "shards", ignore_errors=True)
        salakseg.shard(index_dir=work / "index", out=work / "shards")

    return pack


WORKS = {
    "step": step,
    "step-fpn": partial(step, steps=20, generator=REALISTIC),
    "step-deeplab": partial(step, steps=20, generator="deeplabv3plus-resnet50"),
    "map": map_,
    "masks": masks,
    "shard": shard,
}


def one_turn(name: str) -> None:
    """Print wall and processor seconds of a piece of work, the second time."""
    with tempfile.TemporaryDirectory() as temporary:
        work = WORKS[name](Path(temporary))
        work()
        before, began = os.times(), time.perf_counter()
        work()
        wall, after = time.perf_counter() - began, os.times()
    # The first four: of this process and of its workers that ended, as program and as system.
    print(f"{SAID}{wall} {sum(after[:4]) - sum(before[:4])}", flush=True)


def turn(tree: Path, name: str) -> tuple[float, ...]:
    """Wall and processor seconds with the `salakseg` of a tree."""
    command = [sys.executable, __file__, str(tree), name, "--one"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} fails in {tree}:\n{done.stderr[-2000:]}")
    line = next(one for one in done.stdout.splitlines() if one.startswith(SAID))
    return tuple(map(float, line.removeprefix(SAID).split()))


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("names", nargs="*", choices=[[], *WORKS], metavar="NAME")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        assert Path(salakseg.__file__).is_relative_to(options.commit), salakseg.__file__
        one_turn(options.names[0])
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as temporary:
        other = Path(temporary).resolve() / "other"
        subprocess.run([*git, "add", "--quiet", "--detach", other, options.commit], check=True)
        try:
            print(HEAD.replace("other", options.commit))
            for name in options.names or WORKS:
                sides: tuple[list[tuple[float, ...]], ...] = ([], [])
                for _ in range(options.turns):
                    for tree, taken in zip((ROOT, other), sides, strict=True):
                        taken.append(turn(tree, name))
                for number, unit in enumerate(("s", "s of CPU")):
                    ours, theirs = ([one[number] for one in side] for side in sides)
                    report(
                        name,
                        f"{statistics.median(ours):.2f} {unit}",
                        f"{statistics.median(theirs):.2f} {unit}",
                        ratios(theirs, ours),
                    )
        finally:
            subprocess.run([*git, "remove", "--force", other], check=True)


if __name__ == "__main__":
    main()
