"""Photographs to label, and what comes of labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from PIL import Image

from salakseg import patchify
from salakseg.classes import read_class_mapping, read_mask
from salakseg.data.labels_draw import Drawing, Shape
from salakseg.data.labels_files import read_label_files
from salakseg.data.labels_image import Labelled
from tests.data.cutting import layout, write_geotiff

# One of eleven pixels a row, to see that rows and columns are not mixed up.
WIDTH, HEIGHT = 60, 40
UTM = "EPSG:32748"  # of `write_geotiff`, whose corner and pixel these are
LEFT, TOP, PIXEL = 400_000.0, 9_150_000.0, 0.1


def photo(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A photograph without a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def orthomosaic(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A photograph with a place."""
    write_geotiff(path, np.full((3, height, width), 90, np.uint8))
    return path


def on_ground(area: Any) -> Any:
    """From pixels of `orthomosaic` to its CRS."""
    return shapely.transform(area, lambda at: at * (PIXEL, -PIXEL) + (LEFT, TOP))


def write_layer(
    path: Path, areas: Sequence[Any], crs: str | None = UTM, kind: str = "Unknown", **columns: Any
) -> Path:
    """A vector file of any driver, by its suffix; None in a column is NULL."""
    options = {"driver": "LIBKML"} if path.suffix == ".kml" else {}
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(areas, object)),
        [np.array(values, object) for values in columns.values()],
        list(columns),
        geometry_type=kind,
        crs=crs,
        **options,
    )
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read(path: Path) -> list[Labelled]:
    return read_label_files(path, None, None).images


def drawn(shapes: Sequence[Shape], width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Row of the mapping of each pixel (H, W): the classes' names in the order of the alphabet."""
    names = sorted({shape.name for shape in shapes})
    rows = tuple((name, (0, 0, number), False) for number, name in enumerate(names))
    areas = tuple((names.index(shape.name), shape.area) for shape in shapes)
    return Drawing(width, height, areas, rows).draw(0, height)[0]


def labels_after(data: Path, out: Path, labels: Path, size: int = 32, **options: Any) -> Any:
    """Class names (H, W) of the only photograph with masks, put together from its patches; "" for
    no class."""
    patchify(data, out=out, labels=labels, size=size, num_workers=1, **options)
    mapping = read_class_mapping(out / "class_mapping.csv")
    full: Any = None
    for row in layout(out):
        if not (out / "masks" / f"{row['patch']}.png").exists():
            continue
        x, y, width, height, across, down = (
            int(row[key]) for key in ("x", "y", "width", "height", "image_width", "image_height")
        )
        reading = read_mask(out / "masks" / f"{row['patch']}.png", mapping)
        assert not reading.unknown
        full = np.full((down, across), 7, np.uint8) if full is None else full
        full[y : y + height, x : x + width] = reading.labels
    return np.array([*mapping.names, *[""] * (256 - mapping.num_classes)], object)[full]
