"""Real servers on loopback: of HTTP, of a folder, that fails as networks do; and of S3."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pytest

from salakseg import bucket

# Called for each request with the name, the range and its number, from 0; what it gives is a fault:
# a status, "cut", "silent", bytes to send instead, or None.
Fault = Callable[[str, "tuple[int, int] | None", int], Any]


class Server:
    """Where it is, what was asked of it: (method, name, range), and the fault that it makes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str, tuple[int, int] | None]] = []
        self.fault: Fault = lambda name, span, number: None
        self.ranges = True

    def fetched(self) -> list[tuple[str, tuple[int, int] | None]]:
        """What was asked for of the tars."""
        return [(name, span) for how, name, span in self.asked if how == "GET" and ".tar" in name]


def lose_patience(monkeypatch: pytest.MonkeyPatch, after: float) -> None:
    """Let who reads ask again soon, and for so many seconds only."""
    monkeypatch.setattr(bucket, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(bucket, "PATIENCE", after)


@contextmanager
def http_server(folder: Path, latency: float = 0.0, rate: float | None = None) -> Iterator[Server]:
    """Serve a folder: after `latency` seconds, at `rate` bytes a second and connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def _answer(self, with_content: bool) -> None:
            time.sleep(latency)
            name = unquote(self.path.partition("?")[0].lstrip("/"))
            span = None
            if server.ranges and (asked := re.match(r"bytes=(\d+)-(\d+)", self._range())):
                span = int(asked[1]), int(asked[2]) + 1
            number = len(server.asked)
            server.asked.append((self.command, name, span))
            fault = server.fault(name, span, number)
            path = folder / name
            if isinstance(fault, int) or not path.is_file():
                self.send_response(fault if isinstance(fault, int) else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            with path.open("rb") as file:
                size = path.stat().st_size
                start, end = span or (0, size)
                file.seek(start)
                content = file.read(end - start) if with_content else b""
            if isinstance(fault, bytes):
                content = fault
            length = len(content) if with_content else size
            self.send_response(206 if span else 200)
            if span:
                self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
            self.end_headers()
            if fault == "cut":
                self.wfile.write(content[: length // 2])
                self.close_connection = True
            elif fault == "silent":
                self.wfile.flush()
                time.sleep(1)
                self.close_connection = True
            else:
                self._send(content)

        def _send(self, content: bytes) -> None:
            began, sent = time.monotonic(), 0
            step = len(content) if rate is None else 1 << 18
            while sent < len(content):
                self.wfile.write(memoryview(content)[sent : sent + step])
                sent += step
                if rate is not None:
                    time.sleep(max(0.0, began + sent / rate - time.monotonic()))

        def _range(self) -> str:
            return self.headers.get("Range", "")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Threads(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Threads(("127.0.0.1", 0), Handler) as listening:
        server = Server(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()


@contextmanager
def s3_server(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server that the environment tells of, with a bucket `farm`: its boto3 client."""
    for package in ("s3fs", "flask", "flask_cors"):
        pytest.importorskip(package)
    # It keeps whom it has talked to, whatever the environment says later.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    moto, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    s3 = moto.ThreadedMotoServer(port=0, verbose=False)
    s3.start()
    try:
        host, port = s3.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="farm")
        yield client
    finally:
        s3.stop()
