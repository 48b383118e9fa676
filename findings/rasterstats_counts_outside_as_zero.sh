#!/usr/bin/env bash
# rasterstats.zonal_stats counts the part of a zone that lies outside the raster as pixels of value 0 where the raster has no nodata tag.
# Guess: what is outside is not counted: it says itself "Setting nodata to -999", so outside is -999.
# Seen:  rasterstats==0.21.0, rasterio==1.4.4 (GDAL 3.10.3), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64,
#        2026-11: of a zone a quarter inside 75 of 100 pixels are class 0, of one wholly outside all 25; uint8, int16
#        and float32; nodata= given by hand changes nothing.
# Matters: fields at the edge of a map get hectares of class 0, and means of heights go to 0. Works: a nodata tag in the
#        raster; exactextract.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterstats==0.21.0 rasterio==1.4.4 shapely==2.2.0 numpy==2.4.6
env/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterstats import zonal_stats

ZONES = {"inside": shapely.box(2, 2, 7, 7), "a quarter": shapely.box(5, -5, 15, 5), "outside": shapely.box(20, 20, 25, 25)}


def counted(dtype, tag=None, **given):
    with rasterio.open(
        "map.tif", "w", driver="GTiff", height=10, width=10, count=1, dtype=dtype, nodata=tag,
        crs="EPSG:32748", transform=from_origin(0, 10, 1, 1),
    ) as raster:
        raster.write(np.full((1, 10, 10), 3, dtype))  # class 3 everywhere
    found = zonal_stats(list(ZONES.values()), "map.tif", categorical=True, stats="count", **given)
    return [{int(k): v for k, v in one.items() if k != "count"} for one in found]


for dtype in ("uint8", "int16", "float32"):
    for given in ({}, {"nodata": 255}):
        seen = counted(dtype, **given)
        print(dtype, given, dict(zip(ZONES, seen)))
        assert seen == [{3: 25}, {0: 75, 3: 25}, {0: 25}]
    assert counted(dtype, tag=255) == [{3: 25}, {3: 25}, {}]
PY
