#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3): a TIFF that could not be read once reads as zeros from then on.
#
# Guess: a read that fails raises; read again, once the network (or the disk) is back, it gives the pixels,
# or raises again.
# Seen: where the failure met the list of the blocks, the same window read again on the same open data set
# gives zeros, which no nodata marks, and no error. Trying again without opening anew makes holes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q rasterio==1.4.4
env/bin/python - 2>&1 <<'PY' | tee out
import io
import warnings

import numpy as np
import rasterio

warnings.simplefilter("ignore")
image = np.random.default_rng(0).integers(1, 255, (1, 1024, 1024), np.uint8)
tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
with rasterio.open("a.tif", "w", driver="GTiff", width=1024, height=1024, count=1, dtype="uint8", **tiles) as out:
    out.write(image)


class File(io.FileIO):
    broken = False

    def read(self, size=-1):
        return b"" if File.broken else super().read(size)


def opener(name, mode="rb", **_):
    if not name.endswith("a.tif"):
        raise FileNotFoundError(name)
    return File("a.tif")


with rasterio.open("far/a.tif", opener=opener) as raster:
    File.broken = True
    try:
        raster.read(1)
        first = "read"
    except rasterio.errors.RasterioIOError:
        first = "raised"
    File.broken = False
    again = raster.read(1)
wrong = again != image[0]
print(first, f"{wrong.sum()} pixels are wrong, all of them {set(again[wrong].tolist())}")
assert first == "raised" and wrong.any() and set(again[wrong].tolist()) == {0}
PY
grep -q raised out
