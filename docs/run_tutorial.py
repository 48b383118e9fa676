"""Does what docs/tutorial.md says, as a reader would, in an empty directory: `nox -s tutorial`.

    python docs/run_tutorial.py [DIRECTORY]

Blocks of `sh` are run, a line at a time; a block with `title="FILE"` is written into that file; a
block without a language is what the command before it prints, shortened: its lines have to appear
in that order. Losses and scores may be other ones, and `…` at the end of a line stands for the rest
of it. `CLONE` is this clone. A block after `<!-- not run -->` is left alone.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"(<!-- not run -->\n+)?^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What differs from machine to machine: losses, scores, how many patches were trusted.
VARYING = re.compile(r"\d+\.\d{3,4}(?!\d|%)|(?<=ST_Count: )\d+")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """What follows the page's ``` and the text below it, for each block that is not left alone."""
    for left_alone, kind, text in BLOCK.findall(page):
        if not left_alone:
            yield kind, text


def commands(block: str) -> list[str]:
    """The command lines of a block of shell, continued ones in one piece."""
    lines = block.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def missing(quoted: str, printed: str) -> str | None:
    """The first line of `quoted` that `printed` does not have, after the lines before it."""
    left = iter(printed.splitlines())
    for line in filter(None, map(str.strip, quoted.splitlines())):
        pattern = r"[\d.]+".join(map(re.escape, VARYING.split(line.removesuffix("…"))))
        pattern += ".*" if line.endswith("…") else ""
        if not any(re.fullmatch(pattern, other.strip()) for other in left):
            return line
    return None


def run(line: str, directory: Path) -> str:
    """Run a command line, show what it prints, and give it back.

    Raises:
        SystemExit: the command failed.
    """
    print(f"\n$ {line}", flush=True)
    # The page's outputs are those of a CPU.
    environment = os.environ | {"PYTHONUTF8": "1", "CUDA_VISIBLE_DEVICES": ""}
    printed = []
    with subprocess.Popen(
        shlex.split(line.replace("CLONE", ROOT.as_posix())),
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            print(text, end="", flush=True)
            printed.append(text)
    if process.returncode:
        raise SystemExit(f"{PAGE}: {line}: exit code {process.returncode}")
    return "".join(printed)


def follow(page: str, directory: Path) -> None:
    """Go through the page.

    Raises:
        SystemExit: a command failed, or did not print what the page quotes.
    """
    line, printed = "", ""
    for kind, text in blocks(page):
        title = re.search(r'title="([^"]+)"', kind)
        if title:
            (directory / title[1]).write_text(text, encoding="utf-8")
        elif kind == "sh":
            outputs = []
            for line in commands(text):
                outputs.append(run(line, directory))
            printed = "".join(outputs)
        elif not kind:
            gone = missing(text, printed.replace(ROOT.as_posix(), "CLONE"))
            if gone:
                raise SystemExit(f"{PAGE}: no longer printed by {line}: {gone}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, help="new or empty; default: temporary")
    given = parser.parse_args().directory
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            sys.exit(f"{directory}: is not empty")
        follow(PAGE.read_text(encoding="utf-8"), directory)
    print(f"\n{PAGE}: all as it says, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
