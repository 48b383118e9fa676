"""What a person sees while a command works: one console, one kind of progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Paths and class names are data: rich must not read "[1]" in them as markup, nor colour numbers.
console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def quoted(path: Path) -> str:
    """A path as one types it on a command line."""
    return f'"{path}"' if " " in str(path) else str(path)


@contextmanager
def progress(description: str, total: int | None) -> Iterator["Bar"]:
    """A progress bar with the count, the time gone and the time left, gone when it ends."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    # In a file a bar would leave blank lines.
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        yield Bar(bars, bars.add_task(description, total=total))


class Bar:
    """The bar that `progress` shows."""

    def __init__(self, bars: Progress, task: object) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""
        self._bars.advance(self._task, count)  # type: ignore[arg-type]
