#!/usr/bin/env bash
# A disk that fills at the end of a FlatGeobuf or GeoJSON is no error: the file is cut off, and the FlatGeobuf still tells all of its rows.
# Guess: what does not fit on the disk is an error, whichever byte it is.
# Seen:  pyogrio==0.13.0 (GDAL 3.12.4), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: what is left in the
#        buffer when the file is closed is lost in silence; read_info says 4000 features, reading the last one fails.
#        (A GeoPackage has all of its rows then, and no spatial index.)
# Matters: a cut file takes the place of a good one, and is found out weeks later. Works: read the last feature after writing.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pyogrio==0.13.0 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import os, resource
import numpy as np, pyogrio, shapely

x, y = np.random.default_rng(0).uniform(0, 100, (2, 4000))
boxes = shapely.to_wkb(shapely.box(x, y, x + 1, y + 1))
def write(name):
    pyogrio.raw.write(name, boxes, [np.arange(4000)], ["plot"], geometry_type="Polygon", crs="EPSG:32633")

silent = set()
for kind in ("geojson", "fgb"):
    write(f"p.{kind}")
    size = os.path.getsize(f"p.{kind}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, before[1]))  # a disk with 100 bytes too few
    try:
        write(f"q.{kind}")
        silent.add(kind)
    except Exception as error:
        print(f"{kind}: {error}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
print("no error:", sorted(silent), "- the FlatGeobuf tells of", pyogrio.read_info("q.fgb")["features"], "features")
try:
    pyogrio.raw.read("q.fgb", skip_features=3999)
except Exception as error:
    print("its last one:", error)
assert silent == {"fgb", "geojson"}, silent
PY
