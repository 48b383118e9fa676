"""What a save costs a training: processor seconds of the loop and of the thread that writes.

    python benchmarks/speed/save_cost.py

Runs S4GAN iterations of the default network (random weights, 128-pixel test samples) with and
without a save of the whole family of files in turn, and prints the extra time of a save as a share
of the 100 iterations between two saves. Waiting for the disk costs no processor, and no iteration.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from salakseg.data.shards import read_shards
from salakseg.data.stream import TrainingStream
from salakseg.device import autocast_dtype, select_device
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR
from salakseg.model.weights import Model
from salakseg.training.checkpoint import LATEST, checkpoint_file, model_files
from salakseg.training.options import S4GAN, Recipe
from salakseg.training.saver import Saver
from salakseg.training.step import Step

sys.path.append(str(Path(__file__).parents[1]))
from claims import report
from samples import pack_samples

SAVE_EVERY = 100


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default=DEFAULT_GENERATOR)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        shards = read_shards(pack_samples(work))
        device = select_device(options.device)
        recipe = Recipe(S4GAN, 1000, 1e-3, None, 1.0, 0.1, 0, False)
        step = Step(
            create_generator(options.generator, shards.mapping.num_classes, "none"),
            shards.mapping.num_classes,
            recipe,
            device,
            autocast_dtype(device, None),
        )
        size = options.batch_size
        batches = iter(TrainingStream(shards, size, seed=0, unlabeled_batch_size=size))
        model = Model(step.teacher, shards.mapping)

        def iterate(iteration: int, save: bool, saver: Saver) -> float:
            batch = next(batches)
            began = time.process_time()
            if save:
                files = model_files(work, "latest", model, step.discriminator)
                saver.save(files | checkpoint_file(work / LATEST, step.state_dict()))
            step(iteration, *batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            saver.wait()  # what it writes beside the iteration counts in full
            return time.process_time() - began

        with Saver() as saver:
            for iteration in (1, 2):
                iterate(iteration, iteration == 2, saver)
            plain, saved = [], []
            for pair in range(options.rounds):
                plain.append(iterate(3 + 2 * pair, False, saver))
                saved.append(iterate(4 + 2 * pair, True, saver))
        extra = [with_save - without for with_save, without in zip(saved, plain, strict=True)]
        print(f"extra a save: {min(extra):.3f} to {max(extra):.3f} s")
        report(
            f"train: a save every {SAVE_EVERY} iterations, share of the loop, {options.generator}",
            f"{statistics.median(saved):.2f} s of CPU with a save",
            f"{statistics.median(plain):.2f} s without",
            [one / (SAVE_EVERY * statistics.median(plain)) for one in extra],
            at_most=0.003,
        )


if __name__ == "__main__":
    main()
