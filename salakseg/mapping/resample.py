"""An image at the pixel size that the network was trained at, and its map back on the image's grid.

The network sees the image resampled on the fly, columns and rows apart where they are not as far
from each other on the ground. Each pixel of the image takes the class and the confidence of the
network's pixel that its centre lies in; whether it has any is for the image alone to say.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import IGNORE_INDEX
from salakseg.errors import InputError
from salakseg.imagery.area import ground_pixel_sides
from salakseg.imagery.nodata import filled
from salakseg.imagery.raster import ImageSource, Pixels
from salakseg.mapping.areas import Ground
from salakseg.mapping.classify import SUMS_BYTES, Block, classify
from salakseg.model.weights import Model

# Nearer to the network's pixel size than this, an image is taken as it is.
RESOLUTION_TOLERANCE = 0.1
# Pixels whose sides differ by less on the ground are square.
SQUARE_TOLERANCE = 0.02
# Further away, it is likelier that one of the two sizes is wrong.
MAX_SCALE = 20.0
# Pixels of the image that are read at a time; a coarse network pixel may stand for hundreds.
READ_PIXELS = 8_000_000
# Pixels beside a window that bilinear interpolation looks at.
MARGIN = 2
OWN = (1.0, 1.0)


def checked_resolution(resolution: str | float) -> str:
    """`resolution` as text, or `InputError`."""
    with suppress(ValueError):
        if resolution in ("match", "own") or float(resolution) > 0:
            return str(resolution)
    raise InputError(f"--resolution {resolution}: must be match, own, or metres a pixel")


def seen_by(
    model: Model, source: ImageSource, ground: Ground, resolution: str = "match"
) -> tuple[ImageSource, list[str]]:
    """The image as the network is to see it, `source` itself or resampled; and what to tell of it.

    Raises:
        InputError: a resolution asked for that cannot be reached.
    """
    sides = None if ground.side is None else (ground.side, ground.side)
    if ground.side is not None and source.crs is not None:
        place = source.crs, source.transform, source.width, source.height
        across, down = ground_pixel_sides(*place) or OWN
        if abs(across / down - 1) > SQUARE_TOLERANCE:
            sides = across, down
    scale, note = network_scale(source, sides, model.pixel_size, resolution)
    return source if scale == OWN else resampled(source, scale), [note] if note else []


def network_scale(
    source: ImageSource,
    sides: tuple[float, float] | None,
    model_side: float | None,
    resolution: str,
) -> tuple[tuple[float, float], str]:
    """Pixels that the network sees a column and a row of the image; and why, or "".

    Args:
        sides: of the image's pixels on the ground, in metres; None: not known.
        model_side: of the pixels that the model was trained at.
        resolution: match, own, or metres.

    Raises:
        InputError: a resolution asked for that cannot be reached.
    """
    matching = resolution == "match"
    if resolution == "own" or (matching and sides is None):
        return OWN, ""
    if sides is None:
        raise InputError(
            f"{source.path}: cannot be brought to --resolution {resolution}, for the size of its "
            "pixels is not known; say it with --gsd"
        )
    size = " × ".join(f"{side:.3g}" for side in dict.fromkeys(sides))
    if matching and model_side is None:
        target, reason = (sides[0] * sides[1]) ** 0.5, ", so that they are square"
    elif matching:
        target, reason = float(model_side or 0), " that the model was trained at"
    else:
        target, reason = float(resolution), " asked for"
    scale = sides[0] / target, sides[1] / target
    if all(abs(side - 1) <= RESOLUTION_TOLERANCE for side in scale):
        if matching and model_side is None:
            return OWN, (
                "its pixel size is known, but not the one that the model was trained at, so it is "
                "taken as it is; --resolution METRES brings it to another"
            )
        return OWN, ""
    if not all(1 / MAX_SCALE <= side <= MAX_SCALE for side in scale):
        raise InputError(
            f"{source.path}: its pixels are {size} m, too far from {target:.3g} m to be "
            "resampled; --resolution own takes it as it is"
        )
    return scale, f"{size} m a pixel, resampled for the network to the {target:.3g} m{reason}"


def classify_seen(
    model: Model, source: ImageSource, seen: ImageSource, **options: Any
) -> Iterator[Block]:
    """Blocks of `source`, of which the network sees `seen`; `options` are those of `classify`."""
    # Of a coarser image a block stands for more pixels of the map.
    share = min(1, seen.height * seen.width / (source.height * source.width))
    blocks = classify(
        model, seen, sums_bytes=max(SUMS_BYTES // 4, int(SUMS_BYTES * share)), **options
    )
    return blocks if seen is source else on_grid(blocks, seen, source)


@dataclass(frozen=True)
class _Side:
    """A side of an image: its pixels, and those that the network sees of it."""

    size: int
    seen: int

    def begins(self, first: int, count: int) -> NDArray[np.int64]:
        """Where the pixels begin whose centres lie in network pixels `first` …, and where the last
        of `count` end: (count + 1,)."""
        numbers = np.arange(first, first + count + 1)
        return -((self.seen - 2 * numbers * self.size) // (2 * self.seen))

    def centres(self, first: int, count: int) -> NDArray[np.intp]:
        """The pixels in which the centres of network pixels `first` … lie, (count,)."""
        numbers = np.arange(first, first + count)
        return (2 * numbers + 1) * self.size // (2 * self.seen)


def resampled(source: ImageSource, scale: float | tuple[float, float]) -> ImageSource:
    """`source` with `scale` times as many pixels a side: averaged down, or bilinear up.

    Only what is valid is averaged. A pixel is valid where any pixel of `source` is whose centre
    lies in it; along a side on which it is the smaller one, where that is in which its own lies.
    Without CRS and transform.

    Args:
        scale: of both sides, or of columns and of rows.
    """
    by_column, by_row = scale if isinstance(scale, tuple) else (scale, scale)
    down = _Side(source.height, max(1, round(source.height * by_row)))
    across = _Side(source.width, max(1, round(source.width * by_column)))

    def read_rows(row: int, column: int, rows: int, columns: int) -> Pixels:
        top, bottom = (place * down.size / down.seen for place in (row, row + rows))
        left, right = (place * across.size / across.seen for place in (column, column + columns))
        first_row, first_column = max(0, floor(top) - MARGIN), max(0, floor(left) - MARGIN)
        last_row = min(source.height, ceil(bottom) + MARGIN)
        last_column = min(source.width, ceil(right) + MARGIN)
        image, valid = source.read(
            first_row, first_column, last_row - first_row, last_column - first_column
        )
        height, width = valid.shape
        across_box = left - first_column, 0, min(right - first_column, width), height
        down_box = 0, top - first_row, columns, min(bottom - first_row, height)

        def shrunk(band: NDArray[Any]) -> NDArray[Any]:
            if band.ndim == 3 and band.shape[2] != 3:  # no picture to Pillow
                return np.stack([shrunk(one) for one in np.moveaxis(band, 2, 0)], 2)
            # One side after the other, as Pillow does too: their filters may differ.
            image = Image.fromarray(band).resize((columns, height), _filter(across), across_box)
            return np.asarray(image.resize((columns, rows), _filter(down), down_box))

        if valid.all():
            return shrunk(image), np.ones((rows, columns), bool)
        share = valid.astype(np.float32)
        weights = shrunk(share)
        seen = weights > 0
        sums = [shrunk(band * share) for band in np.moveaxis(image, 2, 0)]
        small = np.stack(sums, 2) / np.where(seen, weights, 1)[..., None]
        there = _any(valid, 0, down, first_row, row, rows)
        there = _any(there, 1, across, first_column, column, columns)
        # A centre on the very border of two pixels is Pillow's in one and the map's in the other.
        return filled(small.round().clip(0, 255).astype(np.uint8), seen), there

    def read(row: int, column: int, rows: int, columns: int) -> Pixels:
        pixels = down.size / down.seen * across.size / across.seen
        step = max(1, int(READ_PIXELS / (columns * pixels + 1)))
        parts = [
            read_rows(first, column, min(step, row + rows - first), columns)
            for first in range(row, row + rows, step)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate(
            [part[1] for part in parts]
        )

    return replace(source, height=down.seen, width=across.seen, crs=None, transform=None, read=read)


def _filter(side: _Side) -> Image.Resampling:
    return Image.Resampling.BOX if side.seen < side.size else Image.Resampling.BILINEAR


def _any(
    valid: NDArray[np.bool_], axis: int, side: _Side, begin: int, first: int, count: int
) -> NDArray[np.bool_]:
    """Which network pixels `first` … of a side are valid; `valid` is from pixel `begin` on."""
    if side.seen > side.size:
        return valid.take(side.centres(first, count) - begin, axis)
    begins = side.begins(first, count) - begin
    upto = valid[: begins[-1]] if axis == 0 else valid[:, : begins[-1]]
    return np.logical_or.reduceat(upto, begins[:-1], axis)


def on_grid(blocks: Iterator[Block], small: ImageSource, source: ImageSource) -> Iterator[Block]:
    """Blocks of `small`, which is `resampled(source, …)`, as blocks of `source`."""
    down, across = _Side(source.height, small.height), _Side(source.width, small.width)
    for block in blocks:
        rows, columns = (
            side.begins(first, count)
            for side, first, count in zip(
                (down, across), (block.row, block.column), block.labels.shape, strict=True
            )
        )
        place = np.ix_(
            *(np.repeat(np.arange(len(ends) - 1), np.diff(ends)) for ends in (rows, columns))
        )
        row, column = int(rows[0]), int(columns[0])
        labels, confidence = block.labels[place], block.confidence[place]
        shares = (
            None
            if block.probabilities is None
            else np.stack([values[place] for values in block.probabilities])
        )
        image = np.zeros((*labels.shape, 3), np.uint8)
        if labels.size:  # else the pixel is larger than the block
            image, valid = source.read(row, column, *labels.shape)
            image = source.shown(image)
            labels[~valid] = confidence[~valid] = IGNORE_INDEX
            if shares is not None:
                shares[:, ~valid] = IGNORE_INDEX
        yield Block(row, column, labels, confidence, image, block.carried, shares)
