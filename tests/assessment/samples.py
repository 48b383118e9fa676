"""Class maps that are known, with their images, for all tests of assessment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from salakseg.assessment.points import Plan
from tests.rasters import write_tiff

NAMES = ["Water", "Land & sand", "Wood"]
SHARES = (0.1, 0.6, 0.3)
COLORS = {0: (0, 0, 255, 255), 1: (200, 180, 90, 255), 2: (0, 120, 0, 255)}


def labels_of(height: int = 120, width: int = 150, seed: int = 0) -> NDArray[np.uint8]:
    """Labels (height, width), 0 to 2 in `SHARES`, and a corner of 255."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, (height, width), p=SHARES).astype(np.uint8)
    labels[: height // 6, : width // 6] = 255
    return labels


def class_map(path: Path, labels: NDArray[np.uint8], **options: Any) -> Path:
    """Write PATH_classes.tif and the image PATH.tif that it tells of."""
    image = np.stack([labels] * 3) * 60 + 20
    write_tiff(path.with_suffix(".tif"), image.astype(np.uint8), **options)
    classes = path.with_name(path.name + "_classes.tif")
    write_tiff(classes, labels[None], nodata=255, **options)
    with rasterio.open(classes, "r+") as raster:
        raster.write_colormap(1, COLORS)
        tags = {f"CLASS_{index}": name for index, name in enumerate(NAMES)}
        raster.update_tags(**tags, IMAGE=f"{path.name}.tif", KEY="k")
    return classes


def answer(plan: Plan, of: Callable[[dict[str, Any]], str]) -> Path:
    """Write the plan's `reference.csv`, each point answered by a function of its row."""
    rows = [f'{one["id"]},"{of(one)}"' for one in plan.content["sample"]]
    path = plan.folder / "reference.csv"
    path.write_text("\n".join(["id,reference", *rows]) + "\n", encoding="utf-8")
    return path


# What is on the ground
TRUTH = np.where(labels_of(seed=5) == 255, 1, labels_of(seed=5))


def mapped(share: float = 0.8) -> NDArray[np.uint8]:
    """A map that is right in this share of its pixels."""
    right = np.random.default_rng(7).random(TRUTH.shape) < share
    return np.where(labels_of() == 255, 255, np.where(right, TRUTH, labels_of())).astype(np.uint8)


def true_name(one: dict[str, Any]) -> str:
    """What is on the ground at a point."""
    return NAMES[TRUTH[one["row"], one["column"]]]
