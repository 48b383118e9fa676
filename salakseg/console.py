"""What a person sees while a command works: one console, one kind of progress bar."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class _Console(Console):
    """Goes quiet where nobody listens any more: the terminal was closed, or the `tee` behind the
    pipe ended by the same Ctrl-C. Work is not lost for want of words."""

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Rich would end the program."""
        self.quiet = True
        with suppress(OSError, ValueError):  # what is left in Python's buffer fails no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


# Paths and class names are data: rich must not read "[1]" in them as markup, nor colour numbers.
console = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


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
