#!/usr/bin/env bash
# np.where(valid, labels, 256) on uint8 labels gives class 0 for what is not valid, without a word.
# Guess: since NumPy 2 a Python integer that the type cannot hold is an OverflowError (or widens the type), here as everywhere.
# Seen:  numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: np.where wraps 256 to 0 and -9999 to 241; arithmetic, minimum,
#        full, place and putmask raise.
# Matters: "a number that no class has" becomes class 0, the background or the first class. Works: labels.astype(np.int64).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q numpy==2.4.6
env/bin/python - <<'PY'
import numpy as np

labels = np.array([0, 1, 2], np.uint8)
valid = labels > 0
for filler in (256, -9999):
    got = np.where(valid, labels, filler)
    print(f"np.where(valid, labels, {filler}):", got.tolist(), got.dtype)
    assert got.dtype == np.uint8 and got.tolist() == [filler % 256, 1, 2]
for name, f in (("labels + 256", lambda: labels + 256), ("np.minimum", lambda: np.minimum(labels, 256)),
                ("np.full", lambda: np.full(3, 256, np.uint8)), ("np.place", lambda: np.place(labels.copy(), ~valid, 256)),
                ("np.putmask", lambda: np.putmask(labels.copy(), ~valid, 256))):
    try:
        print(name, f())
        raise SystemExit(f"{name} no longer raises")
    except OverflowError as e:
        print(name, "raises:", e)
wide = np.where(valid, labels.astype(np.int64), 256)
assert wide.tolist() == [256, 1, 2]
PY
