"""Claims: shards behind a URL cost what the link costs the first time, and nothing after it.

    python benchmarks/speed/remote_stream.py [--patches N]

Packs N patches of 256 pixels and serves them on loopback, from another process: each answer comes
after 50 ms, at 200 Mbit/s a connection. Measured, in turns:

- cold: seconds until all is here, nothing in the cache, while `TrainingStream` reads and decodes an
  epoch, against the same bytes as fast as the link gives them to as many connections;
- cached: seconds of processor of an epoch from the URL, all in the cache, against the folder.

The first batch waits for nearly all of the first window (1 GB, here the whole set): a set is mixed
so. For reference, how long the whole cold epoch takes; and how long in windows of 64 MB, some of
which are decoded while others come, as in a set of many gigabytes.

Then, counted and not timed, what an epoch of 37 GB (370,000 patches, 145 tars of 256 MB) fetches:
whole tars against blocks, and with a cache of half of it, the longest unused let go first against
what is needed last.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import salakseg
from salakseg.data import order, remote_tars
from salakseg.data.order import BLOCK_BYTES, WINDOW_BYTES, Order, blocks_of
from salakseg.data.remote_tars import Course
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import TrainingStream

sys.path.append(str(Path(__file__).parents[1]))
from claims import ratios, report, seconds
from samples import draw_patches

BATCH, TURNS = 16, 3
SMALL_WINDOW = 64_000_000
LATENCY, RATE = 0.05, 25e6  # seconds, bytes a second
SERVE = """
import sys, time
from pathlib import Path
from tests.servers import http_server
with http_server(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def epoch(shards: Shards, workers: int) -> None:
    """Every labelled patch once, decoded."""
    stream = TrainingStream(shards, BATCH, seed=0, num_workers=workers)
    for _ in islice(stream, len(shards.split("train")) // BATCH):
        pass


def processor(shards: Shards, workers: int) -> float:
    """Seconds of processor of an epoch."""
    began = time.process_time()
    epoch(shards, workers)
    return time.process_time() - began


def of_a_link(shards: Shards, connections: int) -> float:
    """Seconds that the blocks take at the link's pace, each by the first free connection."""
    assert shards.tars is not None
    free = [0.0] * connections
    for block in shards.tars._blocks:
        free[int(np.argmin(free))] += LATENCY + (block.end - block.start) / RATE
    return max(free)


def stream(patches: int, workers: int, connections: int) -> None:
    """The rows that are timed."""
    remote_tars.CONNECTIONS = connections
    with tempfile.TemporaryDirectory() as temporary:
        data, index, out, cache = (
            Path(temporary, name) for name in ("DATA", "index", "shards", "cache")
        )
        draw_patches(data, patches, labelled=1)
        salakseg.index(data, out=index, split_file=data / "split.csv")
        salakseg.shard(index_dir=index, out=out)
        command = [sys.executable, "-c", SERVE, str(out), str(LATENCY), str(RATE)]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as server:
            assert server.stdout is not None and server.stdin is not None
            url = server.stdout.readline().strip()
            local = read_shards(out)
            cold, whole, link = [], [], []
            for _ in range(TURNS):
                shutil.rmtree(cache, ignore_errors=True)
                far = read_shards(url, cache)
                began = time.time()
                whole.append(seconds(lambda: epoch(far, workers)))  # noqa: B023
                cold.append(max(path.stat().st_ctime for path in cache.glob("*-*-*")) - began)
                link.append(of_a_link(far, connections))
            size = sum(path.stat().st_size for path in out.glob("*.tar")) / 1e6
            report(
                f"cold: {size:.0f} MB, {connections} connections, against the link",
                f"{np.median(cold):.2f} s",
                f"{link[0]:.2f} s",
                ratios(link, cold),
                at_least=0.9,
            )
            report(
                "the same, until all is decoded too",
                f"{np.median(whole):.2f} s",
                f"{link[0]:.2f} s",
                ratios(link, whole),
            )
            large = order.WINDOW_BYTES
            order.WINDOW_BYTES = SMALL_WINDOW
            windows = []
            for _ in range(TURNS):
                shutil.rmtree(cache, ignore_errors=True)
                far = read_shards(url, cache)
                windows.append(seconds(lambda: epoch(far, workers)))  # noqa: B023
            order.WINDOW_BYTES = large
            report(
                "the same in windows of 64 MB",
                f"{np.median(windows):.2f} s",
                f"{link[0]:.2f} s",
                ratios(link, windows),
            )
            # As a new process has it each time.
            ours, theirs = [], []
            for _ in range(TURNS):
                ours.append(processor(read_shards(url, cache), workers))
                theirs.append(processor(local, workers))
            report(
                "cached, against the folder, seconds of processor",
                f"{np.median(ours):.2f} s",
                f"{np.median(theirs):.2f} s",
                ratios(theirs, ours),
                at_least=0.98,
            )
            server.stdin.close()


def count(patches: int, size: int, tar_bytes: int) -> None:
    """Print what is fetched, by whole tars and by blocks."""
    place = np.arange(patches) * size
    samples = pd.DataFrame({"shard": place // tar_bytes, "image_offset": place % tar_bytes})
    blocks = blocks_of(samples)
    order = Order(blocks, np.full(patches, size), 0, "unlabeled")
    tar_of = np.zeros(blocks.max() + 1, np.int64)
    tar_of[blocks] = samples.shard
    total = patches * size
    window = (WINDOW_BYTES - BLOCK_BYTES) // size
    for what, rows in (("batch", BATCH), ("window", window)):
        first = np.unique(blocks[order.epoch(0)[:rows]])
        tars = len(np.unique(tar_of[first]))
        print(
            f"before the first {what}: {len(first) * total / len(tar_of) / 1e9:.2f} GB in blocks, "
            f"{tars * tar_bytes / 1e9:.2f} GB in tars"
        )
    for share in (0.5, 0.25):
        room = share * total
        line = f"a cache of {share:.0%} of the set, an epoch: "
        line += (
            f"{_unused_longest(order, tar_of[blocks], tar_bytes, room, window):.0f} GB in tars, "
        )
        block_bytes = total / len(tar_of)
        line += f"{_unused_longest(order, blocks, block_bytes, room, window):.0f} GB in blocks, "
        line += f"{_needed_last(order, blocks, block_bytes, room):.0f} GB by what is needed last"
        print(line)


def _unused_longest(
    order: Order, parts: np.ndarray, size: float, room: float, window: int
) -> float:
    """Gigabytes of the second epoch, letting go of what was not used for longest."""
    kept: OrderedDict[int, None] = OrderedDict()
    fetched = 0.0
    for number in range(2):
        fetched = 0.0
        rows = parts[order.epoch(number)]
        for begin in range(0, len(rows), window):
            needed = np.unique(rows[begin : begin + window]).tolist()
            for part in needed:
                if part not in kept:
                    fetched += size
                kept[part] = None
                kept.move_to_end(part)
                if len(kept) * size > room:
                    kept.popitem(last=False)
    return fetched / 1e9


def _needed_last(order: Order, blocks: np.ndarray, size: float, room: float) -> float:
    """Gigabytes of the second epoch, letting go of what is needed last."""
    course = Course(lambda number: blocks[order.epoch(number)], 0)
    kept: set[int] = set()
    fetched = 0.0
    for position, block in course.coming:
        if position >= 2 * len(blocks):
            return fetched / 1e9
        if block in kept:
            continue
        if position >= len(blocks):
            fetched += size
        if (len(kept) + 1) * size > room:
            course.advance(position, position)
            soonest = np.full(blocks.max() + 1, np.inf)
            course.next_uses(soonest)
            by_need = sorted(kept, key=lambda one: soonest[one])
            kept.difference_update(by_need[-max(1, len(kept) // 50) :])
        kept.add(block)
    raise AssertionError("a course has no end")


def main() -> None:
    """Pack, serve, read; count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for connections in options.connections:
        stream(options.patches, options.workers, connections)
    count(370_000, 100_000, 256_000_000)


if __name__ == "__main__":
    main()
