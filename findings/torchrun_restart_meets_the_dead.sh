#!/usr/bin/env bash
# torch 2.14.1: after a failure, torchrun's new processes read the addresses of the dead ones.
#
# Guess: `--max-restarts` starts a fresh group of processes: what the first one put into the store that
# they find each other by is gone, or of no matter.
# Seen: the store is the agent's, and lives on. Process 1 of the second start, which is a little earlier
# than process 0, finds the address of the first start's process 0 in it and is refused there; with both
# starting at once that happens in about every other try, and some wait until the time is up. A prefix
# of the store of their own for each start (here by the count of restarts; it is not the same on all
# machines) lets the same program go on.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env; env/bin/pip install -q torch==2.14.1 numpy==2.4.6
cat > program.py <<'PY'
import os
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

number, start = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
if start == "1" and number == 0:
    time.sleep(4)
store = None
if sys.argv[1] == "prefix":
    store, _, _ = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(start, store)
named = {} if store is None else {"store": store, "rank": number, "world_size": 2}
dist.init_process_group("gloo", timeout=timedelta(seconds=40), **named)
total = torch.ones(1)
dist.all_reduce(total)
if start == "0":
    if number == 1:
        os._exit(9)
    time.sleep(60)
print(f"start {start}, process {number}: {total.item():g} processes", flush=True)
PY
for store in "the-usual" "prefix"; do
    echo "== $store"
    timeout 120 env/bin/torchrun --nproc-per-node 2 --max-restarts 1 program.py $store > out 2>&1 || true
    grep -o "start 1, .*" out | sort -u || true
    grep -o "connectFullMesh failed\|Connection refused" out | sort -u || true
    grep -c "start 1, process . *: 2 processes" out > "$store" || true
done
[ "$(cat the-usual)" = 0 ] && [ "$(cat prefix)" = 2 ]
