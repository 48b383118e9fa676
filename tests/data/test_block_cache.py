"""What was fetched, kept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salakseg.data import block_cache
from salakseg.data.block_cache import Block, BlockCache
from salakseg.errors import InputError, WorkError

GIGABYTES = 1e-6  # 1000 bytes


def block(number: int, size: int = 100) -> Block:
    return Block(f"{number:064x}", 7, 7 + size)


def keep(cache: BlockCache, number: int, far: dict[str, float] | None = None) -> None:
    cache.put(block(number), bytes(100), lambda: far or {})


def held(cache: BlockCache) -> list[int]:
    return sorted(int(name[:64], 16) for name in cache._held())


def test_a_block_is_there_when_it_is_whole(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, GIGABYTES, 100)
    assert not cache.holds(block(1))
    keep(cache, 1)
    assert cache.holds(block(1)) and cache.path(block(1)).read_bytes() == bytes(100)
    assert ":" not in block(1).name
    cache.path(block(1)).write_bytes(bytes(99))
    assert not cache.holds(block(1))


def test_who_goes_first(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, GIGABYTES, 100)
    for number in range(10):
        keep(cache, number)
    assert held(cache) == list(range(10))
    now = time.time()
    ages = {0: 9000, 1: 9999, 2: 50, 3: 90}  # 0 and 1 are of others, and idle
    for number, age in ages.items():
        os.utime(cache.path(block(number)), (now - age, now - age))
    far = {block(number).name: float(number) for number in range(4, 10)}
    order = []
    for number in range(10, 20):
        before = set(held(cache))
        keep(cache, number, far)
        order += sorted(before - set(held(cache)), key=lambda n: -n)
    # Two at a time: a little more than is needed goes.
    assert order[:2] == [1, 0] and order[2:8] == [9, 8, 7, 6, 5, 4] and set(order[8:10]) == {2, 3}
    assert len(held(cache)) <= 10


def test_what_was_opened_is_read_on(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, GIGABYTES, 100)
    keep(cache, 0)
    if sys.platform != "win32":
        with cache.path(block(0)).open("rb") as file:
            for number in range(1, 12):
                keep(cache, number)
            assert not cache.holds(block(0)) and len(file.read()) == 100


def test_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--cache-size 3: at least 4 \(gigabytes\)"):
        BlockCache(tmp_path, 3, 4 * 10**9)
    monkeypatch.setattr(block_cache, "free_bytes", lambda _: 10**9)
    with pytest.raises(WorkError, match="half of what the disk has"):
        BlockCache(tmp_path, None, 10**9)
    assert BlockCache(tmp_path, None, 4 * 10**8).limit == 5 * 10**8


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="--cache-dir"):
        BlockCache(tmp_path / "file" / "cache", 1, 100)


def test_half_written_files_of_the_killed_go_in_time(tmp_path: Path) -> None:
    old, young = tmp_path / ".partial-1-x", tmp_path / ".partial-2-x"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    BlockCache(tmp_path, 1, 100)
    assert young.exists() and not old.exists()


FETCH = """
import sys, time
from pathlib import Path
from salakseg.data.block_cache import Block, BlockCache
cache, block = BlockCache(Path(sys.argv[1]), 1, 100), Block("0" * 64, 0, 100)
with cache.fetching(block):
    if not cache.holds(block):
        print("fetched")
        time.sleep(0.5)
        cache.put(block, bytes(100), dict)
"""


def test_one_process_fetches_the_others_wait(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert sorted(process.communicate()[0] for process in processes) == ["", "", "fetched\n"]
    assert all(process.returncode == 0 for process in processes)
