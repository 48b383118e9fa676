"""suggest(): which photographs to label next, and what is far from everything labelled.

In go `index/`, `shards/` and a model, or without one an encoder with ImageNet weights. Out come, in
`suggestions/`: `suggestions.csv`, `contact_sheet.png`, `coverage.png` and `far.csv`, and on request
the photographs themselves, ready to be labelled (`export`).

Coverage is the mean, over the patches that are trained on or could be, of the similarity (0 to 1)
to the nearest labelled or suggested patch. Each base image counts the same, whatever its size: by
patches a few large photographs, which cover themselves, would be all that is suggested. Patches of
val and test neither count nor are suggested.
The ranking works on prototypes where there are many patches; every number that is told is measured
on patches. Memory: MOST_TARGETS similarities a photograph, and the description of the shards.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.table import Table

from salakseg.console import console, progress
from salakseg.data.index_files import Index, read_index
from salakseg.data.problems import plural
from salakseg.data.shards import Shards, read_shards
from salakseg.data.workers import require_workers
from salakseg.device import select_device
from salakseg.distributed import from_first, is_first, joined
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import require_same_classes
from salakseg.files import atomic_path, lock_folder, require_folder, write_text
from salakseg.imagery.drawing import contact_sheet
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR, TINY_GENERATOR
from salakseg.model.weights import Model, bring_to, find_model, load_model
from salakseg.suggestion import strategies
from salakseg.suggestion.embed import Features, embed, pool_of
from salakseg.suggestion.export import exporting, require_new
from salakseg.suggestion.far import far_from_labelled, far_sentences
from salakseg.suggestion.guess_polygons import FORMATS, MASKS
from salakseg.suggestion.originals import find_photo
from salakseg.suggestion.photo_sheet import COLUMNS, draw_coverage, look, photo_sheet
from salakseg.suggestion.ranking import (
    UNITS,
    even_weights,
    mean_by_unit,
    measure,
    rank,
    units_of,
    weigh,
)
from salakseg.suggestion.strategies import Floats

BEST_MODEL = Path("checkpoints/best_model.pth")
# The curve goes on to as many suggestions, or three times those asked for.
CURVE = 60
# From where on a further photograph adds less than this, the curve is called flat.
FLAT = 0.005


@dataclass(frozen=True)
class Suggestions:
    """What was suggested.

    Attributes:
        table: the rows of suggestions.csv.
        far: the rows of far.csv; none where fewer than two photographs are labelled.
        coverage: float64 (n + 1,): coverage today, and after each of the first n photographs.
        flat_after: after how many the curve is flat, None where it is not within `coverage`.
    """

    table: pd.DataFrame
    far: pd.DataFrame
    coverage: NDArray[np.float64]
    flat_after: int | None


@joined()
def suggest(
    *,
    index_dir: Path | str = Path("index"),
    shards_dir: Path | str = "shards",
    model: Path | str | None = None,
    out: Path | str = Path("suggestions"),
    count: int = 10,
    unit: str = "base",
    strategy: str = "coverage",
    export: Path | str | None = None,
    export_as: str = MASKS,
    generator: str | None = None,
    encoder_weights: str | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    cache_dir: Path | str | None = None,
    cache_size: float | None = None,
    device: str = "auto",
    amp: bool | None = None,
    seed: int = 0,
) -> Suggestions:
    """Rank what has no mask yet by what a mask of it would add.

    Several processes share out the pass over the patches.

    Args:
        index_dir: what `index` wrote.
        shards_dir, cache_dir, cache_size: what `shard` wrote, as `read_shards` takes them.
        model: model file, or its name in `checkpoints/`; None: checkpoints/best_model.pth if it is
            there and neither `generator` nor `encoder_weights` is given.
        out: where the results and the features go.
        count: how many to suggest.
        unit: `base` images or single `patch`es.
        strategy: one of `strategies.STRATEGIES`.
        export: a folder to lay the suggested photographs out in, with the model's guess.
        export_as: as what it is corrected: one of `guess_polygons.FORMATS`.
        generator, encoder_weights: without a model, whose encoder to take.
        batch_size: patches at a time; None: by device.
        num_workers: threads that read ahead; 0: none beside this one.
        amp: mixed precision; None: where the device is fast at it.
        seed: of prototypes and random choices.

    Raises:
        InputError: no index, shards or model; nothing left to label, or less than `count`; a model
            of other classes; an option out of range.
        WorkError: disk full, out of memory.
    """
    out, export = Path(out), None if export is None else Path(export)
    if count < 1:
        raise InputError(f"--count {count}: must be 1 or more")
    require_workers(num_workers)
    for name, value, known in (
        ("unit", unit, UNITS),
        ("strategy", strategy, strategies.STRATEGIES),
        ("export-as", export_as, FORMATS),
    ):
        if value not in known:
            raise InputError(f"--{name} {value}: choose one of {', '.join(known)}")
    if export_as != MASKS and export is None:
        raise InputError(f"--export-as {export_as}: is of --export; give a folder with it")
    if export_as != MASKS and unit == "patch":
        raise InputError(
            f"--export-as {export_as}: is of whole photos; with --unit patch it is {MASKS}"
        )
    if out.exists():
        require_folder(out, "--out takes a folder")
    shards = read_shards(shards_dir, cache_dir, cache_size)
    index = read_index(Path(index_dir))
    what = ("photo", "photos") if unit == "base" else ("patch", "patches")
    units = units_of(pool_of(shards), unit)
    if units.empty:
        labelled = int((shards.samples.split == "train").sum())
        raise InputError(
            f"{shards.folder}: no unlabelled patches to choose from "
            f"({labelled} labelled ones, {len(shards.samples) - labelled} held out): add "
            "photographs without masks, then index and shard again"
        )
    if len(units) < count:
        raise InputError(
            f"--count {count}: only {plural(len(units), *what)} without a mask; "
            f"ask for {len(units)} or fewer"
        )
    if export is not None:
        require_new(export)  # before the long work, not after it
    network, trained = _network(model, generator, encoder_weights, shards, device)
    if strategy in strategies.UNCERTAINTIES and not trained:
        raise InputError(
            f"--strategy {strategy}: needs a trained model; give one with --model, or train first"
        )

    def chosen() -> Suggestions:
        even = even_weights(features.patches, unit)
        weights = weigh(features, shards, even)
        length = min(len(units), max(CURVE, 3 * count))
        ranked = rank(features, units, weights, count, length, strategy, seed)
        most = min(count, len(ranked))
        curve, gains, shares = measure(features, ranked, most, even, weights, seed)
        flat = np.flatnonzero(np.diff(curve) < FLAT)
        table = _table(features, ranked.iloc[:most], gains, shares, shards.mapping.names)
        result = Suggestions(
            table, far_from_labelled(features), curve, int(flat[0]) if len(flat) else None
        )
        _write(out, result, unit, labelled_units(features.patches, unit))
        _write_pictures(out, table, index, network if trained else None, export, export_as, amp)
        return result

    with lock_folder(out, "suggest") if is_first() else nullcontext():
        features = embed(
            shards,
            network,
            out=out,
            trained=trained,
            batch_size=batch_size,
            num_workers=num_workers,
            amp=amp,
        )
        result = from_first(chosen)
    if is_first():
        _show(result, features, unit, len(units), out, export)
    return result


def _network(
    model: Path | str | None,
    generator: str | None,
    encoder_weights: str | None,
    shards: Shards,
    device: str,
) -> tuple[Model, bool]:
    """The network, and whether it is a trained model."""
    target = select_device(device)
    cold = generator is not None or encoder_weights is not None
    if model is not None and cold:
        raise InputError(
            "--model brings its own encoder: leave out --generator and --encoder-weights"
        )
    path = BEST_MODEL if model is None else find_model(Path(model))
    if not cold and (model is not None or path.exists()):
        loaded = load_model(path, target)
        require_same_classes(loaded, shards.mapping, str(shards.folder))
        bring_to(loaded, shards.band_set, str(shards.folder))
        console.print(f"Model: {path}, iteration {loaded.iteration}")
        return loaded, True
    name, weights = generator or DEFAULT_GENERATOR, encoder_weights or "imagenet"
    # Random weights must be the same ones when the embedding goes on.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_generator(name, shards.mapping.num_classes, weights, shards.band_set)
    console.print(f"No model: features of the encoder of {name} ({weights} weights)")
    if weights == "none" or (name == TINY_GENERATOR and weights == "imagenet"):
        console.print("Its weights are random: expect choices little better than random ones")
    network.to(memory_format=torch.channels_last).to(target)
    return Model(network, shards.mapping, shards.patch_size), False


def _table(
    features: Features,
    units: pd.DataFrame,
    gains: NDArray[np.float64],
    shares: NDArray[np.float64],
    names: list[str],
) -> pd.DataFrame:
    """The rows of suggestions.csv."""
    table = units[["folder", "base_image", "patch"]].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table["patches"] = (units.stop - units.start).to_numpy()
    table["value"], table["share"] = gains[: len(units)], shares
    table["uncertainty"], table["expected"] = np.nan, ""
    if features.warm:
        table["uncertainty"] = mean_by_unit(features.unsure("margin"), units)
        classes = mean_by_unit(features.class_shares, units)
        table["expected"] = [_expected(row, names) for row in classes]
    return table


def _expected(shares: Floats, names: list[str]) -> str:
    """Up to three classes that the model sees most of, those with a twentieth or more."""
    most = np.argsort(-shares, kind="stable")[:3]
    return ", ".join(f"{names[c]} {shares[c]:.0%}" for c in most if shares[c] >= 0.05)


def labelled_units(patches: pd.DataFrame, unit: str) -> int:
    """How many base images or patches have masks already that are trained on."""
    labelled = patches[patches.split == "train"]
    return len(labelled if unit == "patch" else labelled.drop_duplicates(["folder", "base_image"]))


def _write(out: Path, result: Suggestions, unit: str, labelled: int) -> None:
    table = result.table if unit == "patch" else result.table.drop(columns="patch")
    for name, rows in (("suggestions.csv", table), ("far.csv", result.far)):
        text = rows.to_csv(index=False, lineterminator="\n", float_format="%.4f")
        write_text(out / name, text)
    with atomic_path(out / "coverage.png") as temporary:
        what = "Base images" if unit == "base" else "Patches"
        draw_coverage(
            temporary, result.coverage, len(result.table), result.flat_after, labelled, what
        )


def _write_pictures(
    out: Path,
    table: pd.DataFrame,
    index: Index,
    model: Model | None,
    export: Path | None,
    export_as: str,
    amp: bool | None,
) -> None:
    """contact_sheet.png, and the photographs in `export`."""
    rows, titles = [], []
    with exporting(export, index, export_as) as exported, progress("Drawing", len(table)) as bar:
        row: Any
        for row in table.itertuples():
            photo = find_photo(index, row.folder, row.base_image, row.patch)
            pictures, labels = look(photo, model, amp, keep=exported is not None)
            rows.append(pictures)
            where = "" if row.folder == "." else f"{row.folder}/"
            expected = f": expected {row.expected}" if row.expected else ""
            titles.append(f"{row.rank}. {where}{photo.name}{expected}")
            if exported is not None:
                exported.add(photo, labels)
            bar.advance()
    if model is None:
        sheet = photo_sheet([pictures[0] for pictures in rows], titles)
    else:
        sheet = contact_sheet(rows, titles, COLUMNS, index.mapping)
    with atomic_path(out / "contact_sheet.png") as temporary:
        Image.fromarray(sheet).save(temporary)


def _show(
    result: Suggestions,
    features: Features,
    unit: str,
    unlabelled: int,
    out: Path,
    export: Path | None,
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", justify="right")
    table.add_column("Photo" if unit == "base" else "Patch")
    for column in ("Value", "Covers", "Unsure") if features.warm else ("Value", "Covers"):
        table.add_column(column, justify="right", no_wrap=True)
    if features.warm:
        table.add_column("Expected")
    row: Any
    for row in result.table.itertuples():
        where = "" if row.folder == "." else f"{row.folder}/"
        cells = [f"{row.rank}", f"{where}{row.patch or row.base_image}"]
        cells += [f"{100 * row.value:.1f}", f"{row.share:.1%}"]
        table.add_row(*cells, *([f"{row.uncertainty:.2f}", row.expected] if features.warm else []))
    console.print(table)
    console.print(
        "Value: points of coverage that it adds"
        + (", what is rare or unsure counting more" if features.warm else "")
        + ". Covers: unlabelled patches that it is the nearest to."
    )
    console.print(
        coverage_sentence(result.coverage, len(result.table), result.flat_after, unlabelled)
    )
    for line in far_sentences(result.far):
        console.print(line)
    console.print(f"Wrote suggestions.csv, far.csv, contact_sheet.png and coverage.png to {out}")
    if export is None:
        console.print(
            f"Next: look at {out / 'contact_sheet.png'}; the same command with --export label lays "
            "these photos out to be labelled"
        )
    else:
        console.print(f"Laid out in {export}, to be labelled. Next: {export / 'HOWTO.md'}")


def coverage_sentence(
    coverage: NDArray[np.float64], count: int, flat_after: int | None, unlabelled: int
) -> str:
    """Where coverage is, where it goes, and when it is no longer worth it.

    Args:
        unlabelled: how many photographs or patches there are to suggest.
    """
    said = f"{count} more bring coverage from {coverage[0]:.0%} to {coverage[count]:.0%}"
    ranked = len(coverage) - 1
    if flat_after is not None:
        return f"{said}; after {flat_after} more ({coverage[flat_after]:.0%}) it is flat"
    if ranked < unlabelled:
        return f"{said}; after {ranked} more ({coverage[-1]:.0%}) it still rises"
    return said + (f"; all {ranked} to {coverage[-1]:.0%}" if count < ranked else "")
