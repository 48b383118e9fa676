"""evaluate(): a model's scores on shards, or on a folder of full images and masks.

In go a model file and either one split of `shards/` or a folder with `images/` and `masks/`; out
come a table on the console and, in `eval/`: `metrics.json` (everything), `per_class.csv`,
`per_base_image.csv`, `confusion_matrix.csv` and `.png`, `contact_sheet.png` and `report.html`; with
other models to compare with, `against.json` and `per_class_against.csv` too. Ignored pixels never
count; a class that the truth does not hold is absent: in no mean, its false positives shown. What
the files say is made in `summary`, `compare` and `report`.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from rich import box
from rich.table import Table

from salakseg.classes import ClassMapping, read_class_mapping
from salakseg.console import console
from salakseg.data.shards import read_shards
from salakseg.data.workers import require_workers
from salakseg.device import out_of_memory_is, select_device
from salakseg.distributed import is_first, joined
from salakseg.errors import InputError
from salakseg.evaluation.compare import Rated, compare, show
from salakseg.evaluation.image_folder import ImageFolder
from salakseg.evaluation.pictures import CELL, COLUMNS, draw_confusion, four_pictures, spread
from salakseg.evaluation.report import write_report
from salakseg.evaluation.shard_split import ShardSplit
from salakseg.evaluation.summary import bounds_in_words, leak_in_words, leak_scores, summarise
from salakseg.evaluation.tally import ScoredSource, Tally
from salakseg.files import atomic_path, require_folder, write_text
from salakseg.imagery.drawing import contact_sheet
from salakseg.metrics import scores
from salakseg.model.weights import Model, bring_to, enlarging, find_model, load_model


@joined()
def evaluate(
    model: Path | str | Sequence[Path | str] = Path("best_model.pth"),
    *,
    against: Path | str | Sequence[Path | str] = (),
    leak_check: bool = False,
    shards_dir: Path | str = "shards",
    split: str = "val",
    data: Path | str | None = None,
    out: Path | str = Path("eval"),
    device: str = "auto",
    batch_size: int = 16,
    num_workers: int = 0,
    cache_dir: Path | str | None = None,
    cache_size: float | None = None,
    generator: str | None = None,
    class_mapping: Path | str | None = None,
    enlarge: float = 1.0,
    amp: bool | None = None,
) -> dict[str, Any]:
    """Score a model and write the results into `out`; several processes share out the patches.

    Args:
        model: a model file, or its name in `checkpoints/`; several (seeds) where they are compared.
            All but the comparison is about the first.
        against: a model or several to compare with, on the same patches.
        leak_check: score the patches whose base image is in training apart from the others.
        shards_dir, cache_dir, cache_size: what `shard` wrote, as `read_shards` takes them.
        split: which of its patches: train, val or test.
        data: a folder with `images/` and `masks/` of any size, to score on instead of the shards.
        generator: the network's name, for a bare state dict only.
        class_mapping: classes of a bare state dict, and how to read the masks of `data` (else
            DATA/class_mapping.csv, else the model's own).
        enlarge: how many times as large the networks see images, 1 to 4; as of `predict`.
        amp: mixed precision; None: where the device is fast at it.

    Returns:
        What `metrics.json` holds: plain values, None where there is no score; with `against`, under
        that name, what `against.json` holds.

    Raises:
        InputError: no such model, shards, split or masks; classes of models and data that differ;
            no pixel that has a class.
        WorkError: out of GPU memory.
    """
    begun = time.perf_counter()
    out = Path(out)
    data, class_mapping = (None if path is None else Path(path) for path in (data, class_mapping))
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be 1 or more")
    require_workers(num_workers)
    if out.exists():
        require_folder(out, "--out takes a folder")
    names, other_names = (
        [given] if isinstance(given, Path | str) else list(given) for given in (model, against)
    )
    if len(names) > 1 and not other_names:
        raise InputError(
            f"{len(names)} models: several are for a comparison; name the others with --against, "
            "or score one at a time"
        )
    if leak_check and data is not None:
        raise InputError("--leak-check: --data has no training photographs to compare with")
    paths = [find_model(Path(name)) for name in names]
    other_paths = [find_model(Path(name)) for name in other_names]
    target = select_device(device)
    given = None if class_mapping is None else read_class_mapping(class_mapping)
    source: ScoredSource
    reading: ClassMapping | None

    def load(path: Path, reading: ClassMapping | None) -> Model:
        return enlarging(load_model(path, target, generator, reading), enlarge)

    if data is None:
        source = ShardSplit(read_shards(shards_dir, cache_dir, cache_size), split)
        reading, where = given or source.mapping, source.facts["shards"]
        first = load(paths[0], reading)
    else:
        own = data / "class_mapping.csv"
        reading, where = given, str(class_mapping or own)
        if reading is None and own.is_file():
            reading = read_class_mapping(own)
        first = load(paths[0], reading)
        # It knows what numbers in masks stand for, where the classes are the same.
        masks = first.mapping
        if reading is not None and (reading.values or reading.rows != masks.rows):
            masks = reading
        source = ImageFolder(data, masks)

    if enlarge != 1:
        source.notes.append(f"the network saw images {enlarge:g} times as large")
    models = [first]  # that of each side which the pictures are of

    def rate(rated_model: Model) -> Rated:
        require_same_classes(rated_model, source.mapping, where)
        if isinstance(source, ShardSplit):
            bring_to(rated_model, source.shards.band_set, where)
        tally = source.score(rated_model, batch_size, num_workers, amp)
        return Rated.of(rated_model, tally, source.notes_on(rated_model))

    with out_of_memory_is(f"{target}: use a smaller --batch-size"):
        rated = rate(first)
        if not rated.tally.confusions.any():
            raise InputError(f"{source.described}: no pixel of the masks has a class to score")
        result = summarise(rated, source)
        if leak_check:
            assert isinstance(source, ShardSplit)
            result["leak"] = leak_scores(rated.tally, source)
        sides, comparison = [[rated]], None
        if other_paths:
            sides.append([])
            models.append(load(other_paths[0], reading))
            sides[1].append(rate(models[1]))
            for side, more in zip(sides, (paths[1:], other_paths[1:]), strict=True):
                side += [rate(load(path, reading)) for path in more]
            comparison = compare(sides[0], sides[1], source)
    whole = result if comparison is None else result | {"against": comparison}
    if not is_first():
        return whole
    _write(out, result, comparison, rated.tally, source)
    _write_contact_sheet(out / "contact_sheet.png", first, rated.tally, source, amp)
    leak = leak_in_words(result["leak"]) if leak_check else ""
    seconds = time.perf_counter() - begun
    write_report(
        out / "report.html",
        result,
        comparison,
        sides,
        models,
        source,
        leak=leak,
        seconds=seconds,
        amp=amp,
    )
    _show(result, source, leak)
    if comparison is not None:
        show(comparison)
    console.print(
        f"Wrote {out / 'report.html'}, with metrics.json, tables and pictures beside it. "
        "Next: salakseg predict IMAGE" + (f" --enlarge {enlarge:g}" if enlarge != 1 else "")
    )
    return whole


def require_same_classes(model: Model, mapping: ClassMapping, where: str) -> None:
    """Raise `InputError` unless `mapping` learns the model's classes in its order.

    Colours and ignored classes may differ: they change neither what is predicted nor its index.
    """
    ours, theirs = model.mapping.names, mapping.names
    if ours == theirs:
        return
    name = model.source or "the model"
    only_ours = [c for c in ours if c not in theirs]
    only_theirs = [c for c in theirs if c not in ours]
    differences = []
    if only_ours:
        differences.append(f"only the model has {', '.join(only_ours)}")
    if only_theirs:
        differences.append(f"only the data has {', '.join(only_theirs)}")
    if not differences:
        differences.append(f"the order is {', '.join(ours)} against {', '.join(theirs)}")
    raise InputError(
        f"{name} and {where} differ in their classes: {'; '.join(differences)}; "
        "use data with the class mapping that the model was trained with"
    )


def _write(
    out: Path,
    result: dict[str, Any],
    comparison: dict[str, Any] | None,
    tally: Tally,
    source: ScoredSource,
) -> None:
    names = source.mapping.names
    confusion = tally.confusions.sum(0)
    _write_json(out / "metrics.json", result)
    _write_table(out / "per_class.csv", pd.DataFrame(result["classes"]))
    by_base = [scores(one) for one in tally.confusions]
    per_base_image = {
        "folder": [folder for folder, _ in source.base_images],
        "base_image": [name for _, name in source.base_images],
        "scored_pixels": [one.support.sum() for one in by_base],
        "miou": [one.miou for one in by_base],
        "pixel_accuracy": [one.pixel_accuracy for one in by_base],
    } | {f"iou {name}": [one.iou[index] for one in by_base] for index, name in enumerate(names)}
    _write_table(out / "per_base_image.csv", pd.DataFrame(per_base_image))
    matrix = pd.DataFrame(confusion, columns=names)
    matrix.insert(0, "truth \\ prediction", names, allow_duplicates=True)
    _write_table(out / "confusion_matrix.csv", matrix)
    with atomic_path(out / "confusion_matrix.png") as temporary:
        draw_confusion(temporary, confusion, names)
    for stale in ("against.json", "per_class_against.csv"):
        if comparison is None:  # of another evaluation
            (out / stale).unlink(missing_ok=True)
    if comparison is not None:
        _write_json(out / "against.json", comparison)
        _write_table(out / "per_class_against.csv", pd.DataFrame(comparison["classes"]))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _write_contact_sheet(
    path: Path, model: Model, tally: Tally, source: ScoredSource, amp: bool | None
) -> None:
    rows, titles = [], []
    for entry in spread(tally.accuracy, source.owner).tolist():
        prediction = source.predicted(model, tally, entry, amp)
        rows.append(four_pictures(*source.show(entry), prediction, source.mapping))
        titles.append(f"{source.names[entry]}: {tally.accuracy[entry]:.1%} of its pixels right")
    sheet = contact_sheet(rows, titles, COLUMNS, source.mapping, CELL)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)


def _show(result: dict[str, Any], source: ScoredSource, leak: str) -> None:
    console.print(f"{result['model']['file']} on {source.described}")
    # Without vertical lines 80 columns leave room for long names.
    table = Table("Class", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("IoU", "95%", "Prec.", "Recall", "Support px", "Share", "False pos."):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result["classes"]:
        if row["present"]:
            values = [f"{row[score]:.3f}" for score in ("iou", "precision", "recall")]
        else:
            values = ["absent", "", ""]
        values.insert(1, bounds_in_words(row["iou_low"], row["iou_high"]))
        table.add_row(
            row["class_name"],
            *values,
            f"{row['support']:,}",
            f"{row['support_share']:.1%}",
            f"{row['false_positives']:,}",
        )
    console.print(table)
    present = sum(row["present"] for row in result["classes"])
    bounds = bounds_in_words(result["miou_low"], result["miou_high"])
    console.print(
        f"mIoU:           {result['miou']:.4f}   (mean of the {present} classes in the truth; "
        + (f"95% {bounds})" if bounds else "no interval: one base image)")
    )
    console.print(f"Pixel accuracy: {result['pixel_accuracy']:.4f}")
    if leak:
        console.print(leak)
    for note in result["notes"]:
        console.print(f"Note: {note}")
