"""docs/run_tutorial.py on small pages; the real page takes minutes: `nox -s tutorial`."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[1] / "docs" / "run_tutorial.py"


@pytest.fixture(scope="module")
def tutorial() -> Any:
    spec = importlib.util.spec_from_file_location("run_tutorial", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(shell: str, output: str = "") -> str:
    """A page that writes `numbers.txt` first; PYTHON is this Python."""
    text = f'```text title="numbers.txt"\n1\n2\n```\n\n```sh\n{shell}\n```\n'
    text = text.replace("PYTHON", Path(sys.executable).as_posix())
    return text + (f"\nwords\n\n```\n{output}\n```\n" if output else "")


SHOW = "PYTHON -c \\\n    \"print(open('numbers.txt').read(), 'mIoU 0.4321,', '12.3456%')\""


def test_a_page_that_is_right(tutorial: Any) -> None:
    tutorial.follow(page(SHOW, "1\n2\nmIoU 0.9876, …"), Path())
    assert Path("numbers.txt").read_text(encoding="utf-8") == "1\n2\n"


@pytest.mark.parametrize(
    ("output", "gone"),
    [
        ("2\n1", "1"),
        ("3", "3"),
        ("mIoU 0.4321", "mIoU 0.4321"),
        ("mIoU 0.4321, 12.3457%", "mIoU 0.4321, 12.3457%"),
    ],
)
def test_what_is_no_longer_printed(tutorial: Any, output: str, gone: str) -> None:
    with pytest.raises(SystemExit, match=f"no longer printed by .*: {gone}$"):
        tutorial.follow(page(SHOW, output), Path())


def test_a_command_that_fails(tutorial: Any) -> None:
    failing = page('PYTHON -c "raise SystemExit(3)"')
    with pytest.raises(SystemExit, match="exit code 3"):
        tutorial.follow(failing, Path())
    tutorial.follow(failing.replace("```sh", "<!-- not run -->\n\n```sh"), Path())


def test_every_block_of_the_page_is_known(tutorial: Any) -> None:
    kinds = {kind for kind, _ in tutorial.blocks(tutorial.PAGE.read_text(encoding="utf-8"))}
    assert kinds == {"sh", "", 'text title="labelled.txt"'}
