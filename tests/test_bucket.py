"""Folders behind URLs."""

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import salakseg
from salakseg.bucket import Bucket, is_url
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import read_split
from salakseg.errors import InputError, WorkError
from tests.servers import Server, http_server, lose_patience, s3_server


@pytest.fixture
def server(shards_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The shards, served; who reads has little patience."""
    pytest.importorskip("aiohttp")
    lose_patience(monkeypatch, 0.3)
    with http_server(shards_dir) as server:
        yield server


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("s3://bucket/shards", True),
        ("https://host/shards", True),
        ("shards", False),
        (r"C:\data\shards", False),
        ("C:/data/shards", False),
        (Path("s3:/bucket"), False),
    ],
)
def test_what_is_a_url(where: str | Path, url: bool) -> None:
    assert is_url(where) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/shards", r"^s3://bucket/shards: s3:// needs s3fs: pip install s3fs$"),
        ("https://host/x?sig=secret", r"^https://host/x: https:// needs aiohttp: pip install"),
        ("nosuch://x/y", "^nosuch://x/y: cannot be opened"),
    ],
)
def test_a_package_that_is_not_there_is_named(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = import_module("fsspec.registry")._registry
    for name in ("aiohttp", "s3fs", "fsspec.implementations.http"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("s3", "https"):
        monkeypatch.delitem(registered, name, raising=False)
    with pytest.raises(InputError, match=message):
        Bucket(url)


def test_a_signed_link(server: Server) -> None:
    signed = Bucket(f"{server.url}/?sig=a%2Fb&se=1")
    assert signed.read("manifest.json", 0, 1) == b"{"
    assert str(signed) == server.url and "sig" not in signed.shown("x")
    server.fault = lambda name, span, number: 403
    with pytest.raises(InputError, match=f"^{server.url}/manifest.json: may not be read") as met:
        signed.read("manifest.json")
    assert "a%2Fb" not in str(met.value) and "a/b" not in str(met.value)


def test_what_is_not_there(server: Server) -> None:
    files = Bucket(server.url)
    size = len(files.read("samples.csv"))
    assert files.sizes(["samples.csv", "nothing.tar"]) == [size, -1]
    with pytest.raises(FileNotFoundError):
        files.read("nothing.tar")


@pytest.mark.parametrize("kind", [503, "cut", 429])
def test_a_server_that_is_overloaded_is_none_that_has_nothing(server: Server, kind: object) -> None:
    server.fault = lambda name, span, number: kind if number < 4 else None
    files = Bucket(server.url)
    assert files.sizes(["samples.csv"]) == [len(files.read("samples.csv"))]


def test_nobody_listens() -> None:
    with http_server(Path()) as server:
        url = server.url
    with pytest.MonkeyPatch.context() as patch:
        lose_patience(patch, 0.1)
        with pytest.raises(WorkError, match=f"^{url}/manifest.json: no answer") as met:
            read_shards(url)
    assert "\n" not in str(met.value)


def test_checks_of_a_folder_hold_for_a_url(server: Server, shards_dir: Path) -> None:
    faults = {
        "manifest.json": (404, r"no finished shards \(no manifest.json\)"),
        "samples.csv": (b"x", "samples.csv: damaged; upload"),
        "labeled-val-000000.tar": (404, "labeled-val-000000.tar: missing; upload it again"),
    }
    for spoilt, (fault, message) in faults.items():
        server.fault = lambda name, span, number, spoilt=spoilt, fault=fault: (  # type: ignore[misc]
            fault if name == spoilt else None
        )
        with pytest.raises(InputError, match=message):
            read_shards(server.url, "cache")


def same(one: Shards, other: Shards) -> bool:
    pairs = zip(read_split(one, "val", 5), read_split(other, "val", 5, 2), strict=True)
    return all(torch.equal(a.images, b.images) for a, b in pairs)


def test_a_folder_as_a_url(shards: Shards, shards_dir: Path) -> None:
    assert same(shards, read_shards(shards_dir.as_uri(), "cache"))


def test_an_s3_server(shards: Shards, shards_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch) as client:
        for path in shards_dir.iterdir():
            if path.is_file():
                client.upload_file(str(path), "farm", f"packed/shards/{path.name}")
        far = read_shards("s3://farm/packed/shards/", "cache")
        assert far.folder == "s3://farm/packed/shards" and same(shards, far)
        samples = salakseg.webdataset("s3://farm/packed/shards", "val")
        loader = DataLoader(samples, batch_size=None, num_workers=2)
        seen = {described["key"] for _, _, described in loader}
        assert seen == set(shards.split("val").key)
        with pytest.raises(InputError, match="s3://farm/other: no finished shards"):
            read_shards("s3://farm/other")
        # Another set of the same names: nothing of the first is taken for it.
        content = bytearray((shards_dir / "labeled-val-000000.tar").read_bytes())
        content[4000:4100] = bytes(100)
        client.put_object(Bucket="farm", Key="packed/shards/labeled-val-000000.tar", Body=content)
        shutil.rmtree("cache")
        with pytest.raises(InputError, match=r"^s3://farm/.*-val-000000.tar: is not what"):
            same(shards, read_shards("s3://farm/packed/shards", "cache"))
