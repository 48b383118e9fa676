"""Peak memory of a prediction at 1, 10 and 100 times the pixels, and that a killed one goes on.

    python benchmarks/predict_memory.py [PHOTOS]

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
from affine import Affine
from rasterio.windows import Window
from samples import SAMPLES, random_model

from salakseg.classes import packaged_class_mapping
from salakseg.imagery.photo import IMAGE_SUFFIXES, read_photo
from salakseg.model.names import TINY_GENERATOR

TILE = 512
CRS = {
    "utm": ("EPSG:32749", Affine(0.1, 0, 434_000, 0, -0.1, 9_160_000)),
    "degrees": ("EPSG:4326", Affine(1e-6, 0, 110.4, 0, -1e-6, -7.6)),
}
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


def make_mosaic(path: Path, photos: list[np.ndarray], side: int, crs: str) -> None:
    """A tiled GeoTIFF of side × side pixels, of pieces of the photographs in turn."""
    name, transform = CRS[crs]
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=name,
        transform=transform, tiled=True, blockxsize=TILE, blockysize=TILE, compress="lzw",
        photometric="rgb", bigtiff="IF_SAFER",
    ) as raster:  # fmt: skip
        for row in range(0, side, TILE):
            for column in range(0, side, TILE):
                photo = photos[rng.integers(len(photos))]
                repeats = [-(-TILE // length) for length in photo.shape[:2]]
                piece = np.tile(photo, (*repeats, 1))[: side - row, : side - column][:TILE, :TILE]
                raster.write(
                    np.moveaxis(piece, 2, 0),
                    window=Window(column, row, piece.shape[1], piece.shape[0]),
                )


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
