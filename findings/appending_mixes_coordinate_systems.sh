#!/usr/bin/env bash
# Appending to a GeoPackage writes degrees into a layer of metres, and text into whole numbers, without a word.
# Guess: to_file(mode="a") with another CRS or column type is refused, or converted.
# Seen:  geopandas==1.2.0, pyogrio==0.13.0 (GDAL 3.12.4), shapely==2.2.0, pandas==3.1.1, pyproj==3.7.2, numpy==2.4.6;
#        Python 3.11, Linux x86-64, 2026-11: (15.0, 52.3) degrees stand in EPSG:32633 as metres, with an area of 1e-8;
#        zone "7b" becomes 7, "north" becomes 0. No warning; only an unknown column is an error.
# Matters: zones of a second field lie at the equator and count no pixels. Works: to_crs(layer's CRS) and compare dtypes first.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q geopandas==1.2.0 pyogrio==0.13.0 shapely==2.2.0 pandas==3.1.1 pyproj==3.7.2 numpy==2.4.6
env/bin/python - <<'PY'
import warnings
import geopandas as gpd, shapely

def frame(number):
    return gpd.GeoDataFrame({"zone": number}, geometry=[shapely.box(500000, 5800000, 500010, 5800010)] * len(number), crs="EPSG:32633")
frame([1]).to_file("zones.gpkg")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    frame([2]).to_crs("EPSG:4326").to_file("zones.gpkg", mode="a")
    frame(["7b", "north"]).to_file("zones.gpkg", mode="a")
back = gpd.read_file("zones.gpkg")
print(back.crs.to_string(), "- warnings:", [str(w.message) for w in caught])
for zone, shape in zip(back["zone"], back.geometry):
    print(f"zone {zone}: from {shape.bounds[0]:.4f}, {shape.bounds[1]:.4f}; area {shape.area:.3g}")
assert back.crs.to_epsg() == 32633 and not caught
assert back["zone"].tolist() == [1, 2, 7, 0]
assert abs(back.area[0] - 100) < 1e-6 and back.area[1] < 1e-6 and abs(back.geometry[1].bounds[0] - 15) < 1e-3
PY
