"""Reading at places in the tars of a folder."""

import io
import os
from typing import Any

import pytest
import torch

from salakseg.data import local_tars
from salakseg.data.shards import Shards
from salakseg.data.stream import read_split


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="reads as on Windows anyway")
@pytest.mark.parametrize("at_places", [True, False])
def test_a_file_system_that_gives_less_than_it_was_asked_for(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, at_places: bool
) -> None:
    expected = list(read_split(shards, "val", 5))
    original, calls = os.preadv, 0

    def short(file: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        return original(file, [buffers[0][:1000]], offset)

    class ShortFile(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            nonlocal calls
            calls += 1
            return super().readinto(memoryview(buffer)[:1000]) or 0

    monkeypatch.setattr(os, "preadv", short)
    monkeypatch.setattr(local_tars, "FileIO", ShortFile)
    monkeypatch.setattr(local_tars, "READS_AT_PLACES", at_places)  # Windows cannot
    for batch, other in zip(read_split(shards, "val", 5, num_workers=3), expected, strict=True):
        assert torch.equal(batch.images, other.images)
    assert calls > 18 * 2 * 2
