#!/usr/bin/env bash
# One NULL turns a whole-number column into float64: ids above 2^53 become other ids, while the file's type still reads int64.
# Guess: an Integer64 column comes as integers, or the NULL as an error; at least the numbers stay.
# Seen:  pyogrio==0.13.0 (GDAL 3.12.4), shapely==2.2.0, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11:
#        9007199254740993 is read as 9007199254740992.0; meta["dtypes"] says int64.
# Matters: parcel numbers no longer join. Works: ids as text.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q pyogrio==0.13.0 shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np, pyogrio, shapely

boxes = shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)]))
ids = np.array([9007199254740993, 5], np.int64)
seen = []
for name, more in (("whole", {}), ("null", {"field_mask": [np.array([False, True])]})):
    pyogrio.raw.write(f"{name}.gpkg", boxes, [ids], ["parcel"], geometry_type="Polygon", crs="EPSG:32633", **more)
    meta, _, _, (column,) = pyogrio.raw.read(f"{name}.gpkg")
    seen.append((str(column.dtype), int(column[0]), str(meta["dtypes"][0])))
    print(name, column.dtype, int(column[0]), "- the file's type:", meta["dtypes"][0])
assert seen == [("int64", 9007199254740993, "int64"), ("float64", 9007199254740992, "int64")]
PY
