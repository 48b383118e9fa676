"""A map against a mask: scores, and where it is wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.classes import (
    IGNORE_INDEX,
    ClassMapping,
    at_size,
    read_mask,
    sizes_agree,
)
from salakseg.console import console
from salakseg.data.folders import files_by_stem
from salakseg.data.patch_names import composed
from salakseg.errors import InputError
from salakseg.imagery.alignment import lies_elsewhere
from salakseg.imagery.remote import ImagePath
from salakseg.mapping.areas import ReadLabels, strips
from salakseg.mapping.inputs import Input
from salakseg.mapping.outputs import csv_text
from salakseg.mask_sets import understood_files
from salakseg.masks import open_mask
from salakseg.metrics import Scores, confusion_matrix, scores

# The classes of the error map.
ERRORS = ClassMapping((("right", (200, 200, 200), False), ("wrong", (215, 25, 28), False)))


@dataclass(frozen=True)
class Truth:
    """The mask of an image, and all masks that are compared with: together they tell what the
    numbers in them stand for."""

    path: Path
    masks: tuple[Path, ...]


def find_masks(given: Path, inputs: Sequence[Input]) -> dict[str, Truth]:
    """The mask of each image, by its name: the file for a single one, else one of its stem.

    Raises:
        InputError: no such file, an image without a mask, or with one of other ground.
    """
    found = {}
    if given.is_file():
        if len(inputs) > 1:
            raise InputError(
                f"--compare {given}: is one mask for {len(inputs)} images; name a folder"
            )
        found[inputs[0].name] = given
    elif given.is_dir():
        by_stem, _ = files_by_stem(path.name for path in given.iterdir())
        for image in inputs:
            stem = composed(image.name.rpartition("/")[2])
            if stem not in by_stem:
                raise InputError(f"--compare {given}: holds no mask for {image.path}")
            found[image.name] = given / by_stem[stem][0]
    else:
        raise InputError(f"--compare {given}: no such mask or folder of masks")
    for image in inputs:
        mask = found[image.name]
        if image.mosaic is None and (words := lies_elsewhere(image.path, mask)):
            raise InputError(f"{mask}: {words}")
    return {name: Truth(mask, tuple(found.values())) for name, mask in found.items()}


def require_understood(masks: Iterable[Truth], mapping: ClassMapping) -> None:
    """Read all masks, and say what their numbers stand for; `InputError` where one cannot be read,
    or nothing tells it."""
    for mask in masks:
        _understood(mask.masks, mapping)


def require_fitting(mask: Truth, shape: tuple[int, int]) -> None:
    """Raise `InputError` unless a mask is of the image's size, give or take two pixels."""
    with open_mask(mask.path) as stored:
        width, height = stored.width, stored.height
    if not sizes_agree((height, width), shape):
        raise InputError(
            f"{mask.path}: {width} × {height} pixels, the image has {shape[1]} × {shape[0]}"
        )


@lru_cache(1)
def _understood(masks: tuple[Path, ...], mapping: ClassMapping) -> ClassMapping:
    """The classes of the masks, with what their numbers stand for; said once."""
    mapping, found = understood_files(masks, mapping)
    if found is not None:
        if found.words:
            console.print(f"Masks read: {found.words}")
        if found.doubt:
            console.print(f"WARNING: {found.doubt}")
    return mapping


def score_map(
    mask: Truth, read: ReadLabels, shape: tuple[int, int], mapping: ClassMapping, errors: Path
) -> Scores:
    """Score a map.

    Args:
        read: (row, column, height, width) → labels.
        shape: of the map; see `require_fitting`.
        errors: raw file to write, uint8 of `shape`: 0 right, 1 wrong, 255 not scored.

    Raises:
        InputError: a mask that cannot be read.
    """
    labels = at_size(read_mask(mask.path, _understood(mask.masks, mapping)).labels, shape)
    total = torch.zeros((mapping.num_classes, mapping.num_classes), dtype=torch.int64)
    with errors.open("wb") as file:
        for row, column, height, width in strips(0, 0, *shape):
            predicted = read(row, column, height, width)
            truth = labels[row : row + height]
            truth[predicted == IGNORE_INDEX] = IGNORE_INDEX
            total += confusion_matrix(
                torch.from_numpy(truth),
                torch.from_numpy(np.where(truth == IGNORE_INDEX, 0, predicted)),
                mapping.num_classes,
            )
            wrong: NDArray[np.uint8] = (truth != predicted).astype(np.uint8)
            wrong[truth == IGNORE_INDEX] = IGNORE_INDEX
            file.write(wrong.tobytes())
    return scores(total)


def scores_csv(found: Scores, mapping: ClassMapping, made_by: str) -> str:
    """One line a class; empty where the mask holds none of it."""
    rows: list[list[object]] = [["class", "iou", "precision", "recall", "f1", "pixels", "made_by"]]
    for index, name in enumerate(mapping.names):
        values = [column[index] for column in (found.iou, found.precision, found.recall, found.f1)]
        shown = ["" if np.isnan(value) else f"{value:.4f}" for value in values]
        rows.append([name, *shown, found.support[index], made_by])
    return csv_text(rows)


def print_scores(path: ImagePath, found: Scores, mapping: ClassMapping) -> None:
    """One line: mIoU, accuracy, and the IoU of each class that the mask holds."""
    by_class = ", ".join(
        f"{name} {100 * iou:.1f}"
        for name, iou in zip(mapping.names, found.iou, strict=True)
        if not np.isnan(iou)
    )
    console.print(
        f"{path}: mIoU {100 * found.miou:.1f}, {100 * found.pixel_accuracy:.1f} % of the pixels "
        f"right; IoU: {by_class or 'nothing in the mask to score'}"
    )
