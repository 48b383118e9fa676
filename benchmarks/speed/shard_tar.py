"""Claim: `shard`, with all its checks, packs at 0.8 of the speed of plain `tar` or faster.

    python benchmarks/speed/shard_tar.py [--patches N]

Cuts N patches of 256 pixels from the test samples' photographs (PNG, each with bytes of its own;
one in 25 has a mask), indexes them, and packs them with `shard` on all cores and with `tar cf` in
turn, on the same disk. Both sides begin with the files' pages dropped from memory where the system
lets a program do so, and both end when their bytes are on disk (fsync). A quarter of the patches
is packed before, for the memory.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import salakseg

sys.path.append(str(Path(__file__).parents[1]))
from claims import drop_pages, peak_memory, ratios, report, seconds
from samples import draw_patches

SHARD_MB = 64
TURNS = 3


def pack(index: Path, out: Path) -> None:
    """With all checks, on all cores."""
    salakseg.shard(index_dir=index, out=out, shard_size=SHARD_MB)


def plain_tar(data: Path, out: Path) -> None:
    """The same files, and on disk in the end as those of `shard` are."""
    subprocess.run(["tar", "cf", str(out), "-C", str(data), "images", "masks"], check=True)
    with open(out, "r+b") as file:
        os.fsync(file.fileno())


def measure(work: Path, count: int, turns: int) -> tuple[int, list[float], list[float]]:
    """Bytes of `count` patches, seconds of `shard` and of `tar` in each turn."""
    data, index, shards, tar = (work / name for name in ("DATA", "index", "shards", "plain.tar"))
    size = draw_patches(data, count)
    salakseg.index(data, out=index, split_file=data / "split.csv")
    if hasattr(os, "sync"):
        os.sync()  # only what is on disk can be dropped
    ours, others = [], []
    for _ in range(turns):
        drop_pages(data)
        ours.append(seconds(lambda: pack(index, shards)))
        shutil.rmtree(shards)
        if shutil.which("tar"):
            drop_pages(data)
            others.append(seconds(lambda: plain_tar(data, tar)))
            tar.unlink()
    return size, ours, others


def main() -> None:
    """Parse, pack, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=4000)
    parser.add_argument("--dir", type=Path, help="where everything goes for a while")
    options = parser.parse_args()
    if not hasattr(os, "posix_fadvise"):
        print("no posix_fadvise here: files are read from memory, so this compares processors")
    # Workers' memory counts once they have ended, and never falls: the smaller run comes first.
    for count, turns in ((options.patches // 4, 1), (options.patches, TURNS)):
        with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
            size, ours, others = measure(Path(temporary), count, turns)
        print(f"{count:,} patches: {statistics.median(ours):.1f} s, peak memory {peak_memory()}")
    if not others:
        print("no tar on this system: nothing to compare with")
        return
    report(
        f"packing {options.patches:,} patches ({size / 1e6:.0f} MB), tar's seconds / ours",
        f"{size / statistics.median(ours) / 1e6:.0f} MB/s",
        f"tar {size / statistics.median(others) / 1e6:.0f} MB/s",
        ratios(others, ours),
        at_least=0.8,
    )


if __name__ == "__main__":
    main()
