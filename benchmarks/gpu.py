"""All that a GPU has to show, in one command and a set time, the most important first.

    python benchmarks/gpu.py [--minutes 8] [--out gpu.json]

1. right: `pytest -m cuda`, which holds bits, waits, memory;
2. fast: iterations a second of the published loop, `s4gan-paper`, `s4gan` and `supervised` at the
   guide's setting (256 pixels, batch 16), with and without determinism and `torch.compile`; the ten
   dearest kernels, launches an iteration, how long the card waits for the host, and whether the
   reader keeps up;
3. maps: megapixels a second of `predict`, and the network's share of it;
4. memory by batch size: what fits on which card.

Random weights: speed does not depend on them. Each row is printed and written as soon as it is
there, and what there was no time for is said; so it can be stopped. Needs torch, the packages of a
training, for the maps rasterio, shapely and pyogrio, and no network.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from salakseg.console import console
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import TrainingStream
from salakseg.device import autocast_dtype, select_device, set_determinism
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR, PAPER_GENERATOR
from salakseg.training.options import METHODS, S4GAN, Recipe
from salakseg.training.step import Step

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent / "speed"))
from published_step import Pairs, published_side, resized
from samples import SAMPLES, make_mosaic, pack_samples, random_model

ROOT = Path(__file__).parents[1]

BATCH_SIZES = (4, 8, 16, 24, 32)


class Day:
    """What was measured, kept in a file; and the time that is left."""

    def __init__(self, out: Path, minutes: float, device: torch.device) -> None:
        self.out, self.ends, self.device = out, time.monotonic() + 60 * minutes, device
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        self.rows: dict[str, Any] = {"card": card, "torch": torch.__version__}

    def note(self, name: str, value: Any) -> None:
        self.rows[name] = value
        print(f"| {name} | {value} |", flush=True)
        self.out.write_text(json.dumps(self.rows, indent=1, ensure_ascii=False), encoding="utf-8")

    def part(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        """Do it, if it may take so long; what fails is a row too, and not the end."""
        if time.monotonic() + seconds > self.ends:
            self.note(name, "no time left")
            return
        try:
            work()
        except Exception as error:
            self.note(name, f"failed: {type(error).__name__}: {str(error)[:300]}")
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], turns: int = 10) -> float:
        """Median seconds of a call, after three that are not measured."""
        taken = []
        for turn in range(-3, turns):
            began = time.perf_counter()
            work()
            self.wait()
            if turn >= 0:
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)


def right(day: Day) -> None:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "tests/test_cuda.py"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    day.note("tests on the GPU", "; ".join([*done.stdout.splitlines()[-1:], *lines]))


def our_step(
    day: Day, method: str, generator: str, classes: int, pairs: Pairs, compiled: bool = False
) -> Callable[[], object]:
    """An iteration a call, on pinned batches."""
    recipe = Recipe(method, 1000, 1e-3, None, 1.0, 0.1, 0, False)
    network = create_generator(generator, classes, "none")
    step = Step(network, classes, recipe, day.device, autocast_dtype(day.device, None))
    if compiled:
        for part in (step.generator.network, step.teacher.network, step.discriminator):
            if part is not None:
                part.compile()
    pinned = [
        tuple(one.pin_memory() if day.device.type == "cuda" else one for one in pair)
        for pair in pairs
    ]
    # In the middle of a run, where self-training has its full weight.
    turns = enumerate(itertools.cycle(pinned), start=500)

    def iterate() -> None:
        iteration, (labeled, unlabeled) = next(turns)
        step(iteration, labeled, unlabeled)

    return iterate


def iterations(day: Day, generator: str, classes: int, pairs: Pairs) -> None:
    """The published loop and ours, as they run by default."""
    network = create_generator(generator, classes, "none")
    published = day.seconds(published_side(deepcopy(network), classes, day.device, pairs))
    day.note(f"{generator}: published loop, it/s", round(1 / published, 2))
    for method in METHODS:
        set_determinism(True)
        ours = day.seconds(our_step(day, method, generator, classes, pairs))
        day.note(
            f"{generator}: {method}, it/s, times the published",
            [round(1 / ours, 2), round(published / ours, 2)],
        )


def variants(day: Day, generator: str, classes: int, pairs: Pairs) -> None:
    """What determinism costs, and what compiling brings, its warm-up apart."""
    for deterministic, compiled in ((False, False), (True, True), (False, True)):
        set_determinism(deterministic)
        iterate = our_step(day, S4GAN, generator, classes, pairs, compiled)
        began = time.perf_counter()
        iterate()
        day.wait()
        first = time.perf_counter() - began
        words = f"{'' if deterministic else 'not '}deterministic{', compiled' if compiled else ''}"
        taken = day.seconds(iterate)
        day.note(f"{generator}: s4gan {words}, it/s, first in s", [round(1 / taken, 2), first])


def kernels(day: Day, generator: str, classes: int, pairs: Pairs) -> None:
    """Where the card's time goes, and how much of it there is."""
    set_determinism(True)
    iterate = our_step(day, S4GAN, generator, classes, pairs)
    wall = day.seconds(iterate, 5)
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities[: 1 + (day.device.type == "cuda")]) as profiled:
        iterate()
        day.wait()
    of_card = [event for event in profiled.events() if event.device_type.name == "CUDA"]
    by_name: dict[str, float] = {}
    for event in of_card:
        by_name[event.name] = by_name.get(event.name, 0) + event.time_range.elapsed_us() / 1e3
    busy = sum(by_name.values()) / 1e3
    day.note("s4gan: launches an iteration", len(of_card))
    day.note("s4gan: share of an iteration that the card waits", round(1 - busy / wall, 3))
    dearest = sorted(by_name.items(), key=lambda item: -item[1])[:10]
    day.note("s4gan: dearest kernels, ms", [(name[:80], round(ms, 2)) for name, ms in dearest])


def reader(day: Day, shards: Shards, batch_size: int, generator: str, pairs: Pairs) -> None:
    """Whether batches are read as fast as they are used."""
    pinned = day.device.type == "cuda"
    stream = TrainingStream(
        shards,
        batch_size,
        seed=0,
        unlabeled_batch_size=batch_size,
        num_workers=4,
        pin_memory=pinned,
    )
    batches = iter(stream)
    reading = day.seconds(lambda: next(batches), 20)
    step = day.seconds(our_step(day, S4GAN, generator, shards.mapping.num_classes, pairs), 5)
    pixels = shards.patch_size**2 / pairs[0][0].images[0, 0].numel()
    day.note(
        "reading a batch with 4 threads, s; an iteration, s; patch of the file over the network's",
        [round(reading, 4), round(step, 4), round(pixels, 2)],
    )


def maps(day: Day, work: Path, generator: str, side: int) -> None:
    """`predict` of an orthomosaic, all files, and the network's share of its time."""
    import salakseg
    from salakseg.classes import packaged_class_mapping
    from salakseg.imagery.photo import read_photo
    from salakseg.model.weights import Model

    photos = [read_photo(path) for path in sorted((SAMPLES / "images").iterdir())]
    make_mosaic(work / "mosaic.tif", photos, side, "utm")
    model = random_model(work / "model.pth", generator, packaged_class_mapping())
    probabilities, inside = Model.probabilities, [0.0]

    def timed(self: Model, images: torch.Tensor, amp: bool | None = None) -> torch.Tensor:
        began = time.perf_counter()
        result = probabilities(self, images, amp)
        day.wait()
        inside[0] += time.perf_counter() - began
        return result

    def predict() -> None:
        salakseg.predict(
            [work / "mosaic.tif"],
            model=model,
            out=work / "maps",
            device=str(day.device),
            overwrite=True,
        )

    began = time.perf_counter()
    predict()
    taken = time.perf_counter() - began
    with mock.patch.object(Model, "probabilities", timed):
        predict()
    day.note(
        f"{generator}: map, megapixels/s, the network's share",
        [round(side**2 / 1e6 / taken, 2), round(inside[0] / taken, 2)],
    )


def memory(day: Day, generator: str, classes: int, shards: Shards, size: int) -> None:
    """The most that a training reserves, by batch size."""
    for batch_size in BATCH_SIZES:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(day.device)
        pairs = batches_of(shards, batch_size, size, 2)
        iterate = our_step(day, S4GAN, generator, classes, pairs)
        for _ in range(3):
            iterate()
        day.wait()
        reserved = torch.cuda.max_memory_reserved(day.device) / 2**30
        day.note(f"{generator}: batch size {batch_size}, GiB reserved", round(reserved, 2))


def batches_of(shards: Shards, batch_size: int, size: int, count: int) -> Pairs:
    """Labelled and unlabelled batches of patches of `size` pixels."""
    stream = TrainingStream(shards, batch_size, seed=0, unlabeled_batch_size=batch_size)
    pairs: Pairs = []
    for labeled, unlabeled in itertools.islice(stream, count):
        assert unlabeled is not None
        pairs.append((resized(labeled, size), resized(unlabeled, size)))
    return pairs


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--generators", nargs="+", default=[DEFAULT_GENERATOR, PAPER_GENERATOR])
    parser.add_argument("--side", type=int, default=10_000, help="of the orthomosaic, in pixels")
    options = parser.parse_args()
    device = select_device(options.device)
    day = Day(options.out, options.minutes, device)
    gpu = device.type == "cuda"
    first, *others = options.generators
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        console.quiet = True
        shards = read_shards(pack_samples(work))
        classes, size = shards.mapping.num_classes, options.patch_size
        pairs = batches_of(shards, options.batch_size, size, 4)
        if gpu:
            day.part("tests on the GPU", 120, lambda: right(day))
        day.part(first, 40, lambda: iterations(day, first, classes, pairs))
        day.part("kernels", 20, lambda: kernels(day, first, classes, pairs))
        day.part("reader", 20, lambda: reader(day, shards, options.batch_size, first, pairs))
        day.part("maps", 90, lambda: maps(day, work, first, options.side))
        for name in others:
            day.part(name, 40, lambda name=name: iterations(day, name, classes, pairs))
        if gpu:
            day.part("memory", 40, lambda: memory(day, first, classes, shards, size))
        day.part("variants", 150, lambda: variants(day, first, classes, pairs))


if __name__ == "__main__":
    main()
