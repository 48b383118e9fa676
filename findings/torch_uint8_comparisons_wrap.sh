#!/usr/bin/env bash
# torch compares a uint8 tensor with a Python number after wrapping the number: mask < 256 is False everywhere.
# Guess: comparisons are by value, as in NumPy: labels < 256 and labels >= -1 always hold, labels == 256 never.
# Seen:  torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: "< 256" holds nowhere, ">= -1" and "== -1" for 255
#        alone, "== 256" for class 0; clamp(min=-1) gives 255 everywhere; masked_fill, full and fill_ raise.
# Matters: (labels >= 0) & (labels < 256) leaves nothing; an ignore value of -1 or 256 hits a class. Works: labels.long() first.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch

labels = torch.tensor([0, 1, 44, 255], dtype=torch.uint8)
wide = labels.long()
tests = {"labels < 256": lambda x: x < 256, "labels >= -1": lambda x: x >= -1, "labels == 256": lambda x: x == 256,
         "labels == -1": lambda x: x == -1, "labels == 300": lambda x: x == 300, "torch.isin(labels, 256)": lambda x: torch.isin(x, 256),
         "labels.clamp(min=-1)": lambda x: x.clamp(min=-1)}
seen = {}
for name, f in tests.items():
    seen[name] = f(labels).tolist()
    print(f"{name}: uint8 {seen[name]}, int64 {f(wide).tolist()}, NumPy", "-" if "." in name else f(labels.numpy()).tolist())
no, first, last = [False] * 4, [True, False, False, False], [False, False, False, True]
assert list(seen.values()) == [no, last, first, last, [False, False, True, False], first, [255] * 4]
for f in (lambda: labels.masked_fill(labels == 0, 256), lambda: torch.full((1,), 256, dtype=torch.uint8)):
    try:
        f()
        raise SystemExit("no longer raises")
    except RuntimeError as e:
        print("raises:", str(e).splitlines()[0])
PY
