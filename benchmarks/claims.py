"""How the benchmarks of speed measure, and how they say what came out.

Two sides take turns in one process, so that whatever else the machine does hits both; a ratio is
taken turn by turn, and its median and range are printed as a row of the table in
docs/performance.md. `bench.py` runs every program and prints the rows together.
"""

import statistics
import time
from collections.abc import Callable, Sequence

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


def report(
    claim: str,
    ours: str,
    other: str,
    ratios: Sequence[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Print a row: what was measured, median and range of the ratio, goal, met or not.

    A claim without a goal is there for reference.
    """
    middle = statistics.median(ratios)
    digits = 2 if middle >= 0.1 else 4
    ratio = f"{middle:.{digits}f}"
    if len(ratios) > 1:
        ratio += f" ({min(ratios):.{digits}f} to {max(ratios):.{digits}f})"
    goal, met = "", ""
    if at_least is not None:
        goal, met = f"≥ {at_least:g}", "yes" if middle >= at_least else "**no**"
    if at_most is not None:
        goal, met = f"≤ {at_most:g}", "yes" if middle <= at_most else "**no**"
    print(f"| {claim} | {ours} | {other} | {ratio} | {goal} | {met} |", flush=True)
