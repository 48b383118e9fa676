"""The whole way on the 56 aerial photographs of Dubai: what it scores, against the commonest class.

    python benchmarks/quality/dubai.py PATH/TO/dubai --generator tiny --encoder-weights none

`dubai` holds `images/`, `masks/`, `class_mapping.csv` and `protocol.csv` (`base_image,split`).
Writes into the working directory what the commands write, and prints validation mIoU beside that of
always answering the commonest class. `predictions/` then has the map of a validation photograph,
the picture in the README.
"""

import argparse
from pathlib import Path

import salakseg
from salakseg.evaluation.baseline import commonest_class


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dubai", type=Path)
    parser.add_argument("--protocol", default="protocol.csv")
    parser.add_argument("--method", default="s4gan")
    parser.add_argument("--generator", default="tiny")
    parser.add_argument("--encoder-weights", default="none")
    parser.add_argument("--num-steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    salakseg.patchify(options.dubai, out=Path("DATA"))
    salakseg.index(Path("DATA"), split_file=options.dubai / options.protocol)
    salakseg.shard()
    name = f"checkpoints-{options.method}-{options.seed}"
    salakseg.train(
        method=options.method,
        generator=options.generator,
        encoder_weights=options.encoder_weights,
        num_steps=options.num_steps,
        batch_size=options.batch_size,
        seed=options.seed,
        eval_every=100,
        checkpoint_dir=Path(name),
        overwrite=True,
    )
    result = salakseg.evaluate(Path(name) / "final_model.pth")
    photo = options.dubai / "images" / "tile8_part009.jpg"
    salakseg.predict([photo], model=Path(name) / "best_model.pth", overwrite=True)
    commonest, miou = commonest_class(Path("shards"))
    print(f"commonest class ({commonest}): {miou:.4f} mIoU")
    print(f"{options.method}, {options.num_steps} iterations: {result['miou']:.4f} mIoU")


if __name__ == "__main__":
    main()
