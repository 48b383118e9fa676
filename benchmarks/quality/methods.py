"""What the unlabelled photographs bring: methods compared on the same photographs and steps.

    python benchmarks/quality/methods.py PATH/TO/dubai --encoder-weights efficientnet_lite0.pth

`dubai` holds `images/`, `masks/` and `class_mapping.csv`: 56 photographs, seven of each of eight
scenes. A rotation has one of each scene labelled, one as `val`, the other 40 unlabelled; run n is
rotation n of seven, with seed n. The recipe was chosen on the first three; the other four were run
once, at the end.

Arms: `supervised`; `s4gan-paper`; `s4gan`; `oracle`, supervised with the masks of the 40 too;
`s4gan without PART, PART`. The same network, steps, labelled batch, optimiser, schedule and
augmentation, and each scored by the running mean of its final weights on every pixel of the `val`
photographs, tiled as `predict` does, on the 40 (never tuned on), and on both together.

`--setting small` takes the photographs at a third of their size, patches of 128 pixels and
batches of 8: an iteration sees more ground, so that the oracle gets ahead.

A row a run is appended to `--results`; runs that are there are not done again, an interrupted one
goes on from its checkpoint. At the end it prints the table: means, differences pair by pair with a
95 % interval, and the share of the gap to the oracle that is closed; and draws the same patches of
run 0 under each arm (`--picture`).
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import salakseg
from salakseg.data.shards import read_shards
from salakseg.data.stream import Patches
from salakseg.device import autocast_dtype
from salakseg.imagery.drawing import colorize, contact_sheet
from salakseg.metrics import scores, student_t
from salakseg.model.weights import load_model

# Which of the seven photographs of a scene is labelled, and which is `val`.
ROTATIONS = {
    "a": (0, 6),
    "b": (2, 4),
    "c": (5, 1),
    "d": (1, 2),
    "e": (3, 4),
    "f": (4, 5),
    "g": (6, 0),
}
# The recipe was chosen on the first three runs.
TUNED = 3
ARMS = ("supervised", "s4gan-paper", "s4gan", "oracle")
ORACLE, WITHOUT = "oracle", " without "
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"steps": 300, "batch_size": 4, "patch_size": 192, "runs": [0, 1, 2]},
    "small": {"steps": 400, "batch_size": 8, "patch_size": 128, "runs": list(range(7))},
}
SHRUNK = 3
HERE = Path(__file__).resolve().parent
PICTURED = 5
SCORED = ("miou", "miou_unlabeled", "miou_48")
KEY = ["arm", "run", "steps", "batch_size", "patch_size", "generator"]


def rotation_of(run: int) -> str:
    """The rotation of a run."""
    return list(ROTATIONS)[run % len(ROTATIONS)]


def split_of(dubai: Path, rotation: str) -> pd.DataFrame:
    """base_image, scene and split of the photographs."""
    names = pd.Series(sorted(path.stem for path in (dubai / "images").glob("*.jpg")))
    table = pd.DataFrame({"base_image": names, "scene": names.str.partition("_")[0]})
    place = table.groupby("scene").cumcount()
    labelled, val = ROTATIONS[rotation]
    table["split"] = place.map({labelled: "train", val: "val"}).fillna("unlabeled")
    return table


def shrunk(dubai: Path, folder: Path) -> Path:
    """The photographs and masks at a third of their sides, made once."""
    done = folder / "class_mapping.csv"
    if not done.exists():
        for kind, suffix, filtered in (
            ("images", ".jpg", Image.Resampling.LANCZOS),
            ("masks", ".png", Image.Resampling.NEAREST),
        ):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for path in sorted((dubai / kind).glob(f"*{suffix}")):
                with Image.open(path) as image:
                    size = image.width // SHRUNK, image.height // SHRUNK
                    small = image.convert("RGB").resize(size, filtered)
                small.save(folder / kind / path.name, quality=95)
        shutil.copy(dubai / done.name, done)
    return folder


def pack(dubai: Path, work: Path, patch_size: int, name: str, split: pd.DataFrame) -> Path:
    """The shards of a split (base_image, split) of the photographs; the index is beside them."""
    patches = work / f"patches-{patch_size}"
    file, index, shards = (work / f"{kind}-{name}" for kind in ("split", "index", "shards"))
    salakseg.patchify(dubai, out=patches, size=patch_size)
    split[["base_image", "split"]].to_csv(file, index=False, lineterminator="\n")
    salakseg.index(patches, out=index, split_file=file)
    salakseg.shard(index_dir=index, out=shards)
    return shards


def prepare(dubai: Path, work: Path, patch_size: int, rotation: str, oracle: bool) -> Path:
    """Patches, index and shards of a rotation, once; the folder of the shards."""
    name = f"{rotation}-{patch_size}" + ("-oracle" if oracle else "")
    shards = work / f"shards-{name}"
    if (shards / "manifest.json").exists():
        return shards
    split = split_of(dubai, rotation)
    if oracle:
        split["split"] = split["split"].replace("unlabeled", "train")
    return pack(dubai, work, patch_size, name, split)


def of_split(dubai: Path, rotation: str, split: str) -> list[str]:
    """The photographs of one split of a rotation."""
    table = split_of(dubai, rotation)
    return table.base_image[table.split == split].tolist()


def photographs(dubai: Path, folder: Path, names: Iterable[str]) -> Path:
    """A folder with these full photographs and masks, for `evaluate(data=…)`."""
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(dubai / kind / f"{name}{suffix}", folder / kind)
    shutil.copy(dubai / "class_mapping.csv", folder)
    return folder


def trained(
    options: argparse.Namespace,
    shards: Path,
    folder: Path,
    seed: int,
    method: str,
    without: list[str] | None = None,
) -> Path:
    """Train in `folder`, or finish what is there; its final model."""
    model = folder / "final_model.pth"
    if not model.exists():
        salakseg.train(
            shards_dir=shards,
            checkpoint_dir=folder,
            method=method,
            without=without,
            generator=options.generator,
            encoder_weights=str(options.encoder_weights),
            num_steps=options.steps,
            batch_size=options.batch_size,
            eval_every=options.steps,
            seed=seed,
            resume=(folder / "latest_checkpoint.pth").exists(),
            wandb_mode="disabled",
        )
    return model


def method_of(arm: str) -> tuple[str, list[str] | None]:
    """An arm's method, and the parts that it leaves out."""
    method, _, parts = arm.partition(WITHOUT)
    return "supervised" if arm == ORACLE else method, parts.split(", ") if parts else None


def iou_columns(scores: dict[str, Any]) -> dict[str, str]:
    """mIoU and the IoU of each class, as the results have them."""
    columns = {f"iou {one['class_name']}": f"{one['iou']:.4f}" for one in scores["classes"]}
    return {"miou": f"{scores['miou']:.4f}", **columns}


def together(found: dict[str, Any]) -> dict[str, str]:
    """mIoU on the 40, and the scores on the pixels of these and `val`."""
    if "unlabeled" not in found:
        return {"miou_unlabeled": "", "miou_48": ""}
    confusion = np.sum([one["confusion_matrix"] for one in found.values()], axis=0)
    return {
        "miou_unlabeled": f"{found['unlabeled']['miou']:.4f}",
        "miou_48": f"{scores(confusion).miou:.4f}",
    }


def append_row(results: Path, row: dict[str, Any]) -> None:
    """Add a row to the results, with a header where it is the first."""
    results.parent.mkdir(parents=True, exist_ok=True)
    new = not results.exists()
    with results.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def one_run(options: argparse.Namespace, arm: str, run: int) -> None:
    """Train an arm, score its final weights, append the row."""
    rotation, seed = rotation_of(run), run
    dubai, work = options.dubai, options.work
    shards = prepare(dubai, work, options.patch_size, rotation, arm == ORACLE)
    folder = work / f"{arm.replace(' ', '-')}-{run}-{options.steps}"
    method, without = method_of(arm)
    began = time.monotonic()
    model = trained(options, shards, folder, seed, method, without)
    minutes = (time.monotonic() - began) / 60
    found = {}
    for split in ("val", "unlabeled"):
        if split == "val" or (arm != ORACLE and options.score_unlabeled):
            found[split] = salakseg.evaluate(
                model,
                data=photographs(
                    dubai, work / f"{split}-{rotation}", of_split(dubai, rotation, split)
                ),
                out=work / f"eval-{folder.name}-{split}",
            )
    row = {
        "arm": arm,
        "run": run,
        "rotation": rotation,
        "seed": seed,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "patch_size": options.patch_size,
        "generator": options.generator,
        "precision": "float32" if autocast_dtype(torch.device("cpu"), None) is None else "bfloat16",
        **iou_columns(found["val"]),
        **together(found),
        **accepted(folder, method, options.batch_size),
        "minutes": f"{minutes:.1f}",
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "version": version(),
    }
    append_row(options.results, row)


def accepted(folder: Path, method: str, batch_size: int) -> dict[str, str]:
    """Least and largest share of images that taught, over the log's windows of 100 iterations."""
    if method == "supervised":
        return {"st_least": "", "st_most": ""}
    counts = pd.read_csv(folder / "log.csv").st_count.dropna() / batch_size
    return {"st_least": f"{counts.min():.3f}", "st_most": f"{counts.max():.3f}"}


def version() -> str:
    """The commit that made the row."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return salakseg.__version__


def todo(options: argparse.Namespace) -> list[tuple[str, int]]:
    """The runs that have no row yet, run by run, so that pairs are whole early."""
    done: set[tuple[str, int]] = set()
    if options.results.exists():
        rows = pd.read_csv(options.results)
        same = (
            (rows.steps == options.steps)
            & (rows.batch_size == options.batch_size)
            & (rows.patch_size == options.patch_size)
            & (rows.generator == options.generator)
        )
        done = set(zip(rows.arm[same], rows.run[same].astype(int), strict=True))
    wanted = [(arm, run) for run in options.runs for arm in options.arms]
    return [one for one in wanted if one not in done]


def run_all(options: argparse.Namespace) -> None:
    """Each run in a process of its own, `--jobs` at a time, with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    waiting, running = todo(options), {}
    for rotation in sorted({rotation_of(run) for _, run in waiting}):  # before two runs want them
        for oracle in {arm == ORACLE for arm, _ in waiting}:
            prepare(options.dubai, options.work, options.patch_size, rotation, oracle)
    while waiting or running:
        while waiting and len(running) < options.jobs:
            arm, run = waiting.pop(0)
            log = options.work / f"{arm.replace(' ', '-')}-{run}.log"
            print(f"{arm}, run {run}: {log}", flush=True)
            with log.open("ab") as output:
                command = [sys.executable, *sys.argv, "--one", arm, str(run)]
                running[arm, run] = subprocess.Popen(
                    command, env=environment, stdout=output, stderr=subprocess.STDOUT
                )
        time.sleep(1)
        for key, process in list(running.items()):
            if process.poll() is not None:
                del running[key]
                if process.returncode:
                    raise SystemExit(f"{key}: failed, see its log in {options.work}")


def table(options: argparse.Namespace) -> None:
    """Print the runs of each arm, and its gains over `supervised`, pair by pair."""
    rows = pd.read_csv(options.results)
    for setting, group in rows.groupby([*KEY[2:], "precision"], dropna=False):
        print(", ".join(map(str, setting)))
        for column in SCORED:
            scored = group.pivot_table(index="run", columns="arm", values=column)
            if scored.empty:
                continue
            print(f"\n{column}, run by run\n{scored.T.round(4).to_string(na_rep='')}")
            for first in ("supervised", "s4gan-paper"):
                if first in scored:
                    for arm in scored.columns.drop(first):
                        if first == "supervised" or arm == "s4gan":
                            gains(scored[arm] - scored[first], f"{arm} - {first}")
        val = group.pivot_table(index="run", columns="arm", values="miou")
        if {"supervised", "s4gan", "oracle"} <= set(val):
            whole = val.dropna(subset=["supervised", "s4gan", "oracle"]).mean()
            closed = (whole.s4gan - whole.supervised) / (whole.oracle - whole.supervised)
            print(f"share of the gap to the oracle that s4gan closes on val: {closed:.0%}")


def gains(pairs: pd.Series, what: str) -> None:
    """Print the differences of some pairs: of all, of those tuned on, of those that were not."""
    pairs = pairs.dropna()
    for which, some in (
        ("", pairs),
        (", tuned on", pairs[pairs.index < TUNED]),
        (", not tuned on", pairs[pairs.index >= TUNED]),
    ):
        if len(some) and (not which or len(some) < len(pairs)):
            each = ", ".join(f"{value:+.4f}" for value in some)
            print(f"{what}{which}: mean {some.mean():+.4f}{interval(some)} ({each})")


def interval(pairs: pd.Series) -> str:
    """Student's 95 % interval of the mean, in words; none of fewer than two pairs."""
    if len(pairs) < 2:
        return ""
    half = float(student_t(len(pairs) - 1.0)) * pairs.std() / len(pairs) ** 0.5
    return f", 95 % {pairs.mean() - half:+.4f} to {pairs.mean() + half:+.4f}"


def picture(options: argparse.Namespace) -> None:
    """Patches of run 0, evenly spaced among the `val` ones: image, mask, what each arm says."""
    shards = read_shards(options.work / f"shards-a-{options.patch_size}")
    rows = np.linspace(0, len(shards.split("val")) - 1, 2 * PICTURED + 1).astype(int)[1::2]
    batch = Patches(shards, {"val": "val"}).read("val", rows)
    assert batch.masks is not None
    columns = [list(batch.images.permute(0, 2, 3, 1).numpy())]
    columns.append([colorize(mask, shards.mapping) for mask in batch.masks.numpy()])
    for arm in ARMS:
        model = load_model(options.work / f"{arm}-0-{options.steps}" / "final_model.pth")
        labels = model.probabilities(batch.images).max(1).indices.byte().numpy()
        columns.append([colorize(answer, shards.mapping) for answer in labels])
    sheet = contact_sheet(
        list(zip(*columns, strict=True)),
        shards.split("val").key.iloc[rows].tolist(),
        ["image", "mask", *ARMS],
        shards.mapping,
        options.patch_size,
    )
    Image.fromarray(sheet).save(options.picture, quality=85)


def arguments() -> argparse.ArgumentParser:
    """The options; `selection.py` has the same ones for network and steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dubai", type=Path)
    parser.add_argument("--encoder-weights", type=Path, required=True)
    parser.add_argument("--generator", default="fpn128-tu-tf_efficientnet_lite0")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--work", type=Path, default=Path("quality-work"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.set_defaults(**SETTINGS["full"])
    return parser


def main() -> None:
    """Parse and run."""
    parser = arguments()
    parser.add_argument("--setting", choices=SETTINGS, default="full")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--runs", nargs="+", type=int)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--no-unlabeled", dest="score_unlabeled", action="store_false")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "RUN"), help=argparse.SUPPRESS)
    setting = parser.parse_args().setting
    results = {"full": "methods.csv", "small": "small.csv"}[setting]
    parser.set_defaults(**SETTINGS[setting], results=HERE / "results" / results)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if setting == "small":
        options.dubai = shrunk(options.dubai, options.work / "photographs")
    if options.one:
        one_run(options, options.one[0], int(options.one[1]))
        return
    run_all(options)
    table(options)
    if options.picture:
        picture(options)


if __name__ == "__main__":
    main()
