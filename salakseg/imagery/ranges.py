"""A file that is read by ranges, what is asked for and in few requests; rasterio takes it."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import RawIOBase
from pathlib import PurePosixPath
from typing import Any

from rasterio.abc import MultiByteRangeResourceContainer

# In bytes: less is read with what is around it; what lies so near is one request.
PAGE, PAGES = 16 << 10, 64
# So much of what follows comes at most with what is read piece after piece.
MOST_AHEAD = 4 << 20
CONNECTIONS = 8

# First byte, and the one behind the last → the bytes, always as many; threads may call it.
Fetch = Callable[[int, int], bytes]
# Is told of a Ctrl-C that comes meanwhile: GDAL would swallow it.
Stopped = Callable[[KeyboardInterrupt], None]


class RangeFile(RawIOBase):
    """The image's bytes as a file: those that are asked for; of what is read one piece after the
    other, ever more of what follows; of scattered small pieces, pages."""

    def __init__(self, size: int, fetch: Fetch, stopped: Stopped) -> None:
        self._size, self._fetch, self._at, self._last = size, fetch, 0, 0
        self._stopped = stopped
        # Where what is read strip after strip begins, and what came of it.
        self._run = 0, memoryview(b"")
        self._page = lru_cache(PAGES)(self._page_at)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        start, length = self._at, self._size
        end = self._at = max(start, length if size < 0 else min(start + size, length))
        if start == end:
            return b""
        first, run = self._run
        if first <= start <= first + len(run):
            ahead = max(PAGE, min(2 * len(run), MOST_AHEAD))
        else:
            ahead = PAGE if start == self._last else 0
            first, run = start, memoryview(b"")
        self._last = end
        if not ahead and end - start <= PAGE:
            pages = range(start // PAGE, -(-end // PAGE))
            offset = pages.start * PAGE
            return b"".join(map(self._page, pages))[start - offset : end - offset]
        held = run[start - first :]
        if len(held) < end - start:
            begin = start + len(held)
            more = self._fetch(begin, min(max(end, begin + ahead), length))
            held = memoryview(bytes(held) + more)
            self._run = start, held
        return bytes(held[: end - start])

    def _page_at(self, number: int) -> bytes:
        return self._fetch(number * PAGE, min((number + 1) * PAGE, self._size))

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Of all blocks of a window, by as few requests as there are runs of them."""
        starts: list[int] = []
        ends: list[int] = []
        for start, size in sorted(zip(offsets, sizes, strict=True)):
            if ends and start - ends[-1] <= PAGE:
                ends[-1] = max(ends[-1], start + size)
            else:
                starts.append(start)
                ends.append(start + size)
        try:
            with ThreadPoolExecutor(CONNECTIONS, "parts") as threads:
                runs = list(threads.map(self._fetch, starts, ends))
        except KeyboardInterrupt as stop:
            self._stopped(stop)
            return [bytes(size) for size in sizes]
        found = []
        for start, size in zip(offsets, sizes, strict=True):
            run = bisect_right(starts, start) - 1
            found.append(runs[run][start - starts[run] :][:size])
        return found


class Opener(MultiByteRangeResourceContainer):
    """What rasterio opens a file of this name by; there is nothing beside it."""

    def __init__(self, name: str, size: int, fetch: Fetch, stopped: Stopped) -> None:
        self._name, self._size, self._fetch, self._stopped = name, size, fetch, stopped

    def open(self, path: str, mode: str = "r", **_: Any) -> RangeFile:
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return RangeFile(self._size, self._fetch, self._stopped)

    def isfile(self, path: str) -> bool:
        return PurePosixPath(path).name == self._name

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        if not self.isfile(path):
            raise FileNotFoundError(path)
        return self._size
