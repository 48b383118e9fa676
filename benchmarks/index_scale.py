"""Claim: `index` stays usable at the size of the Salak data, and lists it as fast as the disk does.

Draws a tree of small PNG files in the Salak layout (370,647 images, 12,856 masks, or `--images N`
in the same proportions), indexes it in a process of its own and prints the time, the peak memory,
and the listing's time as a ratio to a bare recursive `os.scandir` of the same tree (limit: 1.5).
Needs about 1.6 GB of disk at full size, for a while.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from salakseg.classes import packaged_class_mapping, read_class_mapping
from salakseg.data.folders import find_folders

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
END_CHUNK = 12  # bytes of a PNG's last chunk

INDEX = """
import sys, time
from pathlib import Path
from salakseg import index
if __name__ == "__main__":
    start = time.perf_counter()
    index(Path(sys.argv[1]), out=Path(sys.argv[2]))
    print(f"index: {time.perf_counter() - start:.1f} s")
    try:
        import resource
    except ImportError:  # Windows
        print("peak memory: not known on this system")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"peak memory of the main process: {peak / 1024:.0f} MB")
"""


def draw_tree(data: Path, images: int) -> None:
    """Write the tree; every image has bytes of its own, as photographs have."""
    mapping = read_class_mapping(packaged_class_mapping())
    blank = png(np.full((256, 256, 3), 90, np.uint8))
    stripes = [np.roll(np.arange(256) * mapping.num_classes // 256, 40 * turn) for turn in range(5)]
    masks = [png(np.broadcast_to(mapping.palette[row], (256, 256, 3))) for row in stripes]
    share = images / sum(count for count, _ in SALAK.values())
    for folder, (image_count, mask_count) in SALAK.items():
        for name in ("images", "masks") if mask_count else ("images",):
            (data / folder / name).mkdir(parents=True)
        for number in range(round(image_count * share)):
            base, place = divmod(number, ROWS * COLUMNS)
            row, column = divmod(place, COLUMNS)
            name = f"DJI_{base + 1:04d}_patch_{row:03d}_{column:03d}.png"
            note = f"tEXtComment\0{folder} {number}".encode()
            chunk = (len(note) - 4).to_bytes(4, "big") + note + zlib.crc32(note).to_bytes(4, "big")
            content = blank[:-END_CHUNK] + chunk + blank[-END_CHUNK:]
            (data / folder / "images" / name).write_bytes(content)
            if number < round(mask_count * share):
                (data / folder / "masks" / name).write_bytes(masks[base % len(masks)])


def png(pixels: np.ndarray) -> bytes:
    """An RGB picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def bare_listing(folder: str) -> int:
    """Count the files below `folder` with os.scandir and nothing else."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            count += bare_listing(entry.path) if entry.is_dir() else 1
    return count


def fastest(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Draw, list, index, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=sum(count for count, _ in SALAK.values()))
    parser.add_argument("--dir", type=Path, help="where the tree goes for a while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
        data = Path(temporary, "DATA")
        start = time.perf_counter()
        draw_tree(data, options.images)
        print(f"drew the tree in {time.perf_counter() - start:.0f} s", flush=True)
        bare = fastest(lambda: bare_listing(str(data)))
        listing = fastest(lambda: find_folders(data))
        print(f"listing: {listing:.2f} s, bare os.scandir: {bare:.2f} s", flush=True)
        print(f"ratio: {listing / bare:.2f} (limit 1.5)", flush=True)
        command = [sys.executable, "-c", INDEX, str(data), str(Path(temporary, "index"))]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
