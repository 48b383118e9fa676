#!/usr/bin/env bash
# fsspec 2026.9.0 over HTTP: a server that is overloaded for a moment is a file that does not exist.
#
# Guess: `exists` says False for 404 alone; on 503 or a cut connection `exists` and `info` raise, as
# `cat_file` does, so that one may try again.
# Seen: on 503 `info` raises FileNotFoundError, and `exists` says False. And `cat_file(url, 0, 2)` of a
# server that does not know ranges gives the whole file instead of two bytes, without a word. A loader that
# takes absence for an answer goes on without the data.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q fsspec==2026.9.0 aiohttp==3.13.3
env/bin/python - <<'PY'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec

CONTENT = b"0123456789"


class Server(BaseHTTPRequestHandler):
    def answer(self, body):
        busy = self.path == "/busy"
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", str(0 if busy else len(CONTENT)))
        self.end_headers()
        if body and not busy:
            self.wfile.write(CONTENT)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
files, root = fsspec.filesystem("http"), f"http://127.0.0.1:{server.server_port}"


def told(act):
    try:
        return act()
    except Exception as error:
        return type(error).__name__


seen = {
    "exists, 503": told(lambda: files.exists(f"{root}/busy")),
    "info, 503": told(lambda: files.info(f"{root}/busy")),
    "cat_file, 503": told(lambda: files.cat_file(f"{root}/busy")),
    "cat_file(0, 2)": told(lambda: files.cat_file(f"{root}/file", 0, 2)),
}
print(seen)
assert seen["exists, 503"] is False and seen["info, 503"] == "FileNotFoundError", seen
assert seen["cat_file, 503"] == "ClientResponseError" and seen["cat_file(0, 2)"] == CONTENT, seen
PY
