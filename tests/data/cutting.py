"""Folders of photographs and masks to cut, and what comes back from their patches."""

import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data.layout import LAYOUT_COLUMNS, WHITE_LEVEL

SAMPLES = Path(__file__).parents[1] / "samples" / "dubai"
MAPPING = read_class_mapping(SAMPLES / "class_mapping.csv")
QUIET = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]
NAMES = ("tile1_part001", "tile2_part004")  # an RGB mask and a palette mask


def photos_and_masks(data: Path) -> Path:
    """Two photos with masks in DATA, one without in DATA/flight1."""
    for folder in ("images", "masks", "flight1/images"):
        (data / folder).mkdir(parents=True)
    for name in NAMES:
        shutil.copy(SAMPLES / "images" / f"{name}.jpg", data / "images")
        shutil.copy(SAMPLES / "masks" / f"{name}.png", data / "masks")
    shutil.copy(SAMPLES / "images" / "tile3_part005.jpg", data / "flight1" / "images")
    shutil.copy(SAMPLES / "class_mapping.csv", data)
    return data


def layout(folder: Path) -> list[dict[str, str]]:
    with open(folder / "layout.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    columns = tuple(reader.fieldnames or ())
    assert columns in (LAYOUT_COLUMNS, (*LAYOUT_COLUMNS, WHITE_LEVEL))
    return rows


def reassembled(folder: Path, kind: str, read) -> dict[str, np.ndarray]:
    """Full pictures by base image from the patches; pixels that no patch covers are 7."""
    pictures: dict[str, np.ndarray] = {}
    for row in layout(folder):
        patch = read(folder / kind / f"{row['patch']}.png")
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        assert patch.shape[:2] == (height, width)
        full = pictures.setdefault(
            row["base_image"],
            np.full((int(row["image_height"]), int(row["image_width"]), *patch.shape[2:]), 7, "u1"),
        )
        full[y : y + height, x : x + width] = patch
    return pictures


def labels_of(path: Path) -> np.ndarray:
    return read_mask(path, MAPPING).labels


def write_mask(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def file_bytes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".patchify.json"
    }


def write_geotiff(path: Path, pixels: np.ndarray, **profile: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    georeference = {"crs": "EPSG:32748", "transform": from_origin(400000, 9150000, 0.1, 0.1)}
    with rasterio.open(
        path, "w", "GTiff", width, height, bands, dtype=pixels.dtype, **georeference | profile
    ) as raster:
        raster.write(pixels)
