"""What is found wrong: one file that has all of it, and a message that has the first few."""

from pathlib import Path

import pytest

from salakseg.data.problems import Problems, first_of, plural
from salakseg.errors import InputError


def test_only_what_is_fatal_stops_and_the_file_has_all(tmp_path: Path) -> None:
    problems = Problems()
    problems.handled("other file", "notes, old.txt", "not used")
    problems.stop_if_fatal(tmp_path)
    assert not list(tmp_path.iterdir())
    for name in "dcba":
        problems.fatal("two images of one name", name, "remove one")
    with pytest.raises(
        InputError, match=r"^4 problems .*problems\.csv has all\): a: two .*; b: .*; c: [^;]*; …$"
    ):
        problems.stop_if_fatal(tmp_path)
    assert (tmp_path / "problems.csv").read_text(encoding="utf-8").splitlines() == [
        "severity,kind,file,detail",
        *(f"fatal,two images of one name,{name},remove one" for name in "abcd"),
        'handled,other file,"notes, old.txt",not used',
    ]


def test_words_for_numbers() -> None:
    assert [plural(count, "mask") for count in (0, 1, 2)] == ["0 masks", "1 mask", "2 masks"]
    assert plural(2, "patch", "patches") == "2 patches"
    assert first_of(["a", "b", "c"]) == "a, b, c"
    assert first_of(["a", "b", "c", "d"], "; ") == "a; b; c; …"
