from pathlib import Path

import pytest

from salakseg.data.layout import read_layout
from salakseg.errors import InputError

NEEDED = ("base_image", "x", "pixel_size")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["patch,base_image,x,pixel_size", *lines]), encoding="utf-8-sig")
    return path


def test_a_row_of_each_patch(tmp_path: Path) -> None:
    path = write(tmp_path / "layout.csv", "a_000,a,0,", "a_001,a,64,0.03")
    assert read_layout(path, NEEDED) == {
        "a_000": {"patch": "a_000", "base_image": "a", "x": "0", "pixel_size": ""},
        "a_001": {"patch": "a_001", "base_image": "a", "x": "64", "pixel_size": "0.03"},
    }


@pytest.mark.parametrize(
    ("row", "needed"),
    [
        ("a_000,a,left,", NEEDED),  # no number
        ("a_000,a,0,wide", NEEDED),
        ("a_000,a", NEEDED),  # cut off
        ("a_000,a,0,", (*NEEDED, "crs")),  # a column less
    ],
)
def test_damage_is_told_with_the_file_and_what_to_do(
    tmp_path: Path, row: str, needed: tuple[str, ...]
) -> None:
    path = write(tmp_path / "layout.csv", row)
    with pytest.raises(InputError, match=r"layout\.csv: damaged .*salakseg patchify"):
        read_layout(path, needed)


def test_what_is_not_needed_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "layout.csv", "a_000,a,left,wide")
    assert read_layout(path, ("base_image",))["a_000"]["base_image"] == "a"
