"""The pictures of the points: near and wide around each, a cross on its pixel, a scale bar."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from salakseg.assessment.class_maps import ClassMap
from salakseg.band_set import BandSet
from salakseg.errors import InputError
from salakseg.imagery.bands import checked_bands
from salakseg.imagery.drawing import Picture, scale_bar
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.remote import RemoteImage
from salakseg.mapping.inputs import Input, find_inputs, open_input

# Pixels of the image along a side of both parts, odd, so that one is in the middle; and a part's
# side in the picture.
NEAR, WIDE = 129, 645
SIDE = 3 * NEAR
# Where the arms of the cross begin and end, in pixels of the picture from the middle.
FREE, ARM = 7, 40
BEYOND = 128  # grey: not in the image
QUALITY = 88


def find_images(maps: Sequence[ClassMap], given: Sequence[Path | str]) -> list[Input]:
    """The image of each map: of those given that of its name, else the one that it tells of.

    Raises:
        InputError: it is not there.
    """
    offered = find_inputs(given) if given else []
    found = []
    for one in maps:
        named = [image for image in offered if image.name.rpartition("/")[2] == one.name]
        if len(maps) == len(offered) == 1:
            named = offered
        if not named and given:
            raise InputError(f"{one.path}: --image gives no image called {one.name}")
        found.append(named[0] if named else _told(one))
    return found


def _told(one: ClassMap) -> Input:
    path = one.image
    if path is None:
        raise InputError(f"{one.path}: does not tell of which image it is; say --image FILE")
    if isinstance(path, RemoteImage) or path.is_file():
        return Input(path, path.stem)
    # Of patches that were put together, no file has this path.
    if path.parent.is_dir():
        for image in find_inputs([path.parent]):
            if image.path == path:
                return image
    raise InputError(f"{one.path}: its image {path} is not there; say --image FILE")


@contextmanager
def open_image_of(one: ClassMap, image: Input) -> Iterator[ImageSource]:
    """Open it as `predict` did.

    Raises:
        InputError: it cannot be read, or is of another size than the map.
    """
    options = one.options
    bands, several = options.get("bands"), options.get("band_set")
    with open_input(
        image,
        options.get("nodata"),
        None if bands is None else checked_bands(bands),
        True,
        options.get("white_level"),
        None if several is None else BandSet.from_plain(several),
    ) as source:
        if (source.height, source.width) != (one.source.height, one.source.width):
            raise InputError(
                f"{image.path}: {source.width} × {source.height} pixels, the map {one.path} has "
                f"{one.source.width} × {one.source.height}; say --image FILE"
            )
        yield source


def write_chip(
    path: Path, source: ImageSource, row: int, column: int, metres: float | None
) -> None:
    """Write the JPEG of a point, near on the left and wide on the right.

    Args:
        metres: side of the image's pixels on the ground; None: no scale bar.
    """
    parts = []
    for reach in (NEAR, WIDE):
        part = np.asarray(_crossed(_around(source, row, column, reach), reach))
        if metres is not None:
            part = np.concatenate([part, _scale(metres * reach / SIDE)])
        parts.append(part)
    Image.fromarray(np.concatenate(parts, axis=1)).save(path, quality=QUALITY)


@lru_cache(16)
def _scale(metres: float) -> Picture:
    return scale_bar(metres, SIDE)


def _around(source: ImageSource, row: int, column: int, reach: int) -> Picture:
    """uint8 (reach, reach, 3) about a pixel."""
    picture = np.full((reach, reach, 3), BEYOND, np.uint8)
    top, left = row - reach // 2, column - reach // 2
    first_row, first_column = max(0, top), max(0, left)
    height = min(source.height, top + reach) - first_row
    width = min(source.width, left + reach) - first_column
    pixels, valid = source.read(first_row, first_column, height, width)
    pixels = source.shown(pixels)
    down, across = first_row - top, first_column - left
    if not valid.all():
        pixels = np.where(valid[..., None], pixels, np.uint8(BEYOND))
    picture[down : down + height, across : across + width] = pixels
    return picture


def _crossed(picture: NDArray[np.uint8], reach: int) -> Image.Image:
    """The picture at its size, a cross about the middle; on the wide one a frame of the near."""
    filter_ = Image.Resampling.BICUBIC if reach < SIDE else Image.Resampling.BOX
    image = Image.fromarray(picture).resize((SIDE, SIDE), filter_)
    draw = ImageDraw.Draw(image)
    middle = SIDE // 2
    for color, width in (("white", 5), ("red", 3)):
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = [(middle + far * x, middle + far * y) for far in (FREE, ARM)]
            draw.line(ends, fill=color, width=width)
    if reach > NEAR:
        half = NEAR * SIDE / reach / 2
        box = (middle - half, middle - half, middle + half, middle + half)
        draw.rectangle(box, outline="white")
    return image
