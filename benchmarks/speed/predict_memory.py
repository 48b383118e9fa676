"""Peak memory of a prediction at 1, 10 and 100 times the pixels, and that a killed one goes on.

    python benchmarks/speed/predict_memory.py [PHOTOS]

Makes orthomosaics by laying photographs (the tests' samples, or those in PHOTOS) side by side,
predicts each with `tiny` in a process of its own, and prints its peak resident memory and speed.
The largest is killed at about 80 % and started again.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

from salakseg.classes import packaged_class_mapping
from salakseg.imagery.photo import IMAGE_SUFFIXES, read_photo
from salakseg.model.names import TINY_GENERATOR

sys.path.append(str(Path(__file__).parents[1]))
from samples import CRS, SAMPLES, make_mosaic, random_model

PREDICT = """
import resource, sys
import torch
from salakseg import predict
from salakseg.mapping import scratch
torch.set_num_threads(1)
save = scratch.Scratch._save
def saved(self, *arguments):
    save(self, *arguments)
    print("saved", self.pixels, flush=True)
scratch.Scratch._save = saved
predict([sys.argv[1]], model=sys.argv[2], out=sys.argv[3], device=sys.argv[4])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?", default=SAMPLES / "images")
    parser.add_argument("--side", type=int, default=2000, help="of the smallest, in pixels")
    parser.add_argument("--crs", choices=list(CRS), default="utm")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    photos = [
        read_photo(path)
        for path in sorted(options.photos.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        random_model(work / "tiny.pth", TINY_GENERATOR, packaged_class_mapping())
        print("factor      pixels   seconds  Mpx/s  peak RSS")
        for factor in (1, 10, 100):
            side = round(options.side * factor**0.5)
            path = work / f"mosaic_{factor}.tif"
            make_mosaic(path, photos, side, options.crs)
            begin = time.perf_counter()
            peak = predict(path, work, options.device, 0)
            seconds = time.perf_counter() - begin
            print(
                f"{factor:>6} {side:>5} × {side:<5} {seconds:>8.0f} "
                f"{side**2 / seconds / 1e6:>6.1f} {peak / 1024:>6.0f} MB",
                flush=True,
            )
        (work / "killed").mkdir()
        stopped = predict(path, work / "killed", options.device, round(0.8 * side**2))
        print(f"killed after {stopped / side**2:.0%} of the pixels were saved")
        begin = time.perf_counter()
        predict(path, work / "killed", options.device, 0)
        print(f"the rest took {time.perf_counter() - begin:.0f} s")
        name = f"{path.stem}_classes.tif"
        print("same map:", same(work / "maps" / name, work / "killed" / "maps" / name))


def predict(image: Path, work: Path, device: str, kill_at: int) -> int:
    """Predict in another process: its peak memory in KB; or the pixels saved when it was killed."""
    model = next(folder for folder in (work, work.parent) if (folder / "tiny.pth").exists())
    arguments = [image, model / "tiny.pth", work / "maps", device]
    with subprocess.Popen(
        [sys.executable, "-c", PREDICT, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.fullmatch(r"(saved|peak) (\d+)\n", line)
            if found is None:
                continue
            if found[1] == "peak":
                return int(found[2])
            if kill_at and int(found[2]) >= kill_at:
                process.kill()
                return int(found[2])
    raise RuntimeError(f"the prediction of {image} ended without its peak")


def same(one: Path, other: Path) -> bool:
    """Whether two rasters hold the same values."""
    with rasterio.open(one) as a, rasterio.open(other) as b:
        return all(
            np.array_equal(a.read(window=window), b.read(window=window))
            for _, window in a.block_windows()
        )


if __name__ == "__main__":
    main()
