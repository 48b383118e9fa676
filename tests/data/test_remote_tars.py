"""Shards behind a URL: the same batches as of the folder, through a network that fails."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import salakseg
from salakseg import bucket
from salakseg.data import remote_tars
from salakseg.data.remote_tars import Course
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import TrainingStream, read_split
from salakseg.errors import InputError, WorkError
from salakseg.model.weights import load_model
from tests.servers import Server, http_server, lose_patience

pytest.importorskip("aiohttp")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(shards_dir: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(shards_dir, tmp_path / "packed"))


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It, served; who reads has little patience."""
    lose_patience(monkeypatch, 5.0)
    monkeypatch.setattr(bucket, "SILENCE", 0.3)
    with http_server(folder) as server:
        yield server


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some 60 KB, so that there are many."""
    monkeypatch.setattr("salakseg.data.order.BLOCK_BYTES", 60_000)
    monkeypatch.setattr("salakseg.data.order.WINDOW_BYTES", 200_000)
    monkeypatch.setattr(remote_tars, "AHEAD_BYTES", 200_000)
    monkeypatch.setattr(remote_tars, "NEEDED_BYTES", 800_000)


def same_batches(one: Shards, other: Shards, workers: int, batches: int = 40) -> None:
    sides = [
        islice(TrainingStream(shards, 3, seed=5, unlabeled_batch_size=2, num_workers=many), batches)
        for shards, many in ((one, 0), (other, workers))
    ]
    for mine, theirs in zip(*sides, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a is not None and b is not None
            assert torch.equal(a.images, b.images) and torch.equal(a.valid, b.valid)
            assert torch.equal(a.entries, b.entries) and torch.equal(a.plan, b.plan)  # type: ignore[arg-type]
    for a, b in zip(read_split(one, "val", 4), read_split(other, "val", 4, workers), strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_batches_and_nothing_fetched_twice(
    shards: Shards, server: Server, workers: int, small_blocks: None
) -> None:
    same_batches(shards, read_shards(server.url, "cache"), workers)
    fetched = server.fetched()
    assert len(fetched) == len(set(fetched)) > 20
    # Once more, and in another process: nothing is asked for but what is to be checked.
    same_batches(shards, read_shards(server.url, "cache"), workers)
    assert server.fetched() == fetched


def test_a_cache_smaller_than_the_set(
    shards: Shards, server: Server, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = read_shards(server.url, "cache", 0.0011)
    assert far.tars is not None
    largest = 0
    put = far.tars.cache.put

    def noted(*arguments: object) -> None:
        nonlocal largest
        put(*arguments)  # type: ignore[arg-type]
        held = sum(path.stat().st_size for path in Path("cache").iterdir() if path.is_file())
        largest = max(largest, held)

    monkeypatch.setattr(far.tars.cache, "put", noted)
    same_batches(shards, far, 2, batches=60)
    assert 800_000 < largest <= 1_100_000


def test_an_empty_stream_needs_nothing() -> None:
    course = Course(lambda number: np.array([], np.int64), 0)
    assert list(course.coming) == []
    soonest = np.full(2, np.inf)
    course.next_uses(soonest)
    assert soonest.tolist() == [np.inf, np.inf]


def test_what_is_needed_last_is_let_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tars, "STILL_READ", 0)
    blocks = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    course = Course(lambda number: blocks if number == 0 else blocks[::-1], 0)
    assert list(islice(course.coming, 8)) == [
        *((0, 0), (2, 1), (4, 2), (6, 3)),
        *((8, 3), (10, 2), (12, 1), (14, 0)),
    ]
    course.advance(4, 5)
    soonest = np.full(5, np.inf)
    course.next_uses(soonest)
    assert soonest.tolist() == [5, 4, 0, 1, np.inf]


@pytest.mark.parametrize("kind", ["cut", 503, "silent", b"spoilt on the way"])
def test_a_network_that_fails_for_a_while(
    shards: Shards, server: Server, kind: object, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([kind] * 6) if not isinstance(kind, bytes) else iter([kind])
    server.fault = lambda name, span, number: (
        next(failures, None) if ".tar" in name and (span or kind == 503) else None
    )
    same_batches(shards, read_shards(server.url, "cache"), 2, batches=10)
    if not isinstance(kind, bytes):
        assert "asked again for up to" in capsys.readouterr().out


def test_a_network_that_does_not_come_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    far = read_shards(server.url, "cache")
    monkeypatch.setattr(bucket, "PATIENCE", 0.2)
    server.fault = lambda name, span, number: 503
    with pytest.raises(WorkError, match=rf"^{server.url}/labeled-val-000000.tar: no answer") as met:
        list(read_split(far, "val", 4, num_workers=2))
    assert "\n" not in str(met.value)
    # It is asked again the next time.
    server.fault = lambda name, span, number: None
    assert len(list(read_split(far, "val", 4, num_workers=2))) == 5


def test_a_changed_object(server: Server, folder: Path) -> None:
    far = read_shards(server.url, "cache")
    tar = folder / "labeled-val-000000.tar"
    content = bytearray(tar.read_bytes())
    content[int(far.split("val").image_offset[3]) + 50] ^= 1
    tar.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{server.url}/{tar.name}: is not what manifest.json"):
        list(read_split(far, "val", 4))
    tar.unlink()
    with pytest.raises(InputError, match=rf"^{server.url}/{tar.name}: is gone"):
        list(read_split(far, "val", 4))


def test_a_server_without_ranges(server: Server) -> None:
    server.ranges = False
    with pytest.raises(InputError, match="whole files only"):
        list(read_split(read_shards(server.url, "cache"), "val", 4))


def test_what_is_damaged_in_the_cache_is_fetched_again(shards: Shards, server: Server) -> None:
    far = read_shards(server.url, "cache")
    for _ in range(2):
        for path in Path("cache").glob("*-*-*"):  # none, the first time
            content = bytearray(path.read_bytes())
            content[::500] = bytes(len(content[::500]))
            path.write_bytes(content)
        same_batches(shards, far, 1, batches=12)
    assert len(server.fetched()) == 2 * len(set(server.fetched()))


def test_blocks_that_others_let_go_are_fetched_again(shards: Shards, server: Server) -> None:
    same_batches(shards, read_shards(server.url, "cache"), 1, batches=4)
    far = read_shards(server.url, "cache")
    assert far.tars is not None
    far.tars._here.update(range(len(far.tars._blocks)))
    for path in Path("cache").glob("*-*-*"):
        path.unlink()
    same_batches(shards, far, 1, batches=12)


@pytest.mark.skipif(sys.platform == "win32", reason="its Ctrl-C goes to the whole console")
def test_a_reader_that_is_stopped_does_not_wait_for_the_network(server: Server) -> None:
    far = read_shards(server.url, "cache")
    go_on = threading.Event()
    server.fault = lambda name, span, number: None if go_on.wait(20) else 503
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(iter(TrainingStream(far, 3, seed=0, num_workers=2)))
    assert time.monotonic() - began < 3
    go_on.set()


@pytest.mark.slow
def test_training_goes_on_and_is_scored(server: Server, shards_dir: Path) -> None:
    options = {"generator": "tiny", "batch_size": 2, "num_steps": 3, "save_pred_every": 3}
    for name, where in (("near", shards_dir), ("far", server.url)):
        salakseg.train(shards_dir=where, checkpoint_dir=name, cache_dir="cache", **options)
        salakseg.train(
            shards_dir=where, checkpoint_dir=name, cache_dir="cache", resume=True, num_steps=6
        )
    near, far = (
        load_model(Path(name, "final_model.pth")).generator.state_dict() for name in ("near", "far")
    )
    assert near.keys() == far.keys() and all(torch.equal(near[key], far[key]) for key in near)
    scores = salakseg.evaluate("far/final_model.pth", shards_dir=server.url, cache_dir="cache")
    assert scores["data"]["shards"] == server.url
    fetched = server.fetched()
    assert len(fetched) == len(set(fetched))


READ = """
import sys
from salakseg.data.shards import read_shards
from salakseg.data.stream import read_split
shards = read_shards(sys.argv[1], "cache")
print(sum(int(batch.images.sum()) for batch in read_split(shards, "train", 4)))
"""


@pytest.mark.slow
def test_processes_of_a_machine_fetch_once(server: Server, small_blocks: None) -> None:
    server.fault = lambda name, span, number: time.sleep(0.1)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", READ, server.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    sums = {process.communicate()[0] for process in both}
    assert len(sums) == 1 and sums != {""}
    assert len(server.fetched()) == len(set(server.fetched())) > 0
