"""Files are written whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from salakseg.errors import InputError, WorkError
from salakseg.files import (
    atomic_path,
    format_bytes,
    require_disk_space,
    require_folder,
    sha256_of,
    write_text,
)


def test_a_written_file_stands_under_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ñandú.txt"
    write_text(path, "é\nb\n")
    assert path.read_bytes() == b"\xc3\xa9\nb\n"
    assert list(path.parent.iterdir()) == [path]
    assert sha256_of(path) == hashlib.sha256(b"\xc3\xa9\nb\n").hexdigest()


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model.pth"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        assert temporary.suffix == ".pth"
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    require_disk_space(folder, 1, "a byte")
    with pytest.raises(WorkError, match=r"shards needs 909\.5 TB, the disk has .* free"):
        require_disk_space(folder, 10**15, "shards")
    assert not folder.exists()


def test_sizes_are_read_by_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 5 << 20, 3 << 30, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KB",
        "5.0 MB",
        "3.0 GB",
        "1024.0 TB",
    ]


def test_a_folder_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert require_folder(tmp_path, "give DATA") == tmp_path
    with pytest.raises(InputError, match="no such folder; give DATA"):
        require_folder(tmp_path / "missing", "give DATA")
    with pytest.raises(InputError, match="is a file, not a folder"):
        require_folder(file, "give DATA")
