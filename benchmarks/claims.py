"""How the benchmarks of speed measure, and how they say what came out.

Two sides take turns in one process, so that whatever else the machine does hits both; a ratio is
taken turn by turn, and its median and range are printed as a row of the table in
docs/performance.md. `speed/all.py` runs every program and prints the rows together.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HEAD = "| claim | ours | other | ratio | goal | met |\n|---|---|---|---|---|---|"


def seconds(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def take_turns(sides: Sequence[Callable[[], object]], turns: int) -> list[list[float]]:
    """Seconds of each side in each of `turns` turns, after one turn that is not measured."""
    for side in sides:
        side()
    rounds = [[seconds(side) for side in sides] for _ in range(turns)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The one over the other, turn by turn."""
    return [a / b for a, b in zip(above, below, strict=True)]


def drop_pages(data: Path, pattern: str = "*.png") -> None:
    """Make the system forget the content of the files, where it can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in data.rglob(pattern):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_memory() -> str:
    """Of this process and of its largest worker so far."""
    try:
        import resource
    except ImportError:
        return "not known on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    own, workers = (
        resource.getrusage(who).ru_maxrss * unit / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return f"{own:.0f} MB, largest worker {workers:.0f} MB"


def report(
    claim: str,
    ours: str,
    other: str,
    ratio_by_turn: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Print a row: what was measured, median and range of the ratio, goal, met or not.

    A claim without a goal is there for reference.
    """
    middle = statistics.median(ratio_by_turn)
    digits = 2 if middle >= 0.1 else 4
    ratio = f"{middle:.{digits}f}"
    if len(ratio_by_turn) > 1:
        ratio += f" ({min(ratio_by_turn):.{digits}f} to {max(ratio_by_turn):.{digits}f})"
    goal, met = "", ""
    if at_least is not None:
        goal, met = f"≥ {at_least:g}", "yes" if middle >= at_least else "**no**"
    if at_most is not None:
        goal, met = f"≤ {at_most:g}", "yes" if middle <= at_most else "**no**"
    print(f"| {claim} | {ours} | {other} | {ratio} | {goal} | {met} |", flush=True)
