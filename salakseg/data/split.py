"""Labelled patches → which of them are held out for validation.

The choice is a pure function of the units' names, what they hold, the share and the seed: orders
come from SHA-256, sums are exact, so that every machine makes the same split.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.console import console
from salakseg.data.problems import Problems
from salakseg.errors import InputError

SPLITS = ("train", "val", "test", "unlabeled", "exclude")
HELD_OUT = ("val", "test")
SPLIT_BY = ("base", "block", "area", "patch", "folder")

MAX_TRIALS = 256
UNITS_TRIED = 200_000  # over all trials, so that many units take seconds too
AS_GOOD = 0.02  # as a mean over the shares
FRAME_NUMBER = re.compile(r"(.*?)(\d{1,15})", re.DOTALL)

Key = tuple[str, str]  # (folder, base image)


def hold_out(
    names: Sequence[str],
    patches: Sequence[int],
    pixels: NDArray[np.int64],
    share: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Choose the units to hold out: about `share` of the patches, and of each class's pixels.

    Many orders of the units are tried. Each is filled up to the share, first with units that hold
    a class which the held-out side lacks (the rarest class first), never with the last unit of a
    class on the other side. The best trials have the fewest classes that could be on both sides and
    are not, then the shares nearest to `share`; of those about as good as the best one, the first
    is taken, so that another seed gives another split where there is a choice.

    Args:
        names: one a unit, all different. At least two.
        patches: labelled patches of each unit.
        pixels: int64 (units, K), pixels of each class.

    Returns:
        bool (units,), true where held out. Both sides have at least one unit.
    """
    holds = pixels > 0
    sets = [np.flatnonzero(row).tolist() for row in holds]
    unit_counts = holds.sum(0)
    # A class of a single unit can be on one side only: then it is to be learnt.
    splittable = np.flatnonzero(unit_counts >= 2).tolist()
    rarest_first = sorted(splittable, key=lambda k: (int(unit_counts[k]), k))
    parts = np.column_stack([pixels, np.array(patches, np.int64)])
    totals = parts.sum(0).tolist()

    tried: list[tuple[int, float, NDArray[np.bool_]]] = []
    trials = min(MAX_TRIALS, max(8, UNITS_TRIED // len(names)))
    for trial in range(trials):
        order = sorted(
            range(len(names)),
            key=lambda unit: hashlib.sha256(f"{seed}/{trial}/{names[unit]}".encode()).digest(),
        )
        chosen = _fill(order, sets, unit_counts.tolist(), rarest_first, patches, share)
        inside = np.zeros(len(names), bool)
        inside[chosen] = True
        missing = sum(not (holds[inside, k].any() and holds[~inside, k].any()) for k in splittable)
        distance = math.fsum(
            abs(part / total - share)
            for part, total in zip(parts[inside].sum(0).tolist(), totals, strict=True)
            if total
        )
        tried.append((missing, distance, inside))
    fewest, least = min(score[:2] for score in tried)
    enough = least + AS_GOOD * len(totals)
    return next(inside for missing, far, inside in tried if missing == fewest and far <= enough)


def _fill(
    order: list[int],
    sets: list[list[int]],
    unit_counts: list[int],
    rarest_first: list[int],
    patches: Sequence[int],
    share: float,
) -> list[int]:
    """One trial: the units held out, taken in `order`."""
    target = share * sum(patches)
    left = list(unit_counts)  # units of each class on the other side
    chosen: list[int] = []
    held: set[int] = set()
    count = 0

    def take(unit: int) -> None:
        nonlocal count
        chosen.append(unit)
        count += patches[unit]
        held.update(sets[unit])
        for k in sets[unit]:
            left[k] -= 1

    def may_go(unit: int) -> bool:
        return all(left[k] >= 2 for k in sets[unit])

    for wanted in rarest_first:
        if wanted not in held:
            unit = next((unit for unit in order if wanted in sets[unit] and may_go(unit)), None)
            if unit is not None:
                take(unit)
    taken = set(chosen)
    for unit in order:
        if len(chosen) == len(order) - 1:
            break  # one unit must stay
        nearer = abs(count + patches[unit] - target) < abs(count - target)
        if unit not in taken and nearer and may_go(unit):
            take(unit)
    if not chosen:
        # Every unit has a class to itself, or is larger than twice the share.
        take(min(order, key=lambda unit: abs(patches[unit] - target)))
    return chosen


def frames(keys: Sequence[Key]) -> list[list[int]]:
    """Runs of consecutive frame numbers, each a list of positions in `keys`, in frame order.

    Frames are consecutive where folder and name are the same but for the digits at the end, and
    these count up by one. A name without such digits is a run of its own.
    """
    runs: list[list[int]] = []
    numbered: list[tuple[str, str, int, int]] = []
    for position, (folder, name) in enumerate(keys):
        match = FRAME_NUMBER.fullmatch(name)
        if match:
            numbered.append((folder, match[1], int(match[2]), position))
        else:
            runs.append([position])
    previous: tuple[str, str, int] | None = None
    for folder, prefix, number, position in sorted(numbered):
        if previous in ((folder, prefix, number - 1), (folder, prefix, number)):
            runs[-1].append(position)
        else:
            runs.append([position])
        previous = (folder, prefix, number)
    return runs


def cut(runs: list[list[int]], share: float) -> list[list[int]]:
    """Cut each run into pieces of about `share` of its length."""
    pieces = []
    for run in runs:
        length = max(1, round(share * len(run)))
        pieces += [run[start : start + length] for start in range(0, len(run), length)]
    return pieces


def note_roles_without_masks(bases: pd.DataFrame, problems: Problems) -> None:
    """Note each base image that is to be learnt or scored and has no mask for it."""
    wanting = bases[bases["split"].isin(("train", *HELD_OUT)) & (bases["labelled"] == 0)]
    for row in wanting.itertuples(index=False):
        use = "used as unlabelled" if row.split == "train" else "left out"
        problems.handled(
            "split without masks",
            f"{row.folder}/{row.base_image}",
            f"the split file says {row.split}, but no mask can be used: its patches are {use}",
        )


def split_bases(
    bases: pd.DataFrame, pixels: NDArray[np.int64], split_by: str, share: float, seed: int
) -> NDArray[np.object_]:
    """The split of each base image, chosen so that what belongs together stays together.

    Args:
        bases: with the columns folder, base_image and labelled (patches with a mask).
        pixels: int64 (base images, K), pixels of each class.
        split_by: `base`, `block` or `folder`.

    Returns:
        str (base images,): train and val have masks; a base image without any is unlabeled, or
        exclude where it belongs to what is held out.

    Raises:
        InputError: everything labelled belongs together.
    """
    keys = list(zip(bases["folder"], bases["base_image"], strict=True))
    labelled = bases["labelled"].to_numpy()
    if not labelled.any():
        return np.full(len(bases), "unlabeled", object)
    if split_by == "folder":
        units = [list(group) for group in bases.groupby("folder", sort=True).indices.values()]
    elif split_by == "block":
        units = frames(keys)
    else:
        units = [[number] for number in range(len(bases))]
    held = _hold_out_bases(units, keys, labelled, pixels, share, seed)
    if split_by == "block" and (
        held is None or abs(labelled[held].sum() / labelled.sum() - share) > share / 2
    ):
        console.print(
            "Whole runs of consecutive frames do not give the share for validation: "
            f"each is cut into pieces of {share:.0%}"
        )
        held = _hold_out_bases(cut(units, share), keys, labelled, pixels, share, seed)
    if held is None:
        folder, name = keys[int(labelled.argmax())]
        if (labelled > 0).sum() > 1:
            only, way = f"masks of one {split_by} ({folder})", "base"
        else:
            only, way = f"masks of one base image ({folder}/{name})", "patch"
        raise InputError(
            f"there are only {only}: nothing is left to validate on; add masks of another, or use "
            f"--split-by {way}"
            + (
                " (leaky: neighbours are on both sides, so scores come out too high)"
                * (way == "patch")
            )
        )
    return np.where(
        held,
        np.where(labelled > 0, "val", "exclude"),
        np.where(labelled > 0, "train", "unlabeled"),
    ).astype(object)


def _hold_out_bases(
    units: list[list[int]],
    keys: Sequence[tuple[str, str]],
    labelled: NDArray[np.int64],
    pixels: NDArray[np.int64],
    share: float,
    seed: int,
) -> NDArray[np.bool_] | None:
    """bool (base images,): those of the units held out; None where only one unit has masks."""
    useful = [unit for unit in units if labelled[unit].any()]
    if len(useful) < 2:
        return None
    chosen = hold_out(
        ["/".join(keys[unit[0]]) for unit in useful],
        [int(labelled[unit].sum()) for unit in useful],
        np.array([pixels[unit].sum(0) for unit in useful]),
        share,
        seed,
    )
    held = np.zeros(len(keys), bool)
    for unit, out in zip(useful, chosen, strict=True):
        held[unit] = out
    return held


def split_by_patch(
    patches: pd.DataFrame, bases: pd.DataFrame, pixels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The split of each patch, and of each base image: 'mixed' where it is on both sides."""
    rows = np.flatnonzero(patches["mask"] != "")
    splits = np.full(len(patches), "unlabeled", object)
    words = np.full(len(bases), "unlabeled", object)
    if len(rows) == 1:
        raise InputError("only one patch has a usable mask: nothing is left to validate on")
    if len(rows):
        names = patches["image"].iloc[rows].tolist()
        held = hold_out(names, [1] * len(rows), pixels[rows], share, seed)
        splits[rows] = np.where(held, "val", "train")
        base = patches["base"].to_numpy()[rows]
        in_val = np.bincount(base[held], minlength=len(bases)) > 0
        in_train = np.bincount(base[~held], minlength=len(bases)) > 0
        words[in_val], words[in_train], words[in_val & in_train] = "val", "train", "mixed"
    return splits, words


def patch_splits(words: NDArray[np.object_], labelled: NDArray[np.bool_]) -> NDArray[np.object_]:
    """A patch's split from its base image's: without a mask it can be neither learnt nor scored."""
    without = np.where(words == "train", "unlabeled", "exclude")
    return np.where(labelled | np.isin(words, ("unlabeled", "exclude")), words, without).astype(
        object
    )


def frames_on_both_sides(bases: pd.DataFrame) -> int:
    """Pairs of consecutive frames, one of them held out and the other used in training."""
    keys = list(zip(bases["folder"], bases["base_image"], strict=True))
    words = bases["split"].tolist()
    pairs = 0
    for run in frames(keys):
        for one, other in pairwise(run):
            sides = {word in HELD_OUT for word in (words[one], words[other]) if word != "exclude"}
            pairs += len(sides) == 2
    return pairs
