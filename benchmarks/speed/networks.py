"""What an iteration and a map cost with each network: time, memory, parameters.

    python benchmarks/speed/networks.py [--generator NAME …] [--batch-size 4]

Each network in a process of its own, from random weights: an `s4gan` iteration on the test samples'
patches of 128 pixels, at the precision that `salakseg train` takes on this machine; a forward of
the same batch; and the most memory, of the GPU's tensors or of the process, without what the
programs take that any network needs.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from salakseg.data.augment import to_float
from salakseg.data.shards import read_shards
from salakseg.data.stream import TrainingStream
from salakseg.device import autocast_dtype, select_device
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR, SHORT_NAMES
from salakseg.training.options import S4GAN, Recipe
from salakseg.training.step import Step

sys.path.append(str(Path(__file__).parents[1]))
from samples import REALISTIC, pack_samples

WARM_UP = 2


def resident(device: torch.device) -> float:
    """The most MB so far: of the device's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(name: str, folder: Path, batch_size: int, turns: int) -> str:
    """A row of the table."""
    device = select_device("auto")
    torch.set_num_threads(1)
    shards = read_shards(folder)
    classes, dtype = shards.mapping.num_classes, autocast_dtype(device, None)
    before = resident(device)
    generator = create_generator(name, classes, "none")
    recipe = Recipe(S4GAN, 1000, 1e-3, None, 1.0, 0.1, 0, False)
    step = Step(generator, classes, recipe, device, dtype)
    stream = TrainingStream(shards, batch_size, seed=0, unlabeled_batch_size=batch_size)
    batches = iter(stream)
    # Of a CPU its own time: whatever else the machine does is not counted.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    taken, forward = [], []
    for iteration in range(1, WARM_UP + turns + 1):
        labeled, unlabeled = next(batches)
        images = to_float(labeled.to(device).images)
        began = clock()
        step(iteration, labeled, unlabeled)
        step.totals.tolist()  # waits for a GPU
        between = clock()
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            step.teacher(images).max().item()
        taken.append(between - began)
        forward.append(clock() - between)
    count = sum(p.numel() for p in generator.parameters()) / 1e6
    encoder = sum(p.numel() for p in generator.encoder_parameters()) / 1e6
    times = [1e3 * statistics.median(some[WARM_UP:]) for some in (taken, forward)]
    memory = resident(device) - before
    return (
        f"| `{name}` | {count:.1f} M ({encoder:.1f} M) | {times[0]:.0f} ms | {times[1]:.0f} ms "
        f"| {memory:.0f} MB | {generator.encoder_rate:.3g} |"
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--generator", nargs="+", default=[DEFAULT_GENERATOR, *SHORT_NAMES, REALISTIC]
    )
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pack_samples(Path(temporary))
        for name in options.generator:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(measure, (name, folder, options.batch_size, options.turns)))
    print("| network | parameters (encoder) | an iteration | a forward | memory | encoder's rate |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
