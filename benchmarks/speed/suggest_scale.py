"""Ranking the photographs of the real data set's size: time and peak memory.

    python benchmarks/speed/suggest_scale.py

Makes up half-precision features of 370,647 patches of 1,500 photographs (each photograph is a
mixture of a few of 400 kinds of ground), 12,856 of them labelled, on disk as `suggest` keeps them,
and times ranking, coverage and distances. What a network takes to make such features comes on top.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from salakseg.suggestion.embed import Features
from salakseg.suggestion.far import far_from_labelled
from salakseg.suggestion.ranking import even_weights, measure, rank, units_of

KINDS = 400
CHUNK = 10_000


def make_up(path: Path, patches: int, photos: int, labelled: int, size: int) -> Features:
    """Features of photographs of equal size; the first ones are labelled."""
    random = np.random.default_rng(0)
    photo = np.sort(np.arange(patches) % photos)
    kinds = random.normal(size=(KINDS, size)).astype(np.float32)
    of_photo = random.integers(KINDS, size=(photos, 6))
    with open(path, "wb") as file:
        for start in range(0, patches, CHUNK):
            part = photo[start : start + CHUNK]
            kind = of_photo[part, random.integers(6, size=len(part))]
            noise = random.normal(scale=0.7, size=(len(part), size)).astype(np.float32)
            file.write((kinds[kind] + noise).astype(np.float16).tobytes())
    names = pd.DataFrame(
        {
            "folder": "flight",
            "base_image": pd.Series(photo).map("DJI_{:04d}".format),
            "split": np.where(np.arange(patches) < labelled, "train", "unlabeled"),
        }
    )
    values = np.memmap(path, np.float16, "r", shape=(patches, size))
    return Features(names, values, size)


def main() -> None:
    """Parse, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=370_647)
    parser.add_argument("--photos", type=int, default=1500)
    parser.add_argument("--labelled", type=int, default=12_856)
    parser.add_argument("--features", type=int, default=472, help="of EfficientNet-Lite0")
    parser.add_argument("--count", type=int, default=10)
    options = parser.parse_args()

    def tell(what: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KB, on Linux
        print(
            f"{what}: {time.monotonic() - began:.0f} s, {time.process_time() - worked:.0f} s of "
            f"CPU, peak memory {peak:.0f} MB",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        features = make_up(
            Path(folder) / "features.f16",
            options.patches,
            options.photos,
            options.labelled,
            options.features,
        )
        began, worked = time.monotonic(), time.process_time()
        tell("before")
        units = units_of(features.patches, "base")
        even = even_weights(features.patches, "base")
        ranked = rank(features, units, even, options.count, 60)
        tell("ranked")
        curve, _, _ = measure(features, ranked, options.count, even, even)
        tell("coverage measured")
        far_from_labelled(features)
        tell("distances")
        drawn = rank(features, units, even, options.count, options.count, "random")
        random, _, _ = measure(features, drawn, options.count, even, even)
    print(
        f"coverage {curve[0]:.3f} today, {curve[options.count]:.3f} with {options.count} "
        f"suggested, {random[-1]:.3f} with random ones"
    )


if __name__ == "__main__":
    main()
