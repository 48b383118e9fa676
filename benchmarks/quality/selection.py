"""Which photographs to label: `suggest` against random choices, on the same pool and steps.

    python benchmarks/quality/selection.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

The pool is the 48 `train` and `unlabeled` photographs of rotation a of `dubai`
(see methods.py), none of them labelled at first; each arm chooses as many as the budget allows,
the network is trained on their masks (and, with `--method s4gan`, on the other photographs), and
scored on every pixel of the 8 `val` photographs (`miou`), and of all that have no label
(`miou_rest`): these 8 and what is left of the pool, which is what a person wants mapped.

Arms: `random`, and `scene`, one random photograph a scene (at a budget of 8), several draws each;
`coverage`, what `suggest` says without a model or label; `warm`, what it says with a model trained
on the first 4 of these; `entropy`, with that model, the photographs it is most unsure of. Draw n is
trained with seed n; the arms that draw nothing are the same choice with several seeds.

A row a run is appended to `--results`; runs that are there are not done again, an interrupted one
goes on from its checkpoint. One run at a time: `--jobs` is for methods.py. `--coverage-only` trains
nothing: it compares the coverage of the first 8 suggested with that of 300 random choices, of 300
of one photograph a scene, and of the three rotations' `train`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from methods import (
    HERE,
    append_row,
    arguments,
    iou_columns,
    of_split,
    pack,
    photographs,
    split_of,
    trained,
    version,
)

import salakseg
from salakseg.data.shards import read_shards
from salakseg.suggestion.embed import FEATURES, Features, pool_of
from salakseg.suggestion.ranking import even_weights, similarity_table, units_of

ARMS = ("random", "scene", "coverage", "warm", "entropy")
BUDGETS = (4, 8, 16)
DRAWN = ("random", "scene")
FIRST = 4  # labelled before a model is asked
CHOICES = 300
KEY = ["arm", "budget", "draw", "method", "steps", "batch_size", "patch_size", "generator"]


def pool(dubai: Path) -> pd.DataFrame:
    """base_image and scene of the 48."""
    table = split_of(dubai, "a")
    return table[table.split != "val"][["base_image", "scene"]].reset_index(drop=True)


def prepare(options: argparse.Namespace, name: str, labelled: list[str]) -> Path:
    """Shards, their index beside them, where these of the pool have masks and the others none."""
    table = split_of(options.dubai, "a")
    in_pool = table.split != "val"
    table.loc[in_pool, "split"] = "unlabeled"
    table.loc[in_pool & table.base_image.isin(labelled), "split"] = "train"
    return pack(options.dubai, options.work, options.patch_size, name, table)


def suggested(options: argparse.Namespace, count: int) -> list[str]:
    """What `suggest` says where nothing is labelled and nothing trained."""
    shards = prepare(options, "nothing", [])
    return salakseg.suggest(
        index_dir=options.work / "index-nothing",
        shards_dir=shards,
        out=options.work / "suggestions-nothing",
        count=count,
        generator=options.generator,
        encoder_weights=str(options.encoder_weights),
    ).table.base_image.tolist()


def asked(options: argparse.Namespace, count: int, strategy: str) -> list[str]:
    """The first few by coverage, then what a model that was trained on them asks for."""
    first = suggested(options, FIRST)
    shards = prepare(options, "first", first)
    model = trained(options, shards, options.work / f"run-first-{options.steps}", 0, options.method)
    result = salakseg.suggest(
        index_dir=options.work / "index-first",
        shards_dir=shards,
        model=model,
        out=options.work / "suggestions-first",
        count=count - FIRST,
        strategy=strategy,
    )
    return [*first, *result.table.base_image]


def choose(options: argparse.Namespace, arm: str, budget: int, draw: int) -> list[str]:
    """The photographs of an arm."""
    table = pool(options.dubai)
    random = np.random.default_rng(draw)
    if arm == "random":
        return random.permutation(table.base_image)[:budget].tolist()
    if arm == "scene":
        return [str(random.choice(part.base_image)) for _, part in table.groupby("scene")]
    if arm == "coverage":
        return suggested(options, budget)
    return asked(options, budget, "coverage" if arm == "warm" else "entropy")


def train(options: argparse.Namespace, name: str, labelled: list[str], seed: int) -> Path:
    """Train on these photographs; the final model."""
    shards = prepare(options, name, labelled)
    return trained(options, shards, options.work / f"run-{name}", seed, options.method)


def one_run(options: argparse.Namespace, arm: str, budget: int, draw: int) -> None:
    """Choose, train, score, append the row."""
    chosen = choose(options, arm, budget, draw)
    name = f"{arm}-{budget}-{draw}-{options.steps}"
    model = train(options, name, chosen, draw)
    val = of_split(options.dubai, "a", "val")
    rest = sorted({*pool(options.dubai).base_image, *val} - {*chosen})
    score, rest_score = (
        salakseg.evaluate(
            model,
            data=photographs(options.dubai, options.work / folder, some),
            out=options.work / f"eval-{folder}-{name}",
        )
        for folder, some in (("val", val), (f"rest-{name}", rest))
    )
    row = {
        "arm": arm,
        "budget": budget,
        "draw": draw,
        "method": options.method,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "patch_size": options.patch_size,
        "generator": options.generator,
        **iou_columns(score),
        **{f"{key}_rest": value for key, value in iou_columns(rest_score).items()},
        "photographs": " ".join(sorted(chosen)),
        "version": version(),
    }
    append_row(options.results, row)


def todo(options: argparse.Namespace) -> list[tuple[str, int, int]]:
    """The runs that have no row yet."""
    done: set[tuple[str, int, int]] = set()
    if options.results.exists():
        rows = pd.read_csv(options.results)
        for name in KEY[3:]:
            rows = rows[rows[name] == getattr(options, name)]
        done = {(arm, int(b), int(d)) for arm, b, d in rows[KEY[:3]].to_numpy()}
    wanted = [
        (arm, budget, draw)
        for budget in options.budgets
        for arm in options.arms
        for draw in range(options.draws if arm in DRAWN else options.repeats)
        if (arm != "scene" or budget == 8) and (arm not in ("warm", "entropy") or budget > FIRST)
    ]
    return [one for one in wanted if one not in done]


def table(results: Path) -> None:
    """Print each arm's scores, and the share of the random draws that it is above."""
    rows = pd.read_csv(results)
    for setting, group in rows.groupby(["budget", *KEY[3:]]):
        print(", ".join(map(str, setting)))
        for column, what in (("miou", "the 8 val"), ("miou_rest", "all that have no label")):
            print(f"  mIoU on {what}")
            random = group[group.arm == "random"][column]
            for arm, part in group.groupby("arm"):
                better = ""
                if len(random):
                    better = f", above {(part[column].mean() > random).mean():.0%} of random"
                draws = " ".join(f"{score:.3f}" for score in part[column])
                print(f"    {arm:9} {part[column].mean():.4f} of {len(part)}{better}: {draws}")


def coverage_only(options: argparse.Namespace) -> None:
    """Print the coverage of choices of 8, by photograph and by patch."""
    chosen = suggested(options, 8)
    shards = read_shards(options.work / "shards-nothing")
    patches = pool_of(shards)
    values = np.fromfile(options.work / "suggestions-nothing" / FEATURES, np.float16)
    values = values.reshape(len(patches), -1)
    features = Features(patches, values, values.shape[1])
    units = units_of(patches, "base")
    likeness = similarity_table(features, units, features.directions(slice(None)))
    known = pool(options.dubai).set_index("base_image").scene.to_dict()
    scenes = units.base_image.map(known).to_numpy()
    names = units.base_image.to_numpy()
    weights = {unit: even_weights(patches, unit) / len(patches) for unit in ("base", "patch")}

    def coverage(some: np.ndarray) -> list[float]:
        covered = likeness[some].max(0)
        return [float(covered @ weight) for weight in weights.values()]

    random = np.random.default_rng(0)
    by_scene = [np.flatnonzero(scenes == scene) for scene in np.unique(scenes)]
    many = {
        f"{CHOICES} random": [random.permutation(len(names))[:8] for _ in range(CHOICES)],
        f"{CHOICES} of one a scene": [
            np.array([random.choice(rows) for rows in by_scene]) for _ in range(CHOICES)
        ],
    }
    rows = np.flatnonzero(np.isin(names, chosen))
    print(f"suggested: {', '.join(f'{name} (scene {known[name]})' for name in chosen)}")
    print("coverage, each photograph the same | each patch the same")
    own = coverage(rows)
    print(f"  {'suggested':22} {own[0]:.3f}{'':21} | {own[1]:.3f}")
    for name, choices in many.items():
        both = np.array([coverage(some) for some in choices])
        parts = [
            f"{mean:.3f} ± {spread:.3f}, best {best:.3f}"
            for mean, spread, best in zip(both.mean(0), both.std(0), both.max(0), strict=True)
        ]
        print(f"  {name:22} {' | '.join(parts)}")
        below = (both[:, 0] < own[0]).mean()
        print(f"  {'':22} the suggested are above {below:.0%} of these")
    for rotation in "abc":
        split = split_of(options.dubai, rotation)
        some = np.flatnonzero(np.isin(names, split.base_image[split.split == "train"]))
        by_photo, by_patch = coverage(some)
        name = f"rotation {rotation}"
        print(f"  {name:22} {by_photo:.3f}{'':21} | {by_patch:.3f}")


def main() -> None:
    """Parse and run."""
    parser = arguments()
    parser.description = __doc__.splitlines()[0]
    parser.set_defaults(work=Path("selection-work"))
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS)
    parser.add_argument("--draws", type=int, default=5, help="of random and scene")
    parser.add_argument("--repeats", type=int, default=3, help="of the others: another seed")
    parser.add_argument("--method", default="supervised", choices=["supervised", "s4gan"])
    parser.add_argument("--results", type=Path, default=HERE / "results" / "selection.csv")
    parser.add_argument("--coverage-only", action="store_true", help="train nothing")
    options = parser.parse_args()
    # What is made with other settings is of no use to these.
    settings = f"{options.generator}-{options.patch_size}-{options.batch_size}-{options.method}"
    options.work = options.work / settings
    options.work.mkdir(parents=True, exist_ok=True)
    if options.coverage_only:
        coverage_only(options)
        return
    for arm, budget, draw in todo(options):
        one_run(options, arm, budget, draw)
    table(options.results)


if __name__ == "__main__":
    main()
