#!/usr/bin/env bash
# Under autocast(bfloat16) a confidence is exactly 1 from a logit of about 6.2 on, and .float() before the sigmoid does not mend it.
# Guess: a float32 model's sigmoid under autocast gives three digits; .float() before thresholds is enough.
# Seen:  torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: of 600 logits from 3 to 9, 13 different
#        probabilities, 46 % exactly 1; with .float() before the sigmoid 209, because the last layer has rounded already.
# Matters: thresholds by quantile take whole ties, "the most certain 20 %" is an arbitrary set. Works: the last layer
#        with autocast off.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q torch==2.14.1 numpy==2.4.6
env/bin/python - <<'PY'
import torch

logits = torch.linspace(3, 9, 600)[:, None]
layer = torch.nn.Linear(1, 1)                                  # a last layer that hands its input through
torch.nn.init.ones_(layer.weight)
torch.nn.init.zeros_(layer.bias)
with torch.no_grad():
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(logits)
        inside = rounded.sigmoid().float()
        with torch.autocast("cpu", enabled=False):
            outside = layer(logits).sigmoid()
    after = rounded.float().sigmoid()
seen = {}
for name, p in (("sigmoid under autocast", inside), (".float() before sigmoid", after), ("last layer with autocast off", outside)):
    seen[name] = p.unique().numel(), round((p == 1).float().mean().item(), 2)
    print(f"{name}: {seen[name][0]} different of 600, exactly 1: {seen[name][1]:.0%}")
assert rounded.dtype == torch.bfloat16
assert list(seen.values()) == [(13, 0.46), (209, 0.0), (600, 0.0)]
PY
