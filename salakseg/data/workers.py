"""A function and many items → its results, from worker processes.

What flows in and out is pickled: the function, the items and the results. Workers start afresh
(spawn: the same on every system, and safe where torch or rasterio have threads) and import the
function's module, so this one imports neither pandas nor torch. 0 or 1 workers is none beside this
process, and so is a single item or chunk: starting a process costs more.

However the work ends, what a worker has in hand is finished and the rest never begins. A signal
that asks to stop reaches the main process alone, whomever it was sent to; if that one is killed,
its workers end too.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from salakseg.console import progress
from salakseg.errors import InputError, WorkError
from salakseg.signals import ignore_stops, stops_hidden

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_PROCESSES = 61  # Windows cannot wait for more
KEPT_BYTES = 1 << 24


class Workers:
    """Up to `count` processes, started when there is work for more than one."""

    def __init__(self, count: int) -> None:
        self.count = max(1, min(count, MOST_PROCESSES))
        self._pool: ProcessPoolExecutor | None = None
        _keep_memory()

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
        futures = self._submit(function, chunks)
        results: list[Result] = []
        with progress(what, len(items)) as bar:
            try:
                parts = map(function, chunks) if futures is None else (f.result() for f in futures)
                for part in parts:
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
        futures = self._submit(function, items)
        if futures is None:
            for item in items:
                yield item, function(item)
            return
        try:
            item_of = dict(zip(futures, items, strict=True))
            for future in as_completed(futures):
                yield item_of[future], future.result()
        except BrokenProcessPool as error:
            raise _worker_died(
                what, "run it again with a smaller --num-workers, it goes on where it was"
            ) from error

    def _submit(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Future[Result]] | None:
        """One future an item; None where this process is to do the work itself."""
        if self.count == 1 or len(items) <= 1:
            return None
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # This is a worker, reading the script that started it. Ended here, in silence, it lets
            # the main process say the one line; Python would print a page for each worker.
            sys.exit(1)
        if self._pool is None:
            if sys.platform != "win32":
                # Python's own helper process: the pool would start it, and it ends the hiding.
                from multiprocessing import resource_tracker

                with stops_hidden():
                    resource_tracker.ensure_running()
            self._pool = ProcessPoolExecutor(
                self.count, multiprocessing.get_context("spawn"), initializer=_begin
            )
        with stops_hidden():  # workers start as there is work for them
            return [self._pool.submit(function, item) for item in items]

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def worker_processes(count: int | None) -> Iterator[Workers]:
    """Up to `count` processes; None is one a core."""
    require_workers(count)
    workers = Workers(cores() if count is None else count)
    try:
        yield workers
    finally:
        workers.close()


def require_workers(given: int | None) -> None:
    """Raise InputError where it is no number of processes or threads."""
    if given is not None and given < 0:
        raise InputError(f"--num-workers {given}: must be 0 or above")


def cores() -> int:
    """Those that this process may use: a scheduler often gives some of the machine's only."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin() -> None:
    ignore_stops()
    _keep_memory()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _keep_memory() -> None:
    """Have what a patch takes for a moment at hand for the next one. glibc gives freed memory back
    to the system, page by page in and out again, until one larger block has come and gone."""
    bytes(KEPT_BYTES)


def _worker_died(what: str, advice: str) -> WorkError:
    if _main_is_unguarded():
        return WorkError(
            f"{what}: worker processes read the script that starts them, so its calls belong under "
            '`if __name__ == "__main__":`; or num_workers=1'
        )
    return WorkError(f"{what}: a worker process died, perhaps for lack of memory; {advice}")


def _main_is_unguarded() -> bool:
    """Whether the main program is a file that a worker would run from top to bottom."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or main.__spec__ is not None:  # typed in, or python -m
        return False
    try:
        return b"__main__" not in Path(path).read_bytes()
    except OSError:
        return False
