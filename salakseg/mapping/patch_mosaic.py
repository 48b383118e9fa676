"""Patches of an image put together again: found by layout, place or name, and read as one image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from salakseg.band_set import BandSet
from salakseg.console import console
from salakseg.data.image_doctor import LARGEST_PATCH
from salakseg.data.layout import LAYOUT, georeference, read_layout
from salakseg.data.patch_names import PATCH_NAME, PatchName, understood
from salakseg.data.problems import plural
from salakseg.errors import InputError
from salakseg.imagery.place import place_of
from salakseg.imagery.raster import ImageSource, Pixels, image_size, open_image, quiet_gdal
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.imagery.tiles import paste

PLACE_COLUMNS = ("base_image", "x", "y", "width", "height", "image_width", "image_height")
# Pixels of decoded patches that are kept while a base image is read: a hundred megabytes.
CACHED_PIXELS = 512 * 256**2
# Patches that tell what holds for all of an image.
SAMPLED_PATCHES = 16
# Patches that have a place of their own fit on one grid of pixels if they are no further off.
GRID_TOLERANCE = 0.1
# Patches of an image begin nearer to its corner, in pixels. Larger numbers are coordinates: names
# tell neither their unit nor which way is up.
COORDINATES = 100_000


@dataclass(frozen=True)
class Patch:
    """A patch: its file, and its place and size in the base image, in pixels."""

    path: Path
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Mosaic:
    """The patches of a base image.

    Attributes:
        path: that no file has, `FOLDER/images/BASE`.
        patches: one or more.
        layout: the first row of these patches in `layout.csv`, where there is one, or what such a
            row would say of patches that have a place of their own.
    """

    path: Path
    patches: tuple[Patch, ...]
    layout: dict[str, str] | None = None


def put_together(folder: Path, paths: list[Path]) -> dict[str, Mosaic] | None:
    """The base images of the patches in a folder, by name; None where its images are no patches.

    Where a patch lies is for `layout.csv` beside `images/` to say, then for its own place on the
    ground, then for its name.
    """
    file = folder.parent / LAYOUT
    layout: dict[str, dict[str, str]] = {}
    if folder.name.lower() == "images" and file.exists():
        layout = read_layout(file, PLACE_COLUMNS)
    names = understood(path.stem for path in paths)
    if not all(path.stem in layout or path.stem in names for path in paths):
        return None
    placed: dict[str, list[Patch]] = {}
    named: dict[str, list[Path]] = {}
    first: dict[str, dict[str, str]] = {}
    for path in paths:
        row = layout.get(path.stem)
        if row is not None:
            where = (int(row[name]) for name in ("x", "y", "width", "height"))
            placed.setdefault(row["base_image"], []).append(Patch(path, *where))
            first.setdefault(row["base_image"], row)
        else:
            named.setdefault(names[path.stem].base_image, []).append(path)
    for base, patches in named.items():
        name = names[patches[0].stem]
        own = _on_one_grid(patches) if base not in placed else None
        height, width = image_size(patches[0])
        if PATCH_NAME.fullmatch(patches[0].stem) is None:
            # Rows and columns may be those of a field trial, and tiles be too large for patches.
            if (own is None and name.x is None) or max(height, width) > LARGEST_PATCH:
                return None
            if own is None and _by_coordinates([names[path.stem] for path in patches]):
                console.print(
                    f"{folder}: the numbers in names such as {patches[0].name} are coordinates, "
                    "not pixels; its images are mapped one by one"
                )
                return None
            count = plural(len(patches), "image is a patch", "images are patches")
            console.print(f"{folder}: by their names, {count} of {base}")
        if own is not None:
            placed[base], first[base] = own
        else:
            placed.setdefault(base, []).extend(
                _by_name(path, names[path.stem], height, width) for path in patches
            )
    return {
        base: Mosaic(folder / base, tuple(patches), first.get(base))
        for base, patches in placed.items()
    }


def _by_coordinates(names: Sequence[PatchName]) -> bool:
    """Whether x and y cannot be pixels."""
    return max(min(name.x or 0 for name in names), min(name.y or 0 for name in names)) > COORDINATES


def _by_name(path: Path, name: PatchName, height: int, width: int) -> Patch:
    """A patch where its name puts it: by pixels, or by rows and columns of patches of that size."""
    if name.x is not None and name.y is not None:
        height, width = image_size(path)
        return Patch(path, name.x, name.y, width, height)
    return Patch(path, (name.column or 0) * width, (name.row or 0) * height, width, height)


def _on_one_grid(paths: list[Path]) -> tuple[list[Patch], dict[str, str]] | None:
    """Patches that say themselves where they lie, and a row of a layout for all of them.

    None where they do not, or do not lie on one grid of pixels.
    """
    crs = grid = None
    corners, sizes = [], []
    with quiet_gdal():
        for path in paths:
            try:
                with open_raster(path) as raster:
                    place, size = place_of(raster), (raster.width, raster.height)
            except GDAL_ERRORS:
                return None
            if place.transform is None or not place.transform.determinant:
                return None
            matrix = np.reshape(place.transform, (3, 3))
            if grid is None:
                crs, grid = place.crs, matrix
            # On the grid of the first one it is the identity, moved by whole pixels.
            on_first = np.linalg.inv(grid) @ matrix
            corner = on_first[:2, 2].round()
            off = np.abs(on_first[:2, 2] - corner).max()
            off = max(off, np.abs(on_first[:2, :2] - np.eye(2)).max() * max(size))
            if place.crs != crs or off > GRID_TOLERANCE:
                console.print(
                    f"{path}: lies elsewhere than on the grid of pixels of {paths[0].name}; the "
                    "patches are put together by their names, and the map has no place"
                )
                return None
            corners.append(corner)
            sizes.append(size)
    first = np.min(corners, axis=0)
    patches = [
        Patch(path, int(x), int(y), width, height)
        for path, (x, y), (width, height) in zip(paths, corners - first, sizes, strict=True)
    ]
    assert grid is not None
    origin = grid @ [[1, 0, first[0]], [0, 1, first[1]], [0, 0, 1]]
    row = {
        "crs": "" if crs is None else crs.to_wkt(),
        "transform": " ".join(map(repr, origin.ravel()[:6].tolist())),
        "image_width": str(max(patch.x + patch.width for patch in patches)),
        "image_height": str(max(patch.y + patch.height for patch in patches)),
    }
    return patches, row


@contextmanager
def open_mosaic(
    mosaic: Mosaic,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
    white_level: int | None = None,
    band_set: BandSet | None = None,
) -> Iterator[ImageSource]:
    """Open it for windowed reading, as `imagery.raster.open_image` does.

    Where no patch lies nothing is valid; a later patch lies over an earlier one.

    Raises:
        InputError: as `open_image`; a patch is not as large as its place.
    """
    crs, transform = georeference(mosaic.layout or {}, mosaic.path.parent.parent / LAYOUT)
    options: dict[str, Any] = {"nodata": nodata, "bands": bands, "band_set": band_set}
    level, notes = _of_all(mosaic.patches, options, white_level)
    lefts, tops = (np.array([getattr(patch, side) for patch in mosaic.patches]) for side in "xy")
    rights = lefts + [patch.width for patch in mosaic.patches]
    bottoms = tops + [patch.height for patch in mosaic.patches]
    width, height = int(rights.max()), int(bottoms.max())
    if mosaic.layout is not None:
        width, height = int(mosaic.layout["image_width"]), int(mosaic.layout["image_height"])

    largest = max(patch.width * patch.height for patch in mosaic.patches)

    @lru_cache(max(1, CACHED_PIXELS // max(1, largest)))
    def pixels_of(number: int) -> Pixels | None:
        patch = mosaic.patches[number]
        try:
            with open_image(patch.path, white_level=level, **options) as source:
                if (source.width, source.height) != (patch.width, patch.height):
                    raise InputError(
                        f"{patch.path}: {source.width} × {source.height} pixels, its place in "
                        f"{mosaic.path.name} has {patch.width} × {patch.height}"
                    )
                return source.read(0, 0, patch.height, patch.width)
        except InputError as error:
            if not skip_unreadable:
                raise
            console.print(f"Left out: {error}")
            return None

    channels = 3 if band_set is None else len(band_set)

    def read(row: int, column: int, window_height: int, window_width: int) -> Pixels:
        pixels = np.zeros((window_height, window_width, channels), np.uint8)
        valid = np.zeros((window_height, window_width), bool)
        inside = (lefts < column + window_width) & (rights > column)
        inside &= (tops < row + window_height) & (bottoms > row)
        for number in np.flatnonzero(inside).tolist():
            patch = pixels_of(number)
            if patch is None:
                continue
            top, left = int(tops[number]) - row, int(lefts[number]) - column
            paste(pixels, patch[0], top, left)
            paste(valid, patch[1], top, left)
        return pixels, valid

    with quiet_gdal():
        place = height, width, crs, transform
        yield ImageSource(mosaic.path, *place, read, level, notes=notes, band_set=band_set)


def _of_all(
    patches: Sequence[Patch], options: dict[str, Any], white_level: int | None
) -> tuple[int | None, tuple[str, ...]]:
    """The white level of patches, one for all, and what to tell of them, by some of them."""
    level, notes = white_level, tuple[str, ...]()
    for patch in patches[:: max(1, len(patches) // SAMPLED_PATCHES)]:
        # What cannot be read is told where it is needed.
        with (
            suppress(InputError),
            open_image(patch.path, white_level=white_level, **options) as one,
        ):
            if not notes or (one.white_level or 0) > (level or 0):
                level, notes = one.white_level, one.notes
            if white_level is not None or one.white_level is None:
                break
    return level, notes
