#!/usr/bin/env bash
# The polygons of GDAL's polygonize are each valid and no valid coverage; coverage_simplify takes them without a word.
# Guess: areas cut out along the same pixel edges share their vertices, so shapely's coverage functions hold for them.
# Seen:  rasterio==1.4.4 (GDAL 3.10.3), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: where three areas
#        meet, the one whose side is straight has no vertex there. Simplified, it is no valid coverage either;
#        coverage_union_all raises TopologyException for one of two maps.
# Matters: to whoever simplifies or dissolves class polygons as a coverage. Works: node the boundaries, polygonize again.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q rasterio==1.4.4 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np, shapely
from rasterio.features import shapes
from shapely.geometry import shape

three = np.zeros((40, 40), np.uint8)
three[20:] = 1
three[20:, 20:] = 2                                               # three rectangles that meet in one point
y, x = np.mgrid[:200, :200]
waves = ((x + 20 * np.sin(y / 9)) // 60).astype(np.uint8)
waves[(y - 100) ** 2 + (x - 100) ** 2 < 2500] = 5
for name, labels in (("three rectangles", three), ("waves", waves)):
    raw = np.array([shape(g) for g, _ in shapes(labels, connectivity=4)])
    noded = np.array(shapely.polygonize([shapely.node(shapely.union_all(shapely.boundary(raw)))]).geoms)
    assert shapely.is_valid(raw).all() and len(raw) == len(noded)
    for kind, p in (("as they are", raw), ("noded", noded)):
        valid, simple = shapely.coverage_is_valid(p), shapely.coverage_is_valid(shapely.coverage_simplify(p, 3))
        try:
            union = shapely.coverage_union_all(p).area
        except shapely.errors.GEOSException as e:
            union = str(e).split(":")[0]
        print(f"{name}, {len(p)} polygons, {kind}: valid coverage {valid}, simplified {simple}, union {union}")
        assert valid == simple == (kind == "noded")
        assert union == (labels.size if (name, kind) != ("three rectangles", "as they are") else "TopologyException")
PY
