"""What is ranked by what a mask of it would add: units, weights, similarities; pure functions."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.console import Bar, progress
from salakseg.data.order import MOST_REPEATS
from salakseg.data.shards import Shards
from salakseg.suggestion import strategies
from salakseg.suggestion.embed import BLOCK, Features
from salakseg.suggestion.strategies import Floats

Rows = NDArray[np.int64]

UNITS = ("base", "patch")
# Up to as many patches are ranked by themselves, more by as many prototypes.
MOST_TARGETS = 4096
# One prototype of so many is a patch that the others are not like.
RARE = 16
# Rows of a step of k-means: several times as many as there are prototypes.
CHUNK = 4 * MOST_TARGETS
# Patches that coverage is measured on: its standard error is below 0.3 points.
SAMPLE = 8192


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
        scores = mean_by_unit(features.unsure(strategy), units)
        return units.iloc[strategies.most_unsure(scores, length)]
    labelled = labelled_rows(features)
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
    covered = nearest_to(features, labelled_rows(features), targets)
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


def labelled_rows(features: Features) -> Rows:
    return np.flatnonzero(features.patches.split == "train")


def mean_by_unit(values: NDArray[np.floating], units: pd.DataFrame) -> Floats:
    """The mean of `values` (N,) or (N, K) over the rows of each unit."""
    return np.stack(
        [values[start:stop].mean(0) for start, stop in zip(units.start, units.stop, strict=True)]
    )
