"""Claims: `index` lists as fast as the disk does, reads masks about as fast as they can be decoded,
and a second run over unchanged files takes a fifth of the first.

    python benchmarks/speed/index_scale.py [--images N]

Draws a tree of small PNG files in the Salak layout (370,647 images and 12,856 masks, or N images in
the same proportions; masks are crops of the test samples'), and prints the ratios and the peak
memory. Before each run of `index` the files' pages are dropped from memory where the system lets a
program do so, as after a night or a copy; names and inodes stay. The full size needs about 1.6 GB
of disk for a while.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from salakseg.classes import read_class_mapping
from salakseg.data.folders import find_folders
from salakseg.data.index import index
from salakseg.data.mask_checks import MASKS_A_CHUNK, check_masks
from salakseg.data.workers import worker_processes

sys.path.append(str(Path(__file__).parents[1]))
from claims import drop_pages, peak_memory, ratios, report, seconds, take_turns
from samples import SAMPLES, png, with_note

# Folder → images, masks.
SALAK = {
    "salak-1-1": (5_273, 5_273),
    "salak-1-2": (59_136, 2_503),
    "salak-1-3": (40_506, 5_080),
    "salak-1-4": (88_578, 0),
    "salak-1-5": (88_577, 0),
    "salak-1-6": (88_577, 0),
}
ROWS, COLUMNS = 15, 22  # of a 5472×3648 photograph in patches of 256
SIZE = 256
TURNS = 3


def draw_tree(data: Path, images: int) -> None:
    """Write the tree; every image has bytes of its own, as photographs have."""
    blank = png(Image.new("RGB", (SIZE, SIZE), (90, 90, 90)))
    masks = []
    for path in sorted((SAMPLES / "masks").iterdir()):
        with Image.open(path) as mask:
            for left in range(0, mask.width - SIZE, 25):
                masks.append(png(mask.convert("RGB").crop((left, left, left + SIZE, left + SIZE))))
    data.mkdir(parents=True)
    shutil.copy(SAMPLES / "class_mapping.csv", data)
    share = images / sum(count for count, _ in SALAK.values())
    for folder, (image_count, mask_count) in SALAK.items():
        for name in ("images", "masks") if mask_count else ("images",):
            (data / folder / name).mkdir(parents=True)
        for number in range(round(image_count * share)):
            base, place = divmod(number, ROWS * COLUMNS)
            row, column = divmod(place, COLUMNS)
            name = f"DJI_{base + 1:04d}_patch_{row:03d}_{column:03d}.png"
            content = with_note(blank, f"{folder} {number}")
            (data / folder / "images" / name).write_bytes(content)
            if number < round(mask_count * share):
                (data / folder / "masks" / name).write_bytes(masks[number % len(masks)])


def bare_listing(folder: str) -> int:
    """Count the files below `folder` with os.scandir and nothing else."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += bare_listing(entry.path) if entry.is_dir() else 1
    return count


def decode_masks(root: str, names: Sequence[str]) -> list[int]:
    """Decode each mask and nothing else."""
    sizes = []
    for name in names:
        with Image.open(f"{root}/{name}") as mask:
            sizes.append(np.asarray(mask).size)
    return sizes


def main() -> None:
    """Draw, list, read, index twice, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=sum(count for count, _ in SALAK.values()))
    parser.add_argument("--dir", type=Path, help="where the tree goes for a while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
        data, out = Path(temporary, "DATA"), Path(temporary, "index")
        print(f"drew the tree in {seconds(lambda: draw_tree(data, options.images)):.0f} s")
        if hasattr(os, "sync"):
            os.sync()  # only what is on disk can be dropped
        if not hasattr(os, "posix_fadvise"):
            print("no posix_fadvise here: all files are read from memory")
        print(f"peak memory before: {peak_memory()}", flush=True)

        ours, bare = take_turns([lambda: find_folders(data), lambda: bare_listing(str(data))], 5)
        report(
            f"listing {options.images:,} images and their masks against os.scandir",
            f"{statistics.median(ours):.2f} s",
            f"{statistics.median(bare):.2f} s",
            ratios(ours, bare),
            at_most=1.5,
        )

        names = [path.relative_to(data).as_posix() for path in sorted(data.glob("*/masks/*"))]
        mapping = read_class_mapping(SAMPLES / "class_mapping.csv")
        sizes = [(name, SIZE, SIZE, "", 0) for name in names]
        # By the processor: other programs take no part in the ratio.
        with worker_processes(1) as pool:
            decode = partial(decode_masks, str(data))
            sides = (
                lambda: check_masks(pool, data, sizes, mapping),
                lambda: pool.map(decode, names, MASKS_A_CHUNK, "Decoding masks"),
            )
            ours, bare = [], []
            for _ in range(TURNS + 1):
                for side, taken in zip(sides, (ours, bare), strict=True):
                    began = time.process_time()
                    side()
                    taken.append(time.process_time() - began)
            ours, bare = ours[1:], bare[1:]
        report(
            f"reading {len(names):,} masks against decoding them, CPU",
            f"{1000 * statistics.median(ours) / len(names):.2f} ms a mask",
            f"{1000 * statistics.median(bare) / len(names):.2f} ms a mask",
            ratios(bare, ours),
            at_least=0.8,
        )

        first, second, warm = [], [], []
        for _ in range(TURNS):
            drop_pages(data)
            first.append(seconds(lambda: index(data, out=out, cache=False)))
            drop_pages(data)
            second.append(seconds(lambda: index(data, out=out)))
            warm.append(seconds(lambda: index(data, out=out, cache=False)))
        report(
            "a second index of unchanged files against the first, not in memory",
            f"{statistics.median(second):.1f} s",
            f"{statistics.median(first):.1f} s",
            ratios(second, first),
            at_most=0.2,
        )
        report(
            "the same, the first with all files in memory",
            f"{statistics.median(second):.1f} s",
            f"{statistics.median(warm):.1f} s",
            ratios(second, warm),
        )
        print(f"peak memory: {peak_memory()}")


if __name__ == "__main__":
    main()
