"""An open raster by window, block by block where a part of it is damaged."""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
from rasterio.windows import Window

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.reading import GDAL_ERRORS, Pixels
from salakseg.imagery.remote import ImagePath, answered


def windows_of(
    path: ImagePath,
    raster: Any,
    pixels: Callable[[Any], Pixels],
    channels: int,
    skip_unreadable: bool,
) -> Callable[[int, int, int, int], Pixels]:
    """`ImageSource.read` of an open raster, whose windows `pixels` reads."""
    unreadable: set[tuple[int, int]] = set()
    # GDAL's data sets are not for two threads at a time.
    one_at_a_time = Lock()

    def seen(window: Any) -> Pixels:
        with answered(path):
            return pixels(window)

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        with one_at_a_time:
            try:
                return seen(Window(column, row, width, height))
            except GDAL_ERRORS as error:
                if not skip_unreadable:
                    raise InputError(
                        f"{path}: rows {row} to {row + height - 1} cannot be read "
                        f"({cause_of(error)}); {_advice(raster)}, or map the rest of it with "
                        "--skip-unreadable"
                    ) from error
            return read_blocks(row, column, height, width)

    def read_blocks(row: int, column: int, height: int, width: int) -> Pixels:
        image = np.zeros((height, width, channels), np.uint8)
        valid = np.zeros((height, width), bool)
        for block in _blocks_in(raster, row, column, height, width):
            try:
                found = seen(block)
            except GDAL_ERRORS:
                block_height, block_width = raster.block_shapes[0]
                top = block.row_off // block_height * block_height
                left = block.col_off // block_width * block_width
                if (top, left) not in unreadable:
                    unreadable.add((top, left))
                    console.print(
                        f"{path}: the block of {block_height} × {block_width} pixels at row {top}, "
                        f"column {left} cannot be read and is left out"
                    )
                continue
            place = np.s_[
                block.row_off - row : block.row_off - row + block.height,
                block.col_off - column : block.col_off - column + block.width,
            ]
            image[place], valid[place] = found
        return image, valid

    return read


def cause_of(error: BaseException) -> str:
    """What GDAL said first, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _advice(raster: Any) -> str:
    if raster.driver == "VRT":
        return "put the files that it is made of where it looks for them"
    return "the file is damaged or was cut short: copy or export it again"


def _blocks_in(raster: Any, row: int, column: int, height: int, width: int) -> Iterator[Any]:
    """The parts of a window that lie in one block of the file each."""
    block_height, block_width = raster.block_shapes[0]
    for top in range(row // block_height * block_height, row + height, block_height):
        for left in range(column // block_width * block_width, column + width, block_width):
            first_row, first_column = max(top, row), max(left, column)
            yield Window(
                first_column,
                first_row,
                min(left + block_width, column + width) - first_column,
                min(top + block_height, row + height) - first_row,
            )
