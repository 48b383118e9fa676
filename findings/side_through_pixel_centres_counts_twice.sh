#!/usr/bin/env bash
# Two zones whose common east-west side runs through pixel centres both get that row; with a north-south side they share out.
# Guess: a pixel is in the polygon that holds its centre, so adjoining zones share the pixels, whichever way the side runs.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: 60 + 50 of 100 pixels
#        where the side is y = 4.5, 50 + 50 where it is x = 4.5.
# Matters: plots drawn on a coarser grid (half pixels) get a row too much; their sums exceed the field.
#        Works: burn all zones into one array (rasterize with numbers), where the later zone wins.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np, shapely
from rasterio.features import geometry_mask, rasterize
from rasterio.transform import from_origin

transform = from_origin(0, 10, 1, 1)                                          # 10 x 10 pixels of 1 m
def count(zone):
    return int(geometry_mask([zone], (10, 10), transform, invert=True).sum())
seen = {}
for name, zones in (("y = 4.5", [shapely.box(0, 4.5, 10, 10), shapely.box(0, 0, 10, 4.5)]),
                    ("x = 4.5", [shapely.box(0, 0, 4.5, 10), shapely.box(4.5, 0, 10, 10)]),
                    ("y = 4.6", [shapely.box(0, 4.6, 10, 10), shapely.box(0, 0, 10, 4.6)])):
    once = rasterize([(zones[0], 1), (zones[1], 2)], (10, 10), transform=transform)
    seen[name] = sum(map(count, zones)), int((once > 0).sum())
    print(f"side {name}: {count(zones[0])} + {count(zones[1])} = {seen[name][0]} of 100 pixels; burnt into one array {seen[name][1]}")
assert seen == {"y = 4.5": (110, 100), "x = 4.5": (100, 100), "y = 4.6": (100, 100)}
PY
