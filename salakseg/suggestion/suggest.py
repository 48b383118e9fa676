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

from salakseg.console import Bar, console, progress
from salakseg.data.index import Index, read_index
from salakseg.data.order import MOST_REPEATS
from salakseg.data.problems import plural
from salakseg.data.shards import Shards, read_shards
from salakseg.data.workers import require_workers
from salakseg.device import select_device
from salakseg.errors import InputError
from salakseg.evaluation.evaluate import require_same_classes
from salakseg.files import atomic_path, lock_folder, require_folder, write_text
from salakseg.imagery.drawing import contact_sheet
from salakseg.model.applicability import FAR_PATCHES, applicability_of, described_rows
from salakseg.model.generator import create_generator
from salakseg.model.names import DEFAULT_GENERATOR, TINY_GENERATOR
from salakseg.model.weights import Model, find_model, load_model
from salakseg.suggestion import strategies
from salakseg.suggestion.embed import BLOCK, Features, embed, pool_of
from salakseg.suggestion.export import exporting, require_new
from salakseg.suggestion.photos import find_photo
from salakseg.suggestion.pictures import COLUMNS, draw_coverage, look, photo_sheet
from salakseg.suggestion.strategies import Floats

Rows = NDArray[np.int64]

UNITS = ("base", "patch")
BEST_MODEL = Path("checkpoints/best_model.pth")
# Up to as many patches are ranked by themselves, more by as many prototypes.
MOST_TARGETS = 4096
# One prototype of so many is a patch that the others are not like.
RARE = 16
# Rows of a step of k-means: several times as many as there are prototypes.
CHUNK = 4 * MOST_TARGETS
# Patches that coverage is measured on: its standard error is below 0.3 points.
SAMPLE = 8192
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


def suggest(
    *,
    index_dir: Path | str = Path("index"),
    shards_dir: Path | str = Path("shards"),
    model: Path | str | None = None,
    out: Path | str = Path("suggestions"),
    count: int = 10,
    unit: str = "base",
    strategy: str = "coverage",
    export: Path | str | None = None,
    generator: str | None = None,
    encoder_weights: str | None = None,
    batch_size: int | None = None,
    num_workers: int = 0,
    device: str = "auto",
    amp: bool | None = None,
    seed: int = 0,
) -> Suggestions:
    """Rank what has no mask yet by what a mask of it would add.

    Args:
        index_dir, shards_dir: what `index` and `shard` wrote.
        model: model file, or its name in `checkpoints/`; None: checkpoints/best_model.pth if it is
            there and neither `generator` nor `encoder_weights` is given.
        out: where the results and the features go.
        count: how many to suggest.
        unit: `base` images or single `patch`es.
        strategy: one of `strategies.STRATEGIES`.
        export: a folder to lay the suggested photographs out in, with the model's guess as masks.
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
    ):
        if value not in known:
            raise InputError(f"--{name} {value}: choose one of {', '.join(known)}")
    if out.exists():
        require_folder(out, "--out takes a folder")
    shards = read_shards(Path(shards_dir))
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
    with lock_folder(out, "suggest"):
        features = embed(
            shards,
            network,
            out=out,
            trained=trained,
            batch_size=batch_size,
            num_workers=num_workers,
            amp=amp,
        )
        even = even_weights(features.patches, unit)
        weights = weigh(features, shards, even)
        length = min(len(units), max(CURVE, 3 * count))
        ranked = rank(features, units, weights, count, length, strategy, seed)
        count = min(count, len(ranked))
        curve, gains, shares = measure(features, ranked, count, even, weights, seed)
        flat = np.flatnonzero(np.diff(curve) < FLAT)
        table = _table(features, ranked.iloc[:count], gains, shares, shards.mapping.names)
        result = Suggestions(
            table, far_from_labelled(features), curve, int(flat[0]) if len(flat) else None
        )
        _write(out, result, unit, labelled_units(features.patches, unit))
        _write_pictures(out, table, index, network if trained else None, export, amp)
    _show(result, features, unit, len(units), out, export)
    return result


def units_of(pool: pd.DataFrame, unit: str) -> pd.DataFrame:
    """What can be suggested: base images with unlabelled patches, or these patches.

    Returns:
        folder, base_image, patch (the patch's name, '' for base images), and start, stop: the rows
        of the pool, one after the other, that are its unlabelled patches.
    """
    rows = np.flatnonzero(pool.split == "unlabeled")
    some = pool.iloc[rows]
    if unit == "patch":
        patch = some.key.str.rpartition("/")[2] if len(some) else ""
        return pd.DataFrame(
            {
                "folder": some.folder.to_numpy(),
                "base_image": some.base_image.to_numpy(),
                "patch": np.asarray(patch),
                "start": rows,
                "stop": rows + 1,
            }
        )
    groups = some.assign(row=rows).groupby(["folder", "base_image"], sort=False).row
    units = groups.agg(start="min", stop="max").reset_index()
    units["stop"] += 1
    units.insert(2, "patch", "")
    return units


def even_weights(patches: pd.DataFrame, unit: str) -> Floats:
    """What each patch counts, float32 (N,), 1 on average: base images, or patches, the same."""
    if unit == "patch":
        return np.ones(len(patches), np.float32)
    owner = patches.groupby(["folder", "base_image"], sort=False).ngroup().to_numpy()
    weights = 1 / np.bincount(owner)[owner]
    return (weights / weights.mean()).astype(np.float32)


def weigh(features: Features, shards: Shards, even: Floats) -> Floats:
    """What each patch counts for the ranking, float32 (N,), 1 on average.

    With a trained model, half of it is for how unsure the model is (1 − margin), and patches where
    it expects classes that are rare in the labels count more: a class with a share f of the
    labelled pixels √(1 / (K f)) times, from 1 to MOST_REPEATS.
    """
    if not features.warm:
        return even
    pixels = shards.class_pixels(shards.split("train")).sum(0)
    share = pixels / pixels.sum() if pixels.any() else np.ones(len(pixels))
    need = np.clip((1 / (len(share) * np.maximum(share, 1e-9))) ** 0.5, 1, MOST_REPEATS)
    unsure = features.unsure("margin")
    weights = even * (0.5 + 0.5 * unsure / max(float(unsure.mean()), 1e-6))
    weights *= features.class_shares @ need.astype(np.float32)
    return (weights / weights.mean()).astype(np.float32)


def rank(
    features: Features,
    units: pd.DataFrame,
    weights: Floats,
    count: int,
    length: int,
    strategy: str = "coverage",
    seed: int = 0,
) -> pd.DataFrame:
    """The first `length` units in the order of the strategy.

    By coverage, the first `count` are improved together by swaps before the rest follows.
    """
    if strategy == "random":
        return units.iloc[strategies.random_order(len(units), length, seed)]
    if strategy in strategies.UNCERTAINTIES:
        scores = _mean_by_unit(features.unsure(strategy), units)
        return units.iloc[strategies.most_unsure(scores, length)]
    labelled = _labelled(features)
    targets, target_weights, medoids = _targets(features, weights, seed)
    if len(units) > MOST_TARGETS and (units.stop - units.start == 1).all():
        # Of very many patches, the one nearest to each prototype stands for those like it.
        units = units[units.start.isin(medoids)]
    length, count = min(length, len(units)), min(count, len(units))
    if strategy == "k-centre":
        centres = np.stack(
            [features.directions(slice(u.start, u.stop)).mean(0) for u in units.itertuples()]
        )
        order = strategies.k_centre(centres, features.directions(labelled), length)
        return units.iloc[order]
    table = similarity_table(features, units, targets)
    covered = nearest_to(features, labelled, targets)
    order, _ = strategies.lazy_greedy(table, target_weights, covered, count)
    order = strategies.swapped(table, target_weights, covered, order)
    covered = np.maximum(covered, table[order].max(0))
    others = np.setdiff1d(np.arange(len(units)), order)
    more, _ = strategies.lazy_greedy(table[others], target_weights, covered, length - count)
    return units.iloc[[*order, *others[more]]]


def _targets(features: Features, weights: Floats, seed: int) -> tuple[Floats, Floats, Rows]:
    """What is to be covered: directions (T, D), weights (T,), and the unlabelled row nearest each.

    All patches, or where they are many the centres of k-means, and of what is least like any of
    these the patches themselves: a rare kind of ground moves no centre. A weight is the sum of the
    patches' that are nearest to it.
    """
    rows = len(features.patches)
    if rows <= MOST_TARGETS:
        return features.directions(slice(None)), weights, np.arange(rows)
    from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

    rare = max(1, MOST_TARGETS // RARE)
    count = MOST_TARGETS - rare
    parts = np.array_split(np.random.default_rng(seed).permutation(rows), max(1, rows // CHUNK))
    with progress("Prototypes", 3 * rows) as bar:
        some = features.directions(np.sort(parts[0]))
        # One trial a centre: sklearn's nine take ten times as long as all the rest.
        begin, _ = kmeans_plusplus(some, count, random_state=seed, n_local_trials=1)
        # By default k-means would put the centres of small clusters elsewhere.
        kmeans = MiniBatchKMeans(
            count, init=begin, n_init=1, batch_size=CHUNK, reassignment_ratio=0, random_state=seed
        )
        for part in parts:
            kmeans.partial_fit(features.directions(np.sort(part)))
            bar.advance(len(part))
        centres = kmeans.cluster_centers_.astype(np.float32)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
        closest, likeness = np.zeros(rows, np.int64), np.full(rows, -np.inf, np.float32)
        medoids = _assign(features, centres, 0, closest, likeness, bar)
        unlike = np.argsort(likeness, kind="stable")[:MOST_TARGETS]
        own = features.directions(unlike)
        own = own[strategies.least_alike(own, likeness[unlike], rare)]
        medoids = np.concatenate(
            [medoids, _assign(features, own, len(centres), closest, likeness, bar)]
        )
    sums = np.bincount(closest, weights, MOST_TARGETS).astype(np.float32)
    return np.concatenate([centres, own]), sums, np.unique(medoids[medoids >= 0])


def _assign(
    features: Features, centres: Floats, first: int, closest: Rows, likeness: Floats, bar: Bar
) -> Rows:
    """Give each patch to one of these centres, numbered from `first`, where it is more like it.

    Args:
        closest, likeness: (N,), changed here: the centre of each patch, and how like it it is.

    Returns:
        The unlabelled row most like each centre, -1 where there is none.
    """
    best = np.full(len(centres), -np.inf, np.float32)
    medoids = np.full(len(centres), -1, np.int64)
    unlabelled = (features.patches.split == "unlabeled").to_numpy()
    for start in range(0, len(closest), BLOCK):
        block = slice(start, start + BLOCK)
        found = features.directions(block) @ centres.T
        nearest = found.argmax(1)
        value = found[np.arange(len(found)), nearest]
        closer = value > likeness[block]
        closest[block][closer] = first + nearest[closer]
        np.maximum(likeness[block], value, out=likeness[block])
        found[~unlabelled[block]] = -np.inf
        top = found.argmax(0)
        value = found[top, np.arange(len(centres))]
        medoids[value > best] = start + top[value > best]
        np.maximum(best, value, out=best)
        bar.advance(len(found))
    return medoids


def similarity_table(features: Features, units: pd.DataFrame, targets: Floats) -> Floats:
    """float32 (units, T): how much each target is like the nearest patch of each unit, 0 to 1."""
    table = np.zeros((len(units), len(targets)), np.float32)
    with progress("Comparing", len(units)) as bar:
        for place, (start, stop) in enumerate(zip(units.start, units.stop, strict=True)):
            table[place] = nearest_to(features, np.arange(start, stop), targets)
            bar.advance()
    return table


def nearest_to(features: Features, rows: Rows, targets: Floats) -> Floats:
    """float32 (T,): similarity of each target to the nearest of the patches, 0 to 1."""
    best = np.zeros(len(targets), np.float32)
    for start in range(0, len(rows), BLOCK):
        likeness = features.directions(rows[start : start + BLOCK]) @ targets.T
        np.maximum(best, likeness.max(0), out=best)
    return np.minimum(best, 1)


def measure(
    features: Features,
    ranked: pd.DataFrame,
    count: int,
    even: Floats,
    weights: Floats,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coverage on patches, all of them or a random sample, as the ranked units are added.

    Args:
        even, weights: what each patch counts, for coverage and for what each unit adds.

    Returns:
        Coverage, float64 (1 + units,); what each unit adds with the patches weighted, (units,);
        and the share of the unlabelled patches whose nearest of all that is labelled and of the
        first `count` units is this one, (count,).
    """
    rows = np.arange(len(features.patches))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    targets = features.directions(rows)
    even, weights = even[rows] / even[rows].sum(), weights[rows] / weights[rows].sum()
    unlabelled = (features.patches.split == "unlabeled").to_numpy()[rows]
    covered = nearest_to(features, _labelled(features), targets)
    owner = np.full(len(rows), -1)
    curve, gains = [float(covered @ even)], []
    for place, (start, stop) in enumerate(zip(ranked.start, ranked.stop, strict=True)):
        own = nearest_to(features, np.arange(start, stop), targets)
        if place < count:
            owner[own > covered] = place
        gains.append(strategies.gain(own, weights, covered))
        np.maximum(covered, own, out=covered)
        curve.append(float(covered @ even))
    owned = np.bincount(owner[unlabelled & (owner >= 0)], minlength=count)
    return np.array(curve), np.array(gains), owned / max(1, unlabelled.sum())


def far_from_labelled(features: Features) -> pd.DataFrame:
    """How far folders and base images without masks are from what is labelled.

    Returns:
        level (folder or photo), folder, base_image ('' for folders), patches without masks, their
        mean distance to the nearest labelled patch by `model.applicability` (1 is the limit), and
        far: yes where more than half of them are beyond it, else no. The farthest first. Empty
        where fewer than two photographs are labelled, and nothing can be said.
    """
    patches = features.patches
    labelled = _labelled(features)
    columns = ["level", "folder", "base_image", "patches", "distance", "far"]
    applicability = None
    if len(labelled):
        some = labelled[described_rows(len(labelled))]
        photo = patches.iloc[some].groupby(["folder", "base_image"]).ngroup().to_numpy()
        applicability = applicability_of(features.values[some, : features.size], photo)
    if applicability is None:
        return pd.DataFrame(columns=columns)
    rows = np.flatnonzero(patches.split == "unlabeled")
    distance = np.concatenate(
        [
            applicability.distance(features.values[rows[start : start + BLOCK], : features.size])
            for start in range(0, len(rows), BLOCK)
        ]
    )
    each = patches.iloc[rows][["folder", "base_image"]].assign(
        distance=distance, beyond=distance >= 1
    )
    parts = []
    for level, keys in (("folder", ["folder"]), ("photo", ["folder", "base_image"])):
        part = each.groupby(keys, sort=True).agg(
            patches=("beyond", "size"), distance=("distance", "mean"), beyond=("beyond", "mean")
        )
        part = part.reset_index().assign(level=level)
        parts.append(part.sort_values("distance", ascending=False, kind="stable"))
    table = pd.concat(parts, ignore_index=True)
    table["base_image"] = table.base_image.fillna("")
    table["far"] = np.where(table.beyond > FAR_PATCHES, "yes", "no")
    return table[columns]


def _labelled(features: Features) -> Rows:
    return np.flatnonzero(features.patches.split == "train")


def _mean_by_unit(values: NDArray[np.floating], units: pd.DataFrame) -> Floats:
    """The mean of `values` (N,) or (N, K) over the rows of each unit."""
    return np.stack(
        [values[start:stop].mean(0) for start, stop in zip(units.start, units.stop, strict=True)]
    )


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
        console.print(f"Model: {path}, iteration {loaded.iteration}")
        return loaded, True
    name, weights = generator or DEFAULT_GENERATOR, encoder_weights or "imagenet"
    # Random weights must be the same ones when the embedding goes on.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_generator(name, shards.mapping.num_classes, weights)
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
        table["uncertainty"] = _mean_by_unit(features.unsure("margin"), units)
        classes = _mean_by_unit(features.class_shares, units)
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
    amp: bool | None,
) -> None:
    """contact_sheet.png, and the photographs in `export`."""
    rows, titles = [], []
    with exporting(export, index) as exported, progress("Drawing", len(table)) as bar:
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


def far_sentences(far: pd.DataFrame) -> list[str]:
    """What looks like nothing labelled, a line each folder and one for single photographs."""
    flagged = far[far.far == "yes"]
    folders = flagged[flagged.level == "folder"]
    lines = [
        f"Folder {row.folder} looks like nothing you have labelled (distance "
        f"{row.distance:.1f}, 1 is the limit): expect errors there"
        for row in folders.itertuples()
        if row.folder != "."
    ]
    photos = flagged[(flagged.level == "photo") & ~flagged.folder.isin(folders.folder)]
    if "." in set(folders.folder):
        photos = flagged[flagged.level == "photo"]
    if len(photos):
        names = ", ".join(photos.base_image.iloc[:3])
        more = f" and {len(photos) - 3} more" if len(photos) > 3 else ""
        lines.append(
            f"{plural(len(photos), 'photo')} look{'s' if len(photos) == 1 else ''} like nothing "
            f"you have labelled ({names}{more}): expect errors there"
        )
    return lines
