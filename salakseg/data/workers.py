"""A function and many items → its results, from worker processes.

What flows in and out is pickled: the function, the items and the results. Workers start afresh
(spawn: the same on every system, and safe where torch or rasterio have threads) and import the
function's module, so this one imports neither pandas nor torch. 0 or 1 workers is none beside this
process, and so is a single item or chunk: starting a process costs more.

However the work ends, what a worker has in hand is finished and the rest never begins.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from salakseg.console import progress
from salakseg.errors import WorkError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_PROCESSES = 61  # Windows cannot wait for more


class Workers:
    """Up to `count` processes, started when there is work for more than one."""

    def __init__(self, count: int) -> None:
        self._count = min(count, MOST_PROCESSES)
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self,
        function: Callable[[Sequence[Item]], list[Result]],
        items: Sequence[Item],
        chunk: int,
        what: str,
    ) -> list[Result]:
        """All results in the order of `items`, with a progress bar.

        Args:
            function: takes a chunk of the items, gives the list of their results.
            chunk: how many items it is given at a time.
            what: is done, for the bar and the error.

        Raises:
            WorkError: a worker process died.
        """
        chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
        pool = self._pool_for(len(chunks))
        results: list[Result] = []
        with progress(what, len(items)) as bar:
            try:
                for part in map(function, chunks) if pool is None else pool.map(function, chunks):
                    results += part
                    bar.advance(len(part))
            except BrokenProcessPool as error:
                raise _worker_died(what, "try a smaller --num-workers") from error
        return results

    def as_completed(
        self, function: Callable[[Item], Result], items: Sequence[Item], what: str
    ) -> Iterator[tuple[Item, Result]]:
        """Each item with its result as soon as it is there, for work whose finished parts stay.

        Raises:
            WorkError: a worker process died; says that a second call goes on where this one was.
        """
        pool = self._pool_for(len(items))
        if pool is None:
            for item in items:
                yield item, function(item)
            return
        try:
            futures = {pool.submit(function, item): item for item in items}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise _worker_died(
                what, "run it again with a smaller --num-workers, it goes on where it was"
            ) from error

    def _pool_for(self, parts: int) -> ProcessPoolExecutor | None:
        if self._count <= 1 or parts <= 1:
            return None
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count, multiprocessing.get_context("spawn"), initializer=_ignore_interrupt
            )
        return self._pool

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def worker_processes(count: int | None) -> Iterator[Workers]:
    """Up to `count` processes; None is one a core."""
    workers = Workers((os.cpu_count() or 1) if count is None else count)
    try:
        yield workers
    finally:
        workers.close()


def _ignore_interrupt() -> None:
    # Ctrl-C reaches every process of the group; the main process ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _worker_died(what: str, advice: str) -> WorkError:
    return WorkError(f"{what}: a worker process died, perhaps for lack of memory; {advice}")
