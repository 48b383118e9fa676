"""classify(): an open image and a model in, blocks of class labels and confidence out.

Bounded memory, whatever the size of the image: it is swept downwards in bands of tiles, and only
the rows that the next tiles overlap are carried over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.classes import IGNORE_INDEX
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.windows import Axis, plan_axis
from salakseg.model.weights import Model

# The sums of probabilities that are held at a time; the memory of a prediction follows from it.
SUMS_BYTES = 128 << 20


@dataclass(frozen=True)
class Block:
    """The result for one rectangle of an image.

    Attributes:
        row, column: of its first pixel in the image.
        labels: uint8 (h, w): class indices 0 … K-1, 255 where the pixel is not valid.
        confidence: uint8 (h, w): probability of that class in percent, 255 where not valid.
        image: uint8 (h, w, 3): the image itself.
    """

    row: int
    column: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    image: NDArray[np.uint8]


def classify(
    model: Model,
    source: ImageSource,
    *,
    tile: int | None = None,
    overlap: float = 0.25,
    batch_size: int | None = None,
    amp: bool | None = None,
) -> Iterator[Block]:
    """Classify an image of any size in bounded memory.

    The blocks cover every pixel exactly once. The result does not depend on how the image is cut
    into them.

    Args:
        tile: side of the tiles in pixels; None: the model's patch size.
        overlap: share of a tile that the next one covers too, 0 to 0.5.
        batch_size: tiles that the network takes at a time; None: by device.
        amp: mixed precision; None: where the device is fast at it.

    Raises:
        InputError: option out of range, or a damaged file.
    """
    tile = model.patch_size if tile is None else tile
    down, across = plan_axis(source.height, tile, overlap), plan_axis(source.width, tile, overlap)
    device = model.generator.mean.device
    batch_size = batch_size or (32 if device.type == "cuda" else 4)
    at_once = max(4, SUMS_BYTES // (4 * model.mapping.num_classes * tile * tile))
    band = min(across.count, at_once)
    step = max(1, at_once // band)
    for first_column in range(0, across.count, band):
        # A band needs the tile before it as well, whose ramp reaches into it.
        columns = range(max(0, first_column - 1), min(first_column + band, across.count))
        left = across.begin(columns[0])
        right = across.begin(columns[-1]) + tile
        own = across.own_begin(first_column), across.own_begin(first_column + band)
        carried: Tensor | None = None
        for first_row in range(0, down.count, step):
            rows = range(first_row, min(first_row + step, down.count))
            top, bottom = down.begin(rows[0]), down.begin(rows[-1]) + tile
            image, valid = _read_padded(source, down, across, (top, bottom), (left, right))
            sums = torch.zeros(
                (model.mapping.num_classes, bottom - top, right - left), device=device
            )
            if carried is not None:
                sums[:, : carried.shape[1]] = carried
            _add_tiles(model, sums, image, valid, down, across, rows, columns, batch_size, amp)
            carried = sums[:, down.stride * len(rows) :].clone()
            inside = np.s_[
                down.own_begin(rows[0]) - top : down.own_begin(rows[-1] + 1) - top,
                own[0] - left : own[1] - left,
            ]
            confidence, labels = sums[:, inside[0], inside[1]].max(0)
            missing = ~valid[inside]
            yield Block(
                down.own_begin(rows[0]),
                own[0],
                _to_bytes(labels, missing),
                _to_bytes((confidence * 100).round().clamp(0, 100), missing),
                image[inside],
            )


def _to_bytes(values: Tensor, missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    result = values.to(torch.uint8).cpu().numpy()
    result[missing] = IGNORE_INDEX
    return result


def _read_padded(
    source: ImageSource, down: Axis, across: Axis, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A window that may reach beyond the image, there filled by reflection."""
    row_index, column_index = down.reflected(*rows), across.reflected(*columns)
    top, left = row_index.min(), column_index.min()
    image, valid = source.read(
        int(top), int(left), int(row_index.max() - top + 1), int(column_index.max() - left + 1)
    )
    place = np.ix_(row_index - top, column_index - left)
    return image[place], valid[place]


@torch.inference_mode()
def _add_tiles(
    model: Model,
    sums: Tensor,
    image: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    down: Axis,
    across: Axis,
    rows: range,
    columns: range,
    batch_size: int,
    amp: bool | None,
) -> None:
    """Add the weighted probabilities of the tiles (rows × columns) to `sums` (K, h, w)."""
    top, left = down.begin(rows[0]), across.begin(columns[0])
    tile = down.tile
    places = []
    for row in rows:
        for column in columns:
            y, x = down.begin(row) - top, across.begin(column) - left
            if valid[y : y + tile, x : x + tile].any():
                places.append((row, column, y, x))
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        tiles = np.stack(
            [
                _filled(image[y : y + tile, x : x + tile], valid[y : y + tile, x : x + tile])
                for _, _, y, x in batch
            ]
        )
        inputs = torch.from_numpy(tiles).to(sums.device).permute(0, 3, 1, 2)
        for (row, column, y, x), probabilities in zip(
            batch, model.probabilities(inputs, amp), strict=True
        ):
            weight = np.outer(down.weight(row), across.weight(column))
            sums[:, y : y + tile, x : x + tile].addcmul_(
                probabilities, torch.from_numpy(weight).to(sums.device)
            )


def _filled(image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The tile, its nodata pixels in the mean colour of the others, so that no edge is made up."""
    if valid.all():
        return image
    image = image.copy()
    image[~valid] = image[valid].mean(axis=0).round()
    return image
