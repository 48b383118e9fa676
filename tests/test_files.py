"""Files are written whole or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg import files
from salakseg.errors import InputError, WorkError
from salakseg.files import (
    StraightToDisk,
    atomic_path,
    claims_in,
    flush,
    format_bytes,
    is_cut_off_jpeg,
    lock_folder,
    replace_folder,
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


@pytest.mark.parametrize("one_by_one", [True, False])
def test_many_files_are_flushed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    flushed: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(os, "sync", lambda: flushed.append(-1), raising=False)
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(file), sync(file)))
    for name in "ab":
        with atomic_path(tmp_path / name, flushed=False) as temporary:
            temporary.write_text(name, encoding="utf-8")
    assert not flushed and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    flush(tmp_path.iterdir(), one_by_one)
    assert len(flushed) == (2 if one_by_one else 1)
    with atomic_path(tmp_path / "c") as temporary:
        temporary.touch()
        assert len(flushed) < 3
    assert flushed[-1] >= 0


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


# Holds the folder, with a child that outlives it as an orphaned loader worker does.
HOLDER = """
import os, sys, time
from pathlib import Path
from salakseg.files import lock_folder

with lock_folder(Path(sys.argv[1]), "training"):
    child = os.fork() if sys.argv[2] == "fork" else 1
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def holder(folder: Path, fork: bool) -> tuple["subprocess.Popen[str]", int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), "fork" if fork else "alone"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_folder_is_locked_once_in_a_process(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with lock_folder(folder, "training"):
        for _ in range(2):  # the refusal itself does not end the lock
            with pytest.raises(InputError, match=r"new: another .* training"):
                lock_folder(tmp_path / "." / "new", "training").__enter__()
        with lock_folder(tmp_path / "other", "training"):
            pass
    with lock_folder(folder, "training"):
        pass
    (tmp_path / "file").touch()
    for place in ("file", "file/in it"):
        with pytest.raises(InputError, match=r"cannot be made .*training cannot begin"):
            lock_folder(tmp_path / place, "training").__enter__()


def test_another_process_is_refused_until_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    process, _ = holder(tmp_path, fork=False)
    with process:
        with pytest.raises(InputError, match="another salakseg works in it"):
            lock_folder(tmp_path, "training").__enter__()
        process.kill()
    with lock_folder(tmp_path, "training"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_child_that_outlives_a_killed_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    process, child = holder(tmp_path, fork=True)
    try:
        with pytest.raises(InputError):
            lock_folder(tmp_path, "training").__enter__()
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        with lock_folder(tmp_path, "training"):
            pass
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_the_end_of_a_child_does_not_end_the_lock(tmp_path: Path) -> None:
    ended = "os.waitpid(child, 0) if child else os._exit(0)"
    script = HOLDER.replace("    if child:", f"    {ended}\n    if child:")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), "fork"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(InputError):
            lock_folder(tmp_path, "training").__enter__()
        process.kill()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_is_cut_off_where_its_picture_does_not_end(tmp_path: Path, options: dict) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path, small = tmp_path / "a.jpg", tmp_path / "small.jpg"
    Image.fromarray(noise[:8, :8]).save(small)
    # As cameras have it: a small whole JPEG in the header.
    exif = b"Exif\0\0" + small.read_bytes()
    Image.fromarray(noise).save(path, exif=exif, **options)
    whole = path.read_bytes()
    assert not is_cut_off_jpeg(path)
    for more in (b"\0" * 10_000, small.read_bytes(), b"\xff"):
        path.write_bytes(whole + more)
        assert not is_cut_off_jpeg(path)
    for rest in (b"", bytes(len(whole) // 2), b"\xff\0" * 4000):
        path.write_bytes(whole[: len(whole) // 2] + rest)
        assert is_cut_off_jpeg(path)
    path.write_bytes(b"II*\0")
    assert not is_cut_off_jpeg(path)


def test_a_file_straight_to_disk_is_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AT_ONCE", 1000)
    content = bytes(range(256)) * 40
    for there in (True, False):
        if not there:
            monkeypatch.delattr(os, "posix_fadvise", raising=False)
        with StraightToDisk(tmp_path / "a") as file:
            for place in range(0, len(content), 300):
                file.write(content[place : place + 300])
        assert file.closed
        assert (tmp_path / "a").read_bytes() == content


def test_a_disk_that_is_full_while_pages_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full, raising=False)
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: None, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with pytest.raises(OSError, match="No space"), StraightToDisk(tmp_path / "a") as file:
        file.write(b"half")
    assert file.closed


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("new", "newer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        replace_folder(tmp_path / name, tmp_path / "below" / "there")
        assert [path.name for path in (tmp_path / "below").iterdir()] == ["there"]
        assert [path.name for path in (tmp_path / "below" / "there").iterdir()] == [name]


def claiming(folder: Path, *names: str) -> subprocess.Popen[str]:
    """A process that has claimed these names, and waits."""
    script = (
        "import sys; from pathlib import Path; from salakseg.files import claims_in\n"
        "with claims_in(Path(sys.argv[1])) as claims:\n"
        "    print([claims.take(name) for name in sys.argv[2:]], flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and "False" not in process.stdout.readline()
    return process


def test_work_is_shared_out_by_name_and_taken_over_from_the_killed(tmp_path: Path) -> None:
    with claims_in(tmp_path) as claims:
        assert claims.take("ours")
        other = claiming(tmp_path, "theirs", "both")
        assert not claims.take("theirs") and claims.take("free")
        other.kill()
        other.communicate()
        assert claims.take("theirs")
        claims.give_back("ours")
        claiming(tmp_path, "ours").communicate("")  # it ends well, and leaves the file to us
        assert (tmp_path / ".claims").exists()
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there no open file is removed")
def test_a_claim_counts_though_another_removed_the_file(tmp_path: Path) -> None:
    with claims_in(tmp_path) as claims, claims_in(tmp_path):
        (tmp_path / ".claims").unlink()
        assert claims.take("one")
        other = claiming(tmp_path, "two")
        assert not claims.take("two")
        other.communicate("")
        assert claims.take("two")
