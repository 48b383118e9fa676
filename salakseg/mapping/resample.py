"""An image at the pixel size that the network was trained at, and its map back on the image's grid.

The network sees the image resampled on the fly; each pixel of the image takes the class and the
confidence of the network's pixel that its centre lies in.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.raster import ImageSource, Pixels
from salakseg.mapping.classify import Block

# Nearer to the network's pixel size than this, an image is taken as it is.
RESOLUTION_TOLERANCE = 0.1
# Further away, it is likelier that one of the two sizes is wrong.
MAX_SCALE = 20.0
# Pixels of the image that are read at a time; a coarse network pixel may stand for hundreds.
READ_PIXELS = 8_000_000
# Pixels beside a window that bilinear interpolation looks at.
MARGIN = 2


def checked_resolution(resolution: str | float) -> str:
    """`resolution` as text, or `InputError`."""
    with suppress(ValueError):
        if resolution in ("match", "own") or float(resolution) > 0:
            return str(resolution)
    raise InputError(f"--resolution {resolution}: must be match, own, or metres a pixel")


def network_scale(
    path: Path, side: float | None, model_side: float | None, resolution: str
) -> float:
    """Pixels that the network sees a pixel of the image, along a side; said where it is not 1.

    Args:
        side: of the image's pixels on the ground, in metres; None: not known.
        model_side: of the pixels that the model was trained at.
        resolution: match, own, or metres.

    Raises:
        InputError: a resolution asked for that cannot be reached.
    """
    if resolution == "own" or (resolution == "match" and (model_side is None or side is None)):
        return 1.0
    if side is None:
        raise InputError(
            f"{path}: cannot be brought to --resolution {resolution}, for the size of its pixels "
            "is not known; say it with --gsd"
        )
    matching = resolution == "match"
    target = float(model_side or 0) if matching else float(resolution)
    scale = side / target
    if abs(scale - 1) <= RESOLUTION_TOLERANCE:
        return 1.0
    if not 1 / MAX_SCALE <= scale <= MAX_SCALE:
        raise InputError(
            f"{path}: its pixels are {side:.3g} m, too far from {target:.3g} m to be "
            "resampled; --resolution own takes it as it is"
        )
    reason = "that the model was trained at" if matching else "asked for"
    console.print(
        f"{path}: {side:.3g} m a pixel, resampled for the network to the {target:.3g} m {reason}"
    )
    return scale


def resampled(source: ImageSource, scale: float) -> ImageSource:
    """`source` with `scale` times as many pixels a side: averaged down, or bilinear up.

    A pixel is valid where the pixel of `source` at its centre is. Without CRS and transform.
    """
    height = max(1, round(source.height * scale))
    width = max(1, round(source.width * scale))
    across, down = source.width / width, source.height / height
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR

    def read_rows(row: int, column: int, rows: int, columns: int) -> Pixels:
        top, left = row * down, column * across
        bottom, right = (row + rows) * down, (column + columns) * across
        first_row, first_column = max(0, floor(top) - MARGIN), max(0, floor(left) - MARGIN)
        last_row = min(source.height, ceil(bottom) + MARGIN)
        last_column = min(source.width, ceil(right) + MARGIN)
        image, valid = source.read(
            first_row, first_column, last_row - first_row, last_column - first_column
        )
        box = (
            left - first_column,
            top - first_row,
            min(right - first_column, image.shape[1]),
            min(bottom - first_row, image.shape[0]),
        )
        small = Image.fromarray(image).resize((columns, rows), resampling, box)
        centres = np.ix_(
            _centres(row, rows, down, source.height) - first_row,
            _centres(column, columns, across, source.width) - first_column,
        )
        return np.asarray(small), valid[centres]

    def read(row: int, column: int, rows: int, columns: int) -> Pixels:
        step = max(1, int(READ_PIXELS / (columns * across * down + 1)))
        parts = [
            read_rows(first, column, min(step, row + rows - first), columns)
            for first in range(row, row + rows, step)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate(
            [part[1] for part in parts]
        )

    return replace(source, height=height, width=width, crs=None, transform=None, read=read)


def _centres(first: int, count: int, step: float, size: int) -> NDArray[np.intp]:
    """The pixels of the image at the centres of network pixels `first` … `first` + `count` - 1."""
    centres = np.floor((np.arange(first, first + count) + 0.5) * step).astype(np.intp)
    return np.minimum(centres, size - 1)


def on_grid(blocks: Iterator[Block], small: ImageSource, source: ImageSource) -> Iterator[Block]:
    """Blocks of `small`, which is `resampled(source, …)`, as blocks of `source`."""

    def owned(first: int, count: int, size: int, small_size: int) -> tuple[int, NDArray[np.intp]]:
        # The pixels of the image whose centres lie in these network pixels.
        begin = ceil(first * size / small_size - 0.5)
        end = (
            size if first + count == small_size else ceil((first + count) * size / small_size - 0.5)
        )
        of = np.floor((np.arange(begin, end) + 0.5) * small_size / size).astype(np.intp)
        return begin, np.clip(of - first, 0, count - 1)

    for block in blocks:
        height, width = block.labels.shape
        row, rows = owned(block.row, height, source.height, small.height)
        column, columns = owned(block.column, width, source.width, small.width)
        place = np.ix_(rows, columns)
        yield Block(
            row,
            column,
            block.labels[place],
            block.confidence[place],
            block.image[place],
            block.carried,
        )
