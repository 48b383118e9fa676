#!/usr/bin/env bash
# webdataset: shardshuffle=N takes the shards in one and the same order in every epoch; .shuffle(N) in an order that no seed repeats.
# Guess: the shards are drawn anew each epoch, and seed= (or random.seed, torch.manual_seed) makes a run's order come again.
# Seen:  webdataset==1.0.2, torch==2.14.1, numpy==2.4.6; Python 3.11, Linux x86-64, 2026-11: one order of shards in three
#        epochs, with and without seed=, with workers too; with detshuffle=True in workers that are not persistent;
#        samples in another order in each process, whatever is seeded. .shuffle(N, seed=0): one order in all epochs.
# Matters: a set larger than the buffer is learnt in one order, and no run can be repeated. Works: in each epoch
#        wds.shuffle(N, seed=int(torch.randint(1 << 62, ()))), as workersplitter= and in compose().
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv env
env/bin/pip install -q webdataset==1.0.2 torch==2.14.1 numpy==2.4.6
cat > seen.py <<'PY'
import random
import sys
import warnings

import numpy as np
import torch
import webdataset as wds

warnings.simplefilter("ignore")
random.seed(0), np.random.seed(0), torch.manual_seed(0)
tars = [f"{name}.tar" for name in "abcdefgh"]


def epochs(samples):
    return ["".join(sample["__key__"] for sample in samples) for _ in range(3)]


def workers(dataset):
    return wds.WebLoader(dataset, batch_size=None, num_workers=2)


if sys.argv[1:] == ["samples"]:
    print(*epochs(wds.WebDataset(tars, shardshuffle=False, seed=0).shuffle(8)))
else:
    for name in "abcdefgh":
        with wds.TarWriter(f"{name}.tar") as tar:
            tar.write({"__key__": name, "txt": name})
    for asked in ({}, {"seed": 5}):
        once = wds.WebDataset(tars, shardshuffle=100, **asked)
        for what, seen in (("here", epochs(once)), ("in workers", epochs(workers(once)))):
            print("shards,", asked or "no seed", what, *seen)
            assert len(set(seen)) == 1 and seen[0] != "abcdefgh"
    deterministic = wds.WebDataset(tars, shardshuffle=100, detshuffle=True, seed=5)
    here, there = epochs(deterministic), epochs(workers(deterministic))
    print("shards, detshuffle here", *here, "in workers", *there)
    assert len(set(here)) == 3 and len(set(there)) == 1
    seeded = epochs(wds.WebDataset(tars, shardshuffle=False).shuffle(8, seed=0))
    print("samples, shuffle(8, seed=0)", *seeded)
    assert len(set(seeded)) == 1
PY
env/bin/python seen.py
first=$(env/bin/python seen.py samples); again=$(env/bin/python seen.py samples)
printf 'samples, all seeds 0: %s\nin another process:   %s\n' "$first" "$again"
[ "$first" != "$again" ]
