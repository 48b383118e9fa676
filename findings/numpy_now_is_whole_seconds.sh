#!/usr/bin/env bash
# np.datetime64("now", "ms") is the second that began last: its milliseconds are zero, and so are those of "us" and "ns".
# Guess: the unit that is asked for is that of the clock that is read.
# Seen:  numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: always .000, up to a second before what happened before it.
# Matters: stamps sort wrongly beside those of other clocks ("changed since it was written?"). Works: np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ms").
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q numpy==2.4.6
env/bin/python - <<'PY'
import time
import numpy as np

seen = []
for _ in range(5):
    time.sleep(0.3)
    clock, now = time.time(), np.datetime64("now", "ms")
    seen.append(int(now.astype(np.int64)))
    print(now, f"- the clock said {clock % 60:06.3f}")
assert all(milliseconds % 1000 == 0 for milliseconds in seen)
PY
