"""The ground of few labelled images → blocks, some held out, with a margin that no side uses.

The ground that has masks is divided evenly, down and across, into blocks; a patch belongs to the
one in which its centre lies. Patches with a mask in a block that is held out are for validation;
any other patch less than a patch's side from one of these is left out, also one of another image
of the same ground.

A block has at least the side that is asked for. By itself that is as far as labels are alike: the
range of their spatial correlation, the least distance at which two patches differ in their classes
as much as any two do, to 95 %; at least two patches, and at most so many that there are as many
blocks with masks as it takes for the share (five for a fifth).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from salakseg.console import console
from salakseg.data.places import Ground, boxes_in
from salakseg.data.problems import Problems, plural
from salakseg.data.split import hold_out
from salakseg.errors import InputError

# With fewer labelled base images than this their ground is divided, where places are known.
FEW_BASES = 3
LEAST_SIDE = 2
# Of the mean difference of any two patches: where it is reached, they have nothing in common.
UNRELATED = 0.95
LEAST_PAIRS = 10
PATCHES_COMPARED = 2000


Edges = tuple[list[float], list[float]]


@dataclass(frozen=True)
class AreaSplit:
    """A split of patches by where they lie.

    Attributes:
        splits: str (patches,).
        words: str (base images,), 'mixed' where both sides have some of it.
        side: the least of a block, in patches.
        edges: base image → where its blocks' edges lie, across and down, in pixels of the image.
        alike: range of correlation of the labels in patches; None where that cannot be told.
        apart: pixels between what is held out and the nearest patch of training, labelled or not;
            None where these are never of one image or ground.
        metres: the same on the ground; None where a pixel's size is not known.
        margin: patches in the margin, not used.
    """

    splits: NDArray[np.object_]
    words: NDArray[np.object_]
    side: int
    edges: dict[int, Edges]
    alike: int | None
    apart: int | None
    metres: float | None
    margin: int

    def as_plain(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "block_size": self.side,
            "correlation_range": self.alike,
            "apart_pixels": self.apart,
            "apart_metres": self.metres,
            "margin_patches": self.margin,
        }


def require_block_size(side: int | None, split_by: str | None) -> None:
    """Raise `InputError` for a side that is none, or of a split without blocks of ground."""
    if side is not None and side < 1:
        raise InputError(f"--block-size {side}: a block has at least one patch a side")
    if side is not None and split_by not in (None, "area"):
        raise InputError(f"--block-size {side}: is of --split-by area, not {split_by}")


def may_split_by_area(patches: pd.DataFrame, bases: pd.DataFrame) -> bool:
    """Whether few base images have masks, and where the patches of these lie is known."""
    labelled = bases["labelled"].to_numpy() > 0
    if not 0 < labelled.sum() < FEW_BASES:
        return False
    of_labelled = patches[labelled[patches["base"].to_numpy()]]
    return bool(of_labelled[["x", "y"]].notna().all(axis=None))


def on_one_ground(patches: pd.DataFrame, grounds: Mapping[int, Ground]) -> bool:
    """Whether labelled images whose places on the ground are known overlap there."""
    labelled = patches[patches["mask"] != ""]
    base = labelled["base"].to_numpy()
    boxes = labelled[["x", "y", "x", "y"]].to_numpy(float)
    boxes[:, 2:] += labelled[["width", "height"]].to_numpy(float)
    for number in sorted(grounds.keys() & set(base.tolist())):
        there = boxes_in(number, boxes, base, grounds)
        known = np.isfinite(there).all(1)
        own, others = there[known & (base == number)], there[known & (base != number)]
        apart = (others[:, 2:] <= own[:, :2].min(0)) | (others[:, :2] >= own[:, 2:].max(0))
        if (~apart.any(1)).any():
            return True
    return False


def split_by_area(
    patches: pd.DataFrame,
    bases: pd.DataFrame,
    pixels: NDArray[np.int64],
    size: int,
    share: float,
    seed: int,
    side: int | None,
    grounds: Mapping[int, Ground],
    problems: Problems,
) -> AreaSplit | None:
    """None where nothing is left to learn from or to validate on.

    Args:
        patches: with the columns base, mask, x, y, width, height, pixel_size.
        bases: with folder, base_image and labelled.
        pixels: int64 (patches, K), of each class.
        size: of a patch, in pixels.
        side: of a block, in patches; None: by the labels.
        grounds: base image → where it lies, as far as that is known (`places.grounds_of`).
        problems: are told of each patch in the margin.

    Raises:
        InputError: the place of a patch of a labelled image is not known.
    """
    labelled = (patches["mask"] != "").to_numpy()
    base = patches["base"].to_numpy()
    on = (bases["labelled"].to_numpy() > 0)[base]
    places = patches[["x", "y"]]
    lacking = on & places.isna().any(axis=1).to_numpy()
    if lacking.any():
        raise InputError(
            f"--split-by area: where {patches['image'].iloc[int(lacking.argmax())]} lies in its "
            "image is not known; salakseg patchify writes layout.csv, which says it"
        )
    extent = patches[["width", "height"]].to_numpy(float)
    corners = places.astype("Float64").to_numpy(float, na_value=np.nan)
    boxes = np.concatenate([corners, corners + extent], 1)
    centres = corners + extent / 2
    alike = correlation_range(centres[labelled], base[labelled], pixels[labelled], size)
    rows = np.flatnonzero(labelled)
    sides = [side] if side is not None else _sides(centres[rows], base[rows], size, share, alike)
    held = np.zeros(len(patches), bool)
    for one in sides:
        blocks, edges = _blocks(centres[rows], base[rows], one, size)
        found = _held(blocks, bases, pixels[rows], share, seed)
        if found is None:
            continue
        held[rows] = found
        between = _between(boxes, base, held, grounds, size)
        near = ~held & (between < size)
        splits = np.where(labelled, "train", "unlabeled").astype(object)
        splits[held], splits[near] = "val", "exclude"
        used = (splits == "train") | (splits == "unlabeled")
        if (splits == "train").any():
            break
    else:
        return None
    for image in patches["image"][near]:
        problems.handled(
            "in the margin of a held-out block",
            str(image),
            f"less than {size} pixels from a patch of validation: not used",
        )
    words = np.full(len(bases), "unlabeled", object)
    count = {
        word: np.bincount(base[splits == word], minlength=len(bases)) for word in ("train", "val")
    }
    words[count["train"] > 0], words[count["val"] > 0] = "train", "val"
    on_both = np.bincount(base[used], minlength=len(bases)) > 0
    words[(count["val"] > 0) & on_both] = "mixed"
    nearest = between[used].min(initial=np.inf)
    apart = int(nearest) if np.isfinite(nearest) else None
    metres = float(np.nanmin(patches["pixel_size"][on])) if _known(patches, on) else None
    return AreaSplit(
        splits,
        words,
        one,
        edges,
        alike,
        apart,
        None if metres is None or apart is None else apart * metres,
        int(near.sum()),
    )


def _known(patches: pd.DataFrame, on: NDArray[np.bool_]) -> bool:
    return bool(patches["pixel_size"][on].notna().any())


def correlation_range(
    centres: NDArray[np.float64],
    base: NDArray[np.int64],
    pixels: NDArray[np.int64],
    size: int,
) -> int | None:
    """In patches, the least distance at which labelled patches (N) of one image differ in their
    classes' shares as any two do; None where they never do, or are too few."""
    if not len(centres):
        return None
    every = np.unique(np.linspace(0, len(centres) - 1, PATCHES_COMPARED).astype(int))
    centres, base = centres[every], base[every]
    shares = pixels[every] / np.maximum(1, pixels[every].sum(1, keepdims=True))
    lags: list[NDArray[np.int64]] = []
    halves: list[NDArray[np.float64]] = []
    for number in np.unique(base):
        here = base == number
        first, second = np.triu_indices(int(here.sum()), 1)
        off = centres[here][first] - centres[here][second]
        lags.append(np.rint(np.hypot(*off.T) / size).astype(np.int64))
        halves.append(((shares[here][first] - shares[here][second]) ** 2).sum(1) / 2)
    lag, half = np.concatenate(lags), np.concatenate(halves)
    if not len(lag) or not half.any():
        return None
    pairs = np.bincount(lag)
    mean = np.bincount(lag, half) / np.maximum(1, pairs)
    far = np.flatnonzero((pairs >= LEAST_PAIRS) & (mean >= UNRELATED * half.mean()))
    return int(max(1, far[0])) if len(far) else None


def _sides(
    centres: NDArray[np.float64],
    base: NDArray[np.int64],
    size: int,
    share: float,
    alike: int | None,
) -> list[int]:
    """The side of a block by the rule of this module, in patches, and smaller ones to try."""
    side = max(LEAST_SIDE, alike or LEAST_SIDE)
    wanted = math.ceil(1 / share)
    while side > LEAST_SIDE:
        if len(np.unique(_blocks(centres, base, side, size)[0], axis=0)) >= wanted:
            break
        side -= 1
    return list(range(side, 0, -1))


def _blocks(
    centres: NDArray[np.float64], base: NDArray[np.int64], side: int, size: int
) -> tuple[NDArray[np.int64], dict[int, Edges]]:
    """Of patches with masks (N): base image, column and row of the block of each, (N, 3); and where
    the edges of the blocks lie."""
    blocks = np.column_stack([base, np.zeros((len(base), 2), np.int64)])
    edges: dict[int, Edges] = {}
    for number in np.unique(base).tolist():
        here = base == number
        low, high = centres[here].min(0) - size / 2, centres[here].max(0) + size / 2
        count = np.maximum(1, (high - low) // (side * size)).astype(int)
        step = (high - low) / count
        blocks[here, 1:] = np.minimum((centres[here] - low) // step, count - 1)
        across, down = (
            np.linspace(low[axis], high[axis], count[axis] + 1).tolist() for axis in (0, 1)
        )
        edges[number] = across, down
    return blocks, edges


def _held(
    blocks: NDArray[np.int64],
    bases: pd.DataFrame,
    pixels: NDArray[np.int64],
    share: float,
    seed: int,
) -> NDArray[np.bool_] | None:
    """bool (N,): which of the patches with masks are held out; None where they are one block."""
    units, of_patch = np.unique(blocks, axis=0, return_inverse=True)
    of_patch = of_patch.ravel()
    if len(units) < 2:
        return None
    sums = np.zeros((len(units), pixels.shape[1]), np.int64)
    np.add.at(sums, of_patch, pixels)
    folders, names = bases["folder"].tolist(), bases["base_image"].tolist()
    called = [f"{folders[base]}/{names[base]}/{x}/{y}" for base, x, y in units.tolist()]
    counts = np.bincount(of_patch).tolist()
    return hold_out(called, counts, sums, share, seed)[of_patch]


def _between(
    boxes: NDArray[np.float64],
    base: NDArray[np.int64],
    held: NDArray[np.bool_],
    grounds: Mapping[int, Ground],
    size: int,
) -> NDArray[np.float64]:
    """(patches,): pixels between the edges of a patch and of the nearest one that is held out,
    along the axis that is further; infinite where none is held out of its image or ground."""
    found = np.full(len(boxes), np.inf)
    for number in np.unique(base[held]).tolist():
        there = boxes_in(number, boxes, base, grounds)
        known = np.isfinite(there).all(1)
        low, high = np.split(there[known], 2, axis=1)
        centres = (low + high) / 2
        tree = cKDTree(centres[(held & (base == number))[known]])
        away = tree.query(centres, p=np.inf)[0] - (high - low).max(1) / 2 - size / 2
        found[known] = np.minimum(found[known], away)
    return found


def say_area(split: AreaSplit, by_hand: bool) -> None:
    """How large blocks are and why, how far the sides are apart, and what that costs.

    Args:
        by_hand: their size was asked for.
    """
    if split.alike is None:
        why = "how far labels are alike cannot be told from so few"
    elif split.alike <= split.side:
        why = f"labels are alike up to {plural(split.alike, 'patch', 'patches')}"
    else:
        why = (
            f"labels are alike up to {split.alike} patches, so scores come out somewhat too high"
            + ("" if by_hand else ": larger blocks would be too few")
        )
    console.print(
        f"Blocks of {split.side} × {split.side} patches or more ({why}); {split.margin} patches "
        "beside those of validation are not used"
    )
    if split.apart is not None:
        on_ground = f" ({split.metres:.3g} m on the ground)" if split.metres is not None else ""
        console.print(f"Training and validation lie at least {split.apart} pixels{on_ground} apart")
