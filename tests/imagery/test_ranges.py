"""Files that are read by ranges."""

import numpy as np
import pytest

from salakseg.imagery.ranges import MOST_AHEAD, PAGE, RangeFile

CONTENT = np.random.default_rng(0).bytes(3 << 20)


class Counted:
    """Where the bytes are, and what was fetched of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        assert 0 <= start < end <= len(CONTENT)
        return CONTENT[start:end]

    @property
    def bytes(self) -> int:
        return sum(end - start for start, end in self.asked)


@pytest.fixture
def fetch() -> Counted:
    return Counted()


@pytest.fixture
def file(fetch: Counted) -> RangeFile:
    return RangeFile(len(CONTENT), fetch, pytest.fail)


def at(file: RangeFile, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def test_whatever_is_read_is_what_is_there(file: RangeFile) -> None:
    rng = np.random.default_rng(1)
    for _ in range(2000):
        start, size = int(rng.integers(len(CONTENT) + 9)), int(rng.integers(1, 60_000))
        for _ in range(int(rng.integers(1, 4))):
            assert at(file, start, size) == CONTENT[start : start + size]
            start = file.tell() + int(rng.integers(-20, 20)) * int(rng.integers(2))
            start = max(0, start)
    assert at(file, 7, -1) == CONTENT[7:] and file.read() == b""
    assert file.seek(-3, 2) == len(CONTENT) - 3 and file.read(9) == CONTENT[-3:]


@pytest.mark.parametrize("size", [3000, 50_000])
def test_strip_after_strip_is_few_requests_and_each_byte_once(
    file: RangeFile, fetch: Counted, size: int
) -> None:
    for start in range(1 << 20, len(CONTENT), size):
        assert at(file, start, size) == CONTENT[start : start + size]
    assert len(fetch.asked) < 12
    assert fetch.bytes <= (2 << 20) + 2 * PAGE
    assert max(end - start for start, end in fetch.asked) <= MOST_AHEAD


def test_scattered_pieces_bring_little_else(file: RangeFile, fetch: Counted) -> None:
    for start in np.random.default_rng(2).permutation(40) * 70_000:
        assert at(file, int(start), 20_000) == CONTENT[start : start + 20_000]
    assert fetch.bytes == 40 * 20_000
    fetch.asked.clear()
    for _ in range(3):
        for start in (900_000, 2_000_000, 100_000):
            at(file, start, 100)
    assert fetch.bytes == 3 * PAGE


def test_the_blocks_of_a_window_are_a_request_for_each_run(file: RangeFile, fetch: Counted) -> None:
    """In a COG four bytes before and behind each are something else."""
    offsets, sizes = [500_000, 520_008, 2_000_000, 100], [20_000, 9_000, 5, 20_000]
    found = file.get_byte_ranges(offsets, sizes)
    assert found == [CONTENT[o : o + n] for o, n in zip(offsets, sizes, strict=True)]
    assert sorted(fetch.asked) == [(100, 20_100), (500_000, 529_008), (2_000_000, 2_000_005)]


def test_who_calls_gdal_is_told_of_a_ctrl_c_in_the_middle_of_it() -> None:
    def fetch(start: int, end: int) -> bytes:
        raise KeyboardInterrupt

    told: list[KeyboardInterrupt] = []
    file = RangeFile(len(CONTENT), fetch, told.append)
    assert file.get_byte_ranges([0, 1 << 20], [10, 20]) == [bytes(10), bytes(20)]
    assert len(told) == 1
