#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3): GDAL_HTTP_MAX_RETRY does not retry a connection that breaks.
#
# Guess: with retries set, an answer that stops in the middle is asked for again, as a 503 is.
# Seen: a 503 is; of half an answer the read fails at once, and the error names neither HTTP nor the
# network: "TIFFFillTile: Read error … got N bytes, expected M".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q rasterio==1.4.4
env/bin/python - <<'PY'
import re
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import rasterio

warnings.simplefilter("ignore")
image = np.random.default_rng(0).integers(1, 255, (1, 2048, 2048), np.uint8)
tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
with rasterio.open("a.tif", "w", driver="GTiff", width=2048, height=2048, count=1, dtype="uint8", **tiles) as out:
    out.write(image)
content = open("a.tif", "rb").read()
asked = []


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(0, len(content), False)

    def do_GET(self):
        start, end = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        asked.append(start)
        fault = self.path.partition("?")[2] if len(asked) == 2 else ""
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer(start, min(end + 1, len(content)), fault == "half")

    def answer(self, start, end, half):
        self.send_response(206 if self.command == "GET" else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start : (start + end) // 2 if half else end])
            self.close_connection = half

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for fault in ("503", "half"):
    asked.clear()
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": 5, "GDAL_HTTP_RETRY_DELAY": 0.1}
    try:
        with rasterio.Env(**options), rasterio.open(f"http://127.0.0.1:{server.server_port}/a.tif?{fault}") as raster:
            seen[fault] = bool((raster.read() == image).all())
    except rasterio.errors.RasterioIOError as error:
        while error.__cause__ is not None:
            error = error.__cause__
        seen[fault] = str(error)
print(seen)
assert seen["503"] is True and "expected" in seen["half"] and "HTTP" not in seen["half"]
PY
