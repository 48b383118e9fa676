"""Results from worker processes are those of one process; a worker that dies is one clear error.

Workers import this module.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import salakseg
from salakseg.data.workers import cores, worker_processes
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


def test_a_worker_a_core_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(os, "sched_getaffinity"):  # as SLURM gives four cores of a large machine
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7, 8, 11})
        assert cores() == 4
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores() == 64


# A program with two workers, each of which says who it is and takes its time.
PROGRAM = """
import os, sys, time
from pathlib import Path
from salakseg.data.workers import worker_processes
from salakseg.signals import Stop, on_stop

def work(path):
    Path(f"{path.name}-{os.getpid()}").touch()
    time.sleep(float(sys.argv[1]))
    path.touch()

def stop(_):
    raise Stop

if __name__ == "__main__":
    try:
        with on_stop(stop), worker_processes(2) as workers:
            for _ in workers.as_completed(work, [Path(str(n)) for n in range(8)], "working"):
                pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start_working(seconds: float) -> tuple["subprocess.Popen[str]", list[int]]:
    """The program in a group of its own, and its workers, both at work."""
    Path("program.py").write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "program.py", str(seconds)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(begun := list(Path().glob("[0-9]-*"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    return process, [int(path.name.partition("-")[2]) for path in begun]


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_whole_group_is_the_main_processs_alone(number: int) -> None:
    process, _ = start_working(0.5)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    # What was in hand is finished, and the rest never began.
    begun = {path.name.partition("-")[0] for path in Path().glob("[0-9]-*")}
    assert begun == {path.name for path in Path().glob("[0-9]")}
    assert 2 <= len(begun) < 8


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
def test_workers_end_with_a_main_process_that_is_killed() -> None:
    process, workers = start_working(60)
    assert len(workers) == 2
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, workers))


def alive(process: int) -> bool:
    try:
        # Where nobody takes note of its end it stays as a "zombie".
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except OSError:
        return False


def test_a_script_without_a_main_guard_is_told_in_a_line() -> None:
    script = (
        "from pathlib import Path\n"
        "from salakseg.data.workers import worker_processes\n"
        "with worker_processes(2) as workers:\n"
        "    list(workers.as_completed(Path.touch, [Path('a'), Path('b')], 'touching'))\n"
    )
    Path("script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 'if __name__ == "__main__":' in last and "WorkError: touching: " in last
    assert "bootstrapping" not in done.stderr  # Python's own page, once a worker


def test_workers_of_the_checks_import_neither_pandas_nor_torch() -> None:
    code = "import salakseg.data.mask_checks, sys; print({'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda: salakseg.patchify(".", out="../patches", num_workers=-1),
        lambda: salakseg.index(".", num_workers=-1),
        lambda: salakseg.shard(num_workers=-1),
        lambda: salakseg.evaluate("model.pth", num_workers=-1),
        lambda: salakseg.suggest(num_workers=-1),
    ],
)
def test_a_number_below_0_is_refused_in_the_same_words_everywhere(
    call: Callable[[], object],
) -> None:
    with pytest.raises(InputError, match=r"^--num-workers -1: must be 0 or above$"):
        call()
