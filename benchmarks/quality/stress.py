"""What becomes of self-training where labels are few, wrong or lopsided.

    python benchmarks/quality/stress.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

On the photographs at a third of their size (`methods.py --setting small`), `val` those of the
rotation, every other photograph without a label unlabelled. Cases:

- `rare`: vegetation is cut to 0.5 % of the labelled pixels, the rest of it has no class;
- `wrong`: every tenth labelled polygon has a wrong class;
- `one-scene`, `two-scenes`, `three-scenes`: six photographs are labelled, of so many scenes;
- `4`, `8`, `16`: as many photographs are labelled, drawn at random.

Arms: those of `methods.py`, `s4gan without PART, PART` too.

A row a run is appended to `--results`: mIoU on `val` and on all photographs without a label, and
what the run's doctor said. At the end: each case's gains over `supervised`.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from methods import (
    HERE,
    SETTINGS,
    append_row,
    arguments,
    gains,
    iou_columns,
    method_of,
    of_split,
    pack,
    photographs,
    rotation_of,
    shrunk,
    split_of,
    trained,
    version,
)
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import salakseg

ARMS = ("supervised", "s4gan-paper", "s4gan")
RARE, WRONG = "rare", "wrong"
# How many photographs of how many scenes are labelled.
OF_SCENES = {"one-scene": (6, 1), "two-scenes": (3, 2), "three-scenes": (2, 3)}
CASES = (RARE, WRONG, *OF_SCENES, "4", "8", "16")
RARE_CLASS, RARE_SHARE, WRONG_SHARE = "Vegetation", 0.005, 0.1
SMALLEST = 50  # pixels of a polygon that may be wrong or kept
KEY = ["case", "arm", "run", "steps", "generator"]


def colors(dubai: Path) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """The colour of each class, and that of no class."""
    table = pd.read_csv(dubai / "class_mapping.csv", keep_default_na=False)
    of = {
        name: tuple(map(int, color.split()))
        for name, color in zip(table.class_name, table.class_color, strict=True)
    }
    ignored = table.class_name[table.ignore == "yes"].item()
    nothing = of.pop(ignored)
    return of, nothing


def polygons(mask: NDArray[np.uint8], color: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    """The connected areas of a colour."""
    numbered, count = ndimage.label((mask == color).all(2))
    return [numbered == i for i in range(1, count + 1)]


def cut_to_rare(masks: list[NDArray[np.uint8]], dubai: Path, draw: np.random.Generator) -> None:
    """Leave of one class polygons, cut off, of 0.5 % of all pixels with a class."""
    of, nothing = colors(dubai)
    labelled = sum(int((mask != nothing).any(2).sum()) for mask in masks)
    left = int(RARE_SHARE * labelled)
    areas = [(mask, area) for mask in masks for area in polygons(mask, of[RARE_CLASS])]
    for i in draw.permutation(len(areas)):
        mask, area = areas[i]
        places = np.argwhere(area)
        kept = min(left, len(places)) if len(places) >= SMALLEST else 0
        left -= kept
        rows, columns = places[kept:].T
        mask[rows, columns] = nothing


def make_wrong(masks: list[NDArray[np.uint8]], dubai: Path, draw: np.random.Generator) -> None:
    """Give every tenth polygon another class."""
    of, _ = colors(dubai)
    for mask in masks:
        areas = [(name, area) for name in of for area in polygons(mask, of[name])]
        areas = [(name, area) for name, area in areas if area.sum() >= SMALLEST]
        for name, area in areas:
            if draw.random() < WRONG_SHARE:
                mask[area] = of[draw.choice([other for other in of if other != name])]


def labelled_in(dubai: Path, case: str, run: int) -> list[str]:
    """The photographs that have a mask in a case."""
    table = split_of(dubai, rotation_of(run))
    pool = table[table.split != "val"]
    if case in OF_SCENES:
        photos, count = OF_SCENES[case]
        scenes = np.roll(sorted(pool.scene.unique()), -run)[:count]
        some = pool[pool.scene.isin(scenes)].groupby("scene").head(photos)
        return some.base_image.tolist()
    if case.isdigit():
        return np.random.default_rng(run).permutation(pool.base_image)[: int(case)].tolist()
    return pool.base_image[pool.split == "train"].tolist()


def prepare(options: argparse.Namespace, case: str, run: int) -> Path:
    """The shards of a case, made once, of photographs with the masks that it has."""
    name = f"{case}-{run}"
    shards: Path = options.work / f"shards-{name}"
    if (shards / "manifest.json").exists():
        return shards
    table = split_of(options.dubai, rotation_of(run))
    chosen = labelled_in(options.dubai, case, run)
    table["split"] = table.split.where(table.split == "val", "unlabeled")
    table.loc[table.base_image.isin(chosen), "split"] = "train"
    folder = options.work / f"photographs-{name}"
    photographs(options.dubai, folder, table.base_image)
    files = [folder / "masks" / f"{photo}.png" for photo in chosen]
    masks = [np.array(Image.open(file).convert("RGB")) for file in files]
    change = {RARE: cut_to_rare, WRONG: make_wrong}.get(case)
    if change is not None:
        change(masks, options.dubai, np.random.default_rng(run))
    for file, mask in zip(files, masks, strict=True):
        Image.fromarray(mask).save(file)
    work = options.work / f"packed-{name}"
    made = pack(folder, work, options.patch_size, "all", table)
    shutil.move(made, shards)
    return shards


def one_run(options: argparse.Namespace, case: str, arm: str, run: int) -> None:
    """Train an arm in a case, score its final weights, append the row."""
    shards = prepare(options, case, run)
    folder = options.work / f"{case}-{arm.replace(' ', '-')}-{run}-{options.steps}"
    model = trained(options, shards, folder, run, *method_of(arm))
    val = of_split(options.dubai, rotation_of(run), "val")
    everything = split_of(options.dubai, rotation_of(run)).base_image
    rest = sorted({*everything} - {*labelled_in(options.dubai, case, run)})
    score, rest_score = (
        salakseg.evaluate(
            model,
            data=photographs(options.dubai, options.work / name, some),
            out=options.work / f"eval-{name}-{folder.name}",
        )
        for name, some in (
            (f"val-{rotation_of(run)}", val),
            (f"rest-{case}-{run}", rest),
        )
    )
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))["advice"]
    row = {
        "case": case,
        "arm": arm,
        "run": run,
        "steps": options.steps,
        "generator": options.generator,
        **iou_columns(score),
        **{f"{key}_rest": value for key, value in iou_columns(rest_score).items()},
        "advice": " ".join(one["text"] for one in told),
        "version": version(),
    }
    append_row(options.results, row)


def main() -> None:
    """Parse, run what has no row yet, print the gains."""
    parser = arguments()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--runs", nargs="+", type=int, default=[0])
    parser.add_argument("--results", type=Path, default=HERE / "results" / "stress.csv")
    parser.set_defaults(**SETTINGS["small"], work=Path("stress-work"))
    parser.set_defaults(runs=[0])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.dubai = shrunk(options.dubai, options.work / "photographs")
    done: set[tuple[str, str, int]] = set()
    if options.results.exists():
        rows = pd.read_csv(options.results, dtype={"case": str})
        rows = rows[(rows.steps == options.steps) & (rows.generator == options.generator)]
        done = {(c, a, int(r)) for c, a, r in rows[KEY[:3]].to_numpy()}
    for run in options.runs:
        for case in options.cases:
            for arm in options.arms:
                if (case, arm, run) not in done:
                    one_run(options, case, arm, run)
    for case, group in pd.read_csv(options.results, dtype={"case": str}).groupby("case"):
        for column in ("miou", "miou_rest"):
            scored = group.pivot_table(index="run", columns="arm", values=column)
            for arm in scored.columns.drop("supervised"):
                gains(scored[arm] - scored.supervised, f"{case}, {column}: {arm} - supervised")


if __name__ == "__main__":
    main()
