"""Results from worker processes are those of one process; a worker that dies is one clear error.

Workers import this module.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from salakseg.data.workers import worker_processes
from salakseg.errors import InputError, WorkError


def square_here(number: int) -> tuple[int, int]:
    """The square, and which process worked it out."""
    if number == 0:
        time.sleep(0.3)  # the first to begin is not the first to end
    return number**2, os.getpid()


def squares_here(numbers: Sequence[int]) -> list[tuple[int, int]]:
    return [square_here(number) for number in numbers]


def die(_: object) -> list[int]:
    os._exit(1)


def fail_or_touch(path: Path) -> None:
    if path.name == "0":
        raise InputError("the first one fails")
    time.sleep(0.1)
    path.touch()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_number_of_workers_changes_nothing(count: int) -> None:
    with worker_processes(count) as workers:
        in_order = workers.map(squares_here, range(8), 3, "Squaring")
        as_completed = dict(workers.as_completed(square_here, range(8), "squaring"))
    assert [square for square, _ in in_order] == [number**2 for number in range(8)]
    assert {number: square for number, (square, _) in as_completed.items()} == {
        number: number**2 for number in range(8)
    }
    processes = {process for _, process in (*in_order, *as_completed.values())}
    assert (os.getpid() in processes) == (count < 2)


def test_no_process_is_started_for_one_piece_of_work() -> None:
    with worker_processes(None) as workers:
        assert workers.map(squares_here, [2, 3], 2, "Squaring")[0] == (4, os.getpid())
        assert list(workers.as_completed(square_here, [3], "squaring")) == [(3, (9, os.getpid()))]
        assert workers.map(squares_here, [], 2, "Squaring") == []


def test_a_worker_that_dies_is_one_clear_error() -> None:
    with (
        worker_processes(2) as workers,
        pytest.raises(WorkError, match=r"^Squaring: a worker process died.*--num-workers$"),
    ):
        workers.map(die, range(4), 1, "Squaring")
    with (
        worker_processes(2) as workers,
        pytest.raises(WorkError, match=r"^squaring: a worker process died.*goes on where it was$"),
    ):
        list(workers.as_completed(die, range(4), "squaring"))


def test_after_an_error_the_rest_never_begins(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(100)]
    with pytest.raises(InputError, match="the first one fails"), worker_processes(2) as workers:
        list(workers.as_completed(fail_or_touch, paths, "touching"))
    assert len(list(tmp_path.iterdir())) < 50


def test_workers_of_the_checks_import_neither_pandas_nor_torch() -> None:
    code = "import salakseg.data.checks, sys; print({'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
