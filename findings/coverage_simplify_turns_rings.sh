#!/usr/bin/env bash
# coverage_simplify turns rings round: an island and the hole that it lies in come back in one direction.
# Guess: simplifying takes vertices away and changes nothing else, so rings go the way they went.
# Seen:  shapely==2.2.0 (GEOS 3.14.1), numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: the edge that two polygons share
#        is kept once, in the direction of whichever comes first, and given to both.
# Matters: to whoever needs the direction, for RFC 7946 or areas with a sign. Works: orient_polygons afterwards.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q shapely==2.2.0 numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np, shapely

island = shapely.box(4, 4, 6, 6)
around = shapely.orient_polygons(shapely.box(0, 0, 10, 10) - island)
for name, given in (("island first", [island, around]), ("island last", [around, island])):
    simple = shapely.coverage_simplify(np.array(given), 0.1)
    simple = simple if name == "island first" else simple[::-1]
    turns = [["clockwise", "anticlockwise"][int(shapely.is_ccw(ring))] for ring in (simple[0].exterior, simple[1].interiors[0])]
    print(f"{name}: the island goes {turns[0]}, the hole around it {turns[1]}")
    assert turns[0] == turns[1] == ("anticlockwise" if name == "island first" else "clockwise")
PY
