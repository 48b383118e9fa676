"""What a person sees, and what a file gets, while a command works."""

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from salakseg.console import console, progress, quoted

ERASE_LINE = "\x1b[2K"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is in a terminal with colours, which the console looks for only once."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    spec = importlib.util.find_spec("salakseg.console")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.console.file = io.StringIO()
    return module


def test_a_path_is_quoted_where_it_has_to_be() -> None:
    assert quoted(Path("index.csv")) == "index.csv"
    assert quoted(Path("my fields.tif")) == '"my fields.tif"'


def test_names_and_paths_are_printed_as_they_are() -> None:
    line = "field [red] :smile: /" + 40 * "long/" + "photo [1].tif"
    with console.capture() as captured:
        console.print(line)
    assert captured.get() == line + "\n"


def test_numbers_are_coloured_only_where_it_is_asked_for(terminal: ModuleType) -> None:
    terminal.console.print("3 of 10 in 'maps'")
    assert terminal.console.file.getvalue() == "3 of 10 in 'maps'\n"
    terminal.console.print("red", style="red")
    assert "\x1b[31m" in terminal.console.file.getvalue()


def test_a_terminal_shows_the_count_and_at_the_end_nothing(terminal: ModuleType) -> None:
    with terminal.progress("Cutting photos", 5) as bar:
        bar.advance()
        bar.advance(3)
    terminal.console.print("done")
    shown = terminal.console.file.getvalue()
    assert "Cutting photos" in shown
    assert "4/5" in shown
    # All that was drawn is erased again.
    assert shown.rsplit(ERASE_LINE, 1)[1].strip() == "done"


def test_without_a_total_the_count_is_shown(terminal: ModuleType) -> None:
    with terminal.progress("Looking", None) as bar:
        bar.advance(7)
    assert "7/?" in terminal.console.file.getvalue()


def test_after_an_error_the_bar_is_gone_too(terminal: ModuleType) -> None:
    with pytest.raises(ZeroDivisionError), terminal.progress("Packing", 2):
        raise ZeroDivisionError
    shown = terminal.console.file.getvalue()
    assert "Packing" in shown
    assert shown.rsplit(ERASE_LINE, 1)[1].strip() == ""


def test_a_file_gets_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with open(tmp_path / "log.txt", "w", encoding="utf-8") as file:
        # Not `file`, which put back would be this test's own standard output for ever.
        monkeypatch.setattr(console, "_file", file)
        with progress("Cutting photos", 5) as bar:
            bar.advance(5)
        console.print("done")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "done\n"


# Prints on, after whoever read the pipe or the terminal behind the descriptor has gone.
TALKER = """
import sys
from salakseg.console import console, progress

with progress("Working", 2) as bar:
    console.print("before")
    sys.stdin.readline()
    console.print("after")
    bar.advance()
print("done", file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_work_goes_on_where_nobody_listens_any_more(kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TALKER],
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    said = b""
    while b"before" not in said:
        said += os.read(reader, 1000)
    os.close(reader)
    _, errors = process.communicate("\n", 60)
    assert (process.returncode, errors) == (0, "done\n")
