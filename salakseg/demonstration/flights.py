"""The farm as it comes from the field: two flights cut into patches, some with masks; a GeoTIFF."""

import shutil
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from salakseg.classes import packaged_class_mapping, read_class_mapping
from salakseg.console import console, progress
from salakseg.demonstration.farm import PIXEL_SIZE, draw
from salakseg.demonstration.interpreter import TRUTH
from salakseg.demonstration.light import AFTERNOON, NOON
from salakseg.demonstration.things import noise
from salakseg.files import atomic_path

PATCH_SIZE = 256
PHOTOS = 8  # of a flight, in two strips
# Every third frame: those between would show the same ground.
FRAME_STEP = 3
# Flight → its light, and which of its photographs have masks.
FLIGHTS = {"salak-1-1": (NOON, {0, 1, 3, 5, 6, 7}), "salak-1-2": (AFTERNOON, {1, 3, 4})}
# Sleman, Yogyakarta, where snake fruit grows: UTM zone 49 south, metres east and north.
CRS, EAST, NORTH = "EPSG:32749", 430_500.0, 9_154_300.0


def write_farm(out: Path, photo_patches: tuple[int, int], seed: int) -> None:
    """Write `farm.tif`, its true classes (`TRUTH`) and, last and as a whole, `DATA/`; the same
    pixels for the same seed.

    Args:
        photo_patches: patches of 256 pixels across and down a photograph.
    """
    width, height = (PATCH_SIZE * count for count in photo_patches)
    mapping = read_class_mapping(packaged_class_mapping())
    partial = out / ".partial-DATA"
    shutil.rmtree(partial, ignore_errors=True)
    # The orthomosaic is as much work as four photographs.
    with progress("Drawing a farm", total=len(FLIGHTS) * PHOTOS + 4) as bar:
        for number, (flight, (light, labelled)) in enumerate(FLIGHTS.items()):
            for photo in range(PHOTOS):
                strip, place = divmod(photo, PHOTOS // 2)
                left, top = place * width, (2 * number + strip) * height
                image, labels = draw(seed, left, top, width, height, light)
                name = f"DJI_{1 + FRAME_STEP * photo:04d}"
                _write_patches(partial / flight / "images", name, image)
                if photo in labelled:
                    _write_patches(partial / flight / "masks", name, mapping.palette[labels])
                bar.advance()
        south = 2 * len(FLIGHTS) * height  # of both flights
        image, labels = draw(seed, 0, south, 2 * width, 2 * height, NOON)
        truth = Image.fromarray(labels)
        truth.putpalette(mapping.palette.tobytes())
        with atomic_path(out / TRUTH) as temporary:
            truth.save(temporary)
        _write_orthomosaic(out / "farm.tif", image, seed)
        bar.advance(4)
    shutil.copyfile(packaged_class_mapping(), partial / "class_mapping.csv")
    partial.replace(out / "DATA")
    masks = sum(len(labelled) for _, labelled in FLIGHTS.values())
    console.print(
        f"Drew a farm of snake fruit: {len(FLIGHTS) * PHOTOS} photographs of {width} × {height} "
        f"pixels from {len(FLIGHTS)} flights, {masks} of them with masks, cut into patches in "
        f"{out / 'DATA'}; and an orthomosaic of ground that none of them shows, {out / 'farm.tif'}"
    )


def _write_patches(folder: Path, name: str, picture: NDArray[np.uint8]) -> None:
    """Cut a picture (H, W, 3), H and W multiples of 256, into PNGs named by row and column."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(len(picture) // PATCH_SIZE):
        for column in range(picture.shape[1] // PATCH_SIZE):
            y, x = row * PATCH_SIZE, column * PATCH_SIZE
            patch = Image.fromarray(picture[y : y + PATCH_SIZE, x : x + PATCH_SIZE])
            path = folder / f"{name}_patch_{row:03d}_{column:03d}.png"
            patch.save(path, compress_level=3)


def _write_orthomosaic(path: Path, image: NDArray[np.uint8], seed: int) -> None:
    """Write a GeoTIFF with ragged edges, as flown ones have; beyond them it is 0, nodata."""
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    inwards = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    clouds = noise(np.random.default_rng(seed), (height, width), width // 10, 2)
    inside = inwards > width / 40 * np.maximum(1 + clouds, 0.1)
    image = np.where(inside[..., None], np.maximum(image, 1), 0)
    with (
        atomic_path(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=3,
            dtype="uint8",
            crs=CRS,
            transform=from_origin(EAST, NORTH, PIXEL_SIZE, PIXEL_SIZE),
            nodata=0,
            photometric="RGB",
            compress="deflate",
            tiled=True,
        ) as raster,
    ):
        raster.write(np.moveaxis(image, 2, 0))
