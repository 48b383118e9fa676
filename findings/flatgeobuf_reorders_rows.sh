#!/usr/bin/env bash
# A FlatGeobuf comes back in another order than it was written in, and so do rows of a GeoPackage that are read by bbox.
# Guess: rows come back in the order in which they were written, as from GeoPackage, GeoJSON and Shapefile.
# Seen:  geopandas==1.2.0, pyogrio==0.13.0 (GDAL 3.12.4), shapely==2.2.0, pandas==3.1.1, pyproj==3.7.2, numpy==2.4.6;
#        Python 3.11, Linux x86-64, 2026-11: FlatGeobuf sorts by its spatial index; a GeoPackage's bbox gives the R-tree's order.
# Matters: predictions joined to plots by position belong to other plots. Works: join by an id; SPATIAL_INDEX="NO".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q geopandas==1.2.0 pyogrio==0.13.0 shapely==2.2.0 pandas==3.1.1 pyproj==3.7.2 numpy==2.4.6
env/bin/python - <<'PY'
import geopandas as gpd, numpy as np, shapely

n = 2000
points = shapely.points(np.random.default_rng(0).uniform(0, 100, (n, 2)))
plots = gpd.GeoDataFrame({"plot": range(n)}, geometry=points, crs="EPSG:32633")
seen = {}
def look(name, frame, shown=8):
    numbers = frame["plot"].to_numpy()
    seen[name] = bool((np.diff(numbers) > 0).all())
    print(f"{name}: {len(numbers)} rows, in the order written: {seen[name]}, begins {numbers[:shown].tolist()}")
for kind in ("gpkg", "geojson", "shp", "fgb"):
    plots.to_file(f"p.{kind}")
    look(kind, gpd.read_file(f"p.{kind}"))
look("gpkg by bbox", gpd.read_file("p.gpkg", bbox=(10, 10, 90, 90)))
look("geojson by bbox", gpd.read_file("p.geojson", bbox=(10, 10, 90, 90)))
plots.to_file("q.fgb", SPATIAL_INDEX="NO")
look("fgb without index", gpd.read_file("q.fgb"))
assert {name for name, ordered in seen.items() if not ordered} == {"fgb", "gpkg by bbox"}
PY
