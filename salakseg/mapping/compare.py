"""A map against a mask: scores, and where it is wrong."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import IGNORE_INDEX, ClassMapping, at_size, read_mask, sizes_agree
from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.mapping.areas import ReadLabels, strips
from salakseg.mapping.inputs import Input
from salakseg.metrics import Scores, confusion_matrix, scores

# The classes of the error map.
ERRORS = ClassMapping((("right", (200, 200, 200), False), ("wrong", (215, 25, 28), False)))


def find_masks(given: Path, inputs: Sequence[Input]) -> dict[str, Path]:
    """The mask of each image, by its name: the file for a single one, else one of its stem.

    Raises:
        InputError: no such file, or an image without a mask.
    """
    if given.is_file():
        if len(inputs) > 1:
            raise InputError(
                f"--compare {given}: is one mask for {len(inputs)} images; name a folder"
            )
        return {inputs[0].name: given}
    if not given.is_dir():
        raise InputError(f"--compare {given}: no such mask or folder of masks")
    by_stem = {
        path.stem: path for path in sorted(given.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES
    }
    found = {}
    for image in inputs:
        stem = image.name.rpartition("/")[2]
        if stem not in by_stem:
            raise InputError(f"--compare {given}: holds no mask for {image.path}")
        found[image.name] = by_stem[stem]
    return found


def require_same_size(mask: Path, shape: tuple[int, int]) -> None:
    """Raise `InputError` unless a mask is of the image's size, give or take two pixels."""
    try:
        with Image.open(mask) as image:
            width, height = image.size
    except OSError as error:
        raise InputError(f"{mask}: the mask cannot be read ({error})") from error
    if not sizes_agree((height, width), shape):
        raise InputError(
            f"{mask}: {width} × {height} pixels, the image has {shape[1]} × {shape[0]}"
        )


def compare(
    mask: Path, read: ReadLabels, shape: tuple[int, int], mapping: ClassMapping, errors: Path
) -> Scores:
    """Score a map.

    Args:
        read: (row, column, height, width) → labels.
        shape: of the map; see `require_same_size`.
        errors: raw file to write, uint8 of `shape`: 0 right, 1 wrong, 255 not scored.

    Raises:
        InputError: a mask that cannot be read.
    """
    labels = at_size(read_mask(mask, mapping).labels, shape)
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "iou", "precision", "recall", "f1", "pixels", "made_by"])
    for index, name in enumerate(mapping.names):
        values = [column[index] for column in (found.iou, found.precision, found.recall, found.f1)]
        shown = ["" if np.isnan(value) else f"{value:.4f}" for value in values]
        writer.writerow([name, *shown, found.support[index], made_by])
    return text.getvalue()


def print_scores(path: Path, found: Scores, mapping: ClassMapping) -> None:
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
