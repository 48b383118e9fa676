#!/usr/bin/env bash
# Reading a GeoPackage that has dataset metadata writes FILE.gpkg.aux.xml beside it, and the next file of that name inherits it.
# Guess: reading changes nothing in the folder, and a file that is written anew has the metadata that it was given: none.
# Seen:  pyogrio==0.13.0 (GDAL 3.12.4), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: list_layers or read
#        copies the metadata into FILE.gpkg.aux.xml; FILE.gpkg removed and written again, without any, says "model: old".
# Matters: results named by the wrong model; folders that change by being read. Works: layer_metadata, or remove the .aux.xml.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pyogrio==0.13.0 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import os
import numpy as np, pyogrio, shapely

def write(name, **more):
    pyogrio.raw.write(name, shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)])), [np.array([1])], ["class"],
                      driver="GPKG", geometry_type="Polygon", crs="EPSG:32633", **more)
def here():
    return sorted(n for n in os.listdir() if n.startswith("map"))

write("map.gpkg", dataset_metadata={"model": "old"})
before = here()
pyogrio.list_layers("map.gpkg")
after = here()
os.remove("map.gpkg")
write("map.gpkg")
inherited = pyogrio.read_info("map.gpkg")["dataset_metadata"]
print(before, "after list_layers", after, "- removed and written again without metadata:", inherited)
assert before == ["map.gpkg"] and after == ["map.gpkg", "map.gpkg.aux.xml"] and inherited == {"model": "old"}

for name in here():
    os.remove(name)
write("map.gpkg", layer_metadata={"model": "new"})
pyogrio.list_layers("map.gpkg")
print("layer_metadata:", here(), pyogrio.read_info("map.gpkg")["layer_metadata"])
assert here() == ["map.gpkg"] and pyogrio.read_info("map.gpkg")["layer_metadata"]["model"] == "new"
PY
