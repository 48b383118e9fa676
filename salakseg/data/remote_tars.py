"""The tars of shards behind a URL: fetched block by block, ahead of need, and kept.

A block is what a range of 16 MB of a tar holds in whole samples, as in `data.order`: the order goes
through the tars by blocks, and some sixty of them, from as many tars, are in use at a time. Whole
tars would be sixteen times as much before the first batch, and again and again the same where the
set is larger than the cache. Each block is checked sample by sample, against the checksums of
samples.csv, before it is kept, and samples.csv itself by the SHA-256 in manifest.json.
"""

import heapq
import threading
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import lru_cache
from itertools import count
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.bucket import NO_RANGES, Bucket
from salakseg.data.block_cache import Block, BlockCache
from salakseg.data.local_tars import OpenFiles
from salakseg.data.order import WINDOW_BYTES, blocks_of
from salakseg.errors import InputError, WorkError

CONNECTIONS = 8
# Threads beside: what has come is checked and kept while the connection has the next block.
MORE_THREADS = 2
# Bytes of blocks that each stream has fetched beyond those that it reads from; and how much of a
# set has to fit: both streams read from a window while the next one comes.
AHEAD_BYTES = WINDOW_BYTES
NEEDED_BYTES = 4 * WINDOW_BYTES
# Seconds: without work a thread ends; who waits looks whether he is still to wait.
IDLE, LOOK = 10.0, 0.2
URGENT = -1.0
# Batches that other threads may be at, behind the last one that was asked for.
STILL_READ = 16

PLACE = ("offset", "bytes", "crc")

Rows = NDArray[np.int64]


class RemoteTars:
    """Reads at places in tars that are elsewhere; threads may share it.

    Args:
        bucket: where the tars are.
        tars: SHA-256 of each tar by its name.
        samples: of `Shards`, all of them.
        cache_dir, cache_size: of `BlockCache`.

    Raises:
        InputError, WorkError: as `BlockCache`.
    """

    def __init__(
        self,
        bucket: Bucket,
        tars: dict[str, str],
        samples: pd.DataFrame,
        cache_dir: Path | None,
        cache_size: float | None,
    ) -> None:
        self._bucket, self._files = bucket, OpenFiles()
        columns = [f"{part}_{what}" for part in ("image", "mask") for what in PLACE]
        places = samples[columns].to_numpy(np.int64).reshape(-1, 2, 3)
        number, shards = blocks_of(samples), samples.shard.to_numpy()
        order = np.argsort(number, kind="stable")
        self._shards: list[str] = []
        self._blocks: list[Block] = []
        self._places: list[Rows] = []  # (N, 3): offset, bytes and CRC of each file in the block
        # Number of a tar's first block, and where each of its blocks begins.
        self._starts: dict[str, tuple[int, list[int]]] = {}
        for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            files = places[rows].reshape(-1, 3)
            files = files[files[:, 1] > 0]  # a patch without a mask has one of no bytes
            shard = str(shards[rows[0]])
            span = Block(tars[shard], int(files[:, 0].min()), int(files[:, :2].sum(1).max()))
            self._starts.setdefault(shard, (len(self._blocks), []))[1].append(span.start)
            self._shards.append(shard)
            self._blocks.append(span)
            self._places.append(files)
        whole = sum(map(self._size, range(len(self._blocks))))
        self.cache = BlockCache(cache_dir, cache_size, min(whole, NEEDED_BYTES))
        self._paths = [str(self.cache.path(block)) for block in self._blocks]
        self._here: set[int] = set()
        # Of each reader that there is, by the names of its streams.
        self._courses: WeakKeyDictionary[object, dict[str, Course]] = WeakKeyDictionary()
        # What is being fetched or to be; `_queue` may have it twice, then more urgent.
        self._pending: dict[int, Future[None]] = {}
        self._queue: list[tuple[float, int]] = []
        self._threads, self._link = 0, threading.Semaphore(CONNECTIONS)
        self._turn = threading.Condition()

    def read_at(self, shard: str, offset: int, length: int, stopping: threading.Event) -> bytearray:
        """Bytes of a file in a tar, once its block is here.

        Args:
            stopping: set where nobody waits for them any more.

        Raises:
            InputError, WorkError: it cannot be had, as `Bucket.read`; it is another than before.
        """
        block = self._block_at(shard, offset)
        place = offset - self._blocks[block].start
        while True:
            if block not in self._here:
                self._bring(block, stopping)
            try:
                return self._files.read_at(self._paths[block], place, length)
            except FileNotFoundError:  # let go of meanwhile, by another process maybe
                self._here.discard(block)

    def renew(self, shard: str, offset: int) -> bool:
        """Throw away a block that is damaged here; True: it will be fetched again."""
        block = self._block_at(shard, offset)
        with self._turn:
            self._files.close(self._paths[block])
            self.cache.remove(self._blocks[block])
            self._here.discard(block)
        return True

    def follow(
        self,
        reader: object,
        name: str,
        shards: list[str],
        offsets: Rows,
        epoch: Callable[[int], Rows],
        start: int,
    ) -> None:
        """Fetch ahead for a reader.

        Args:
            reader, name: who, and which of its streams.
            shards, offsets: where each of its rows has its image.
            epoch: number of an epoch → rows in their turn; none where there is no such epoch.
            start: position at which it begins.
        """
        blocks = np.array(list(map(self._block_at, shards, offsets.tolist())), np.int64)
        with self._turn:
            course = Course(lambda number: blocks[epoch(number)], start)
            # An epoch at most: of a small set a gigabyte is many.
            whole = sum(self._size(block) for block in np.unique(blocks).tolist())
            course.most_ahead = min(AHEAD_BYTES, whole)
            self._courses.setdefault(reader, {})[name] = course
            self._fetch_ahead(course)

    def reached(self, reader: object, name: str, positions: Rows) -> None:
        """Tell how far a reader is: it asks for these positions of a stream now."""
        with self._turn:
            if (course := self._courses.get(reader, {}).get(name)) is not None and len(positions):
                course.advance(int(positions[0]), int(positions[-1]))
                self._fetch_ahead(course)

    def _block_at(self, shard: str, offset: int) -> int:
        first, starts = self._starts[shard]
        return first + bisect_right(starts, offset) - 1

    def _size(self, block: int) -> int:
        return self._blocks[block].end - self._blocks[block].start

    def _fetch_ahead(self, course: "Course") -> None:
        while course.bytes_ahead < course.most_ahead:
            position, block = next(course.coming, (0, None))
            if block is None:
                return
            course.expect(position, self._size(block))
            if block not in self._pending and not self.cache.holds(self._blocks[block]):
                self._want(block, (position - course.start) / course.rate)

    def _bring(self, block: int, stopping: threading.Event) -> None:
        if not self.cache.holds(self._blocks[block]):
            with self._turn:
                future = self._want(block, URGENT)
            while not wait([future], LOOK).done:
                if stopping.is_set():
                    raise WorkError(f"{self._bucket}: nobody waits for it any more")
            future.result()
        self._here.add(block)

    def _want(self, block: int, priority: float) -> Future[None]:
        """Queue a block; the lock is held."""
        future = self._pending.get(block)
        if future is None:
            future = self._pending[block] = Future()
        heapq.heappush(self._queue, (priority, block))
        if self._threads < CONNECTIONS + MORE_THREADS:
            self._threads += 1
            # Daemons: the program's end does not wait for the network.
            threading.Thread(target=self._work, name="fetcher", daemon=True).start()
        self._turn.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._turn:
                while not self._queue:
                    if not self._turn.wait(IDLE) and not self._queue:
                        self._threads -= 1
                        return
                _, block = heapq.heappop(self._queue)
                future = self._pending.get(block)
                if future is None or future.running():
                    continue
                future.set_running_or_notify_cancel()
            try:
                self._fetch(block)
            except BaseException as error:
                self._done(block).set_exception(error)
            else:
                self._done(block).set_result(None)

    def _done(self, block: int) -> Future[None]:
        with self._turn:
            return self._pending.pop(block)

    def _fetch(self, number: int) -> None:
        block, shard = self._blocks[number], self._shards[number]
        with self.cache.fetching(block):
            if self.cache.holds(block):  # by another process, meanwhile
                return
            for _ in range(2):  # the second time for what the way may have spoilt
                try:
                    with self._link:
                        content = self._bucket.read(shard, block.start, block.end)
                except FileNotFoundError as error:
                    raise InputError(f"{error.filename}: is gone; upload it again") from error
                if self._is_whole(number, content):
                    self.cache.put(block, content, self._next_uses)
                    return
        where = self._bucket.shown(shard)
        if len(content) > self._size(number):
            raise InputError(f"{where}: {NO_RANGES}")
        raise InputError(
            f"{where}: is not what manifest.json says; upload what salakseg shard wrote again, "
            "and start anew"
        )

    def _is_whole(self, number: int, content: bytes) -> bool:
        block, view = self._blocks[number], memoryview(content)
        if len(content) != self._size(number):
            return False
        return all(
            zlib.crc32(view[offset - block.start :][:length]) == crc
            for offset, length, crc in self._places[number].tolist()
        )

    def _next_uses(self) -> dict[str, float]:
        """How many batches off each block is needed again, by its name; those that are."""
        with self._turn:
            courses = [one for streams in self._courses.values() for one in streams.values()]
        soonest = np.full(len(self._blocks), np.inf)
        for course in courses:
            course.next_uses(soonest)
        known = np.flatnonzero(np.isfinite(soonest)).tolist()
        return {self._blocks[block].name: float(soonest[block]) for block in known}


class Course:
    """Which blocks a reader needs, in their turn.

    Args:
        epoch: number of an epoch → the block of each of its places, int64 (N,).
        start: position at which it begins.

    Attributes:
        coming: position and number of blocks in the order of their first use from `start` on.
        bytes_ahead: of blocks taken from `coming` that the reader has not come to.
        most_ahead: how many these may be.
        rate: positions a batch.
    """

    def __init__(self, epoch: Callable[[int], Rows], start: int) -> None:
        self._epoch = lru_cache(3)(epoch)
        self._length = max(1, len(epoch(0)))
        self.start = self._at = start
        self.rate, self.bytes_ahead, self.most_ahead = 1, 0, AHEAD_BYTES
        self._expected: deque[tuple[int, int]] = deque()
        self.coming = self._first_uses()

    def _first_uses(self) -> Iterator[tuple[int, int]]:
        begin = self.start % self._length
        for number in count(self.start // self._length):
            blocks = self._epoch(number)[begin:]
            if not len(blocks):
                return
            found, first = np.unique(blocks, return_index=True)
            for turn in np.argsort(first).tolist():
                yield number * self._length + begin + int(first[turn]), int(found[turn])
            begin = 0

    def expect(self, position: int, size: int) -> None:
        """Count a block as ahead until the reader is at `position`."""
        self._expected.append((position, size))
        self.bytes_ahead += size

    def advance(self, first: int, last: int) -> None:
        """The reader takes these positions now; threads may tell it out of turn."""
        self.rate, self._at = last - first + 1, max(self._at, first)
        while self._expected and self._expected[0][0] <= last:
            self.bytes_ahead -= self._expected.popleft()[1]

    def next_uses(self, soonest: NDArray[np.float64]) -> None:
        """Lower each block's number of batches until it is needed to what it is here."""
        number, place = divmod(max(self._at - STILL_READ * self.rate, 0), self._length)
        passed = -place
        for blocks in (self._epoch(number), self._epoch(number + 1)):
            found, first = np.unique(blocks[max(-passed, 0) :], return_index=True)
            steps = (first + max(passed, 0)) / self.rate
            soonest[found] = np.minimum(soonest[found], steps)
            passed += self._length
