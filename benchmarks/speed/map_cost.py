"""What a map costs, and how much of that is not the network: here and in another tree, in turns.

    python benchmarks/speed/map_cost.py [TREE] [--side 10000] [--polygons] [--generator tiny]

Each turn is `predict` of an orthomosaic, from the GeoTIFF to all files, in a process of its own on
one core: `TREE` is a checkout of another commit, such as `git worktree add` makes. Seconds of the
processor are told, which suffer less than the clock's from what else the machine does; with
`--threads 2` the clock's, on two cores. Random weights, or those of `--model`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
ROOT = Path(__file__).resolve().parents[2]
# Only what other commits have as well.
TURN = """
import json, resource, sys, time
import torch
import salakseg
from salakseg.console import console
from salakseg.model.generator import Generator
image, model, out, threads, polygons = sys.argv[1:]
torch.set_num_threads(int(threads))
console.quiet = True
forward, network = Generator.forward, 0.0
def timed(self, images):
    global network
    began = time.thread_time()
    try:
        return forward(self, images)
    finally:
        network += time.thread_time() - began
Generator.forward = timed
wall, began = time.perf_counter(), time.process_time()
salakseg.predict(
    [image], model=model, out=out, overwrite=True, device="cpu", polygons=polygons == "True"
)
wall, cpu = time.perf_counter() - wall, time.process_time() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([wall, cpu, network, peak]))
"""


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, help="another checkout")
    parser.add_argument("--side", type=int, default=10_000, help="of the orthomosaic, in pixels")
    parser.add_argument("--generator", default="tiny")
    parser.add_argument("--model", type=Path, help="a model file, in place of random weights")
    parser.add_argument("--photos", type=Path, help="a folder of what the orthomosaic is made of")
    parser.add_argument("--polygons", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    trees = [ROOT] if options.tree is None else [ROOT, options.tree.resolve()]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        mosaic, model = prepared(work, options)
        found: dict[Path, list[list[float]]] = {tree: [] for tree in trees}
        for _ in range(options.turns):
            for tree in trees:
                found[tree].append(turn(tree, mosaic, model, work, options))
    million = options.side**2 / 1e6
    print(
        "| tree | seconds | of the processor | of these the network | beside it, a megapixel | MB |"
    )
    print("|---|---|---|---|---|---|")
    for tree in trees:
        # The least of each: the rest is what else the machine did.
        wall, cpu, network, peak = map(min, zip(*found[tree], strict=True))
        beside = (cpu - network) / million
        print(
            f"| {tree.name} | {wall:.1f} | {cpu:.1f} | {network:.1f} | {beside:.3f} | {peak:.0f} |"
        )
    if options.tree is not None:
        for place, what in enumerate(("clock", "processor")):
            pairs = zip(found[trees[1]], found[ROOT], strict=True)
            times = statistics.median(other[place] / ours[place] for other, ours in pairs)
            print(f"{times:.2f} times as fast by the {what}")


def prepared(work: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """The orthomosaic and the model file."""
    from samples import SAMPLES, make_mosaic, random_model

    from salakseg.classes import packaged_class_mapping
    from salakseg.imagery.photo import read_photo

    folder = options.photos or SAMPLES / "images"
    make_mosaic(
        work / "mosaic.tif", [read_photo(path) for path in sorted(folder.iterdir())],
        options.side, "utm",
    )  # fmt: skip
    if options.model is not None:
        return work / "mosaic.tif", options.model.resolve()
    model = random_model(work / "model.pth", options.generator, packaged_class_mapping())
    return work / "mosaic.tif", model


def turn(
    tree: Path, mosaic: Path, model: Path, work: Path, options: argparse.Namespace
) -> list[float]:
    """Seconds by the clock and of the processor, those of the network, and the peak memory."""
    threads = str(options.threads)
    arguments = [mosaic, model, work / "maps", threads, options.polygons]
    done = subprocess.run(
        [sys.executable, "-c", TURN, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"predict fails in {tree}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
