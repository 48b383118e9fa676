"""Claim: a network that sees images larger than they are maps them better.

    python benchmarks/quality/enlarge.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

After `methods.py` with the same `--setting` and `--work`, whose finished models it reads: each is
scored on `val`, on the 40 and on both together with `--enlarge`. Photographs are tiled as `predict`
does. A row a model and size is appended to `--results`; at the end the table: what each size brings
to an arm, and at each size the gains over `supervised`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import pandas as pd
from methods import (
    HERE,
    ORACLE,
    SETTINGS,
    append_row,
    arguments,
    gains,
    of_split,
    photographs,
    rotation_of,
    shrunk,
    together,
    version,
)

import salakseg

ARMS = ("supervised", "s4gan", ORACLE)
SIZES = (1.0, 1.5)
KEY = ["arm", "run", "enlarge", "steps", "patch_size", "generator"]


def score(options: argparse.Namespace, arm: str, run: int, size: float) -> dict[str, Any]:
    """The row of one model at one size."""
    rotation, found = rotation_of(run), {}
    model = options.work / f"{arm}-{run}-{options.steps}" / "final_model.pth"
    for split in ("val", "unlabeled"):
        if split == "val" or arm != ORACLE:
            names = of_split(options.dubai, rotation, split)
            found[split] = salakseg.evaluate(
                model,
                data=photographs(options.dubai, options.work / f"{split}-{rotation}", names),
                out=options.work / f"eval-enlarge-{os.getpid()}",
                enlarge=size,
            )
    return {
        "arm": arm,
        "run": run,
        "enlarge": size,
        "steps": options.steps,
        "patch_size": options.patch_size,
        "generator": options.generator,
        "miou": f"{found['val']['miou']:.4f}",
        **together(found),
        "version": version(),
    }


def table(rows: pd.DataFrame) -> None:
    """Print what each size brings to each arm, and at each size what each arm brings."""
    for column in ("miou", "miou_48"):
        scored = rows.pivot_table(index="run", columns=["arm", "enlarge"], values=column)
        print(f"\n{column}, run by run\n{scored.T.round(4).to_string(na_rep='')}")
        for arm, size in scored.columns:
            if size != 1 and (arm, 1) in scored:
                gains(scored[arm, size] - scored[arm, 1], f"{arm}, enlarged {size:g} times - not")
            if arm == "s4gan" and ("supervised", size) in scored:
                other = scored["supervised", size]
                gains(scored[arm, size] - other, f"s4gan - supervised, enlarged {size:g} times")


def main() -> None:
    """Parse, score what has no row yet, print the table."""
    parser = arguments()
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--runs", nargs="+", type=int)
    parser.add_argument("--sizes", nargs="+", type=float, default=list(SIZES))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "enlarge.csv")
    parser.set_defaults(**SETTINGS[parser.parse_args().setting])
    options = parser.parse_args()
    if options.setting == "small":
        options.dubai = shrunk(options.dubai, options.work / "photographs")
    done: set[tuple[Any, ...]] = set()
    if options.results.exists():
        done = set(pd.read_csv(options.results)[KEY].itertuples(index=False, name=None))
    for run in options.runs:
        for arm in options.arms:
            for size in options.sizes:
                key = arm, run, size, options.steps, options.patch_size, options.generator
                if key not in done:
                    append_row(options.results, score(options, arm, run, size))
    rows = pd.read_csv(options.results)
    for _, same in rows.groupby(KEY[3:]):
        table(same)


if __name__ == "__main__":
    main()
