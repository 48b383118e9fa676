"""How much of an open image is like nothing that the model was trained on.

A look at some of its tiles before it is mapped: of a large image, two per cent of the work.
"""

from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.imagery.nodata import filled
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.tiles import Axis, plan_axis
from salakseg.mapping.classify import default_batch_size, read_at
from salakseg.model.applicability import are_beyond
from salakseg.model.features import features_of
from salakseg.model.weights import Model

# Of the tiles of an image one in so many is looked at, but so many at least and at most.
ONE_IN, LEAST, MOST = 16, 8, 64
# A tile with less of the image than this says little of it.
LEAST_VALID = 0.5


def share_far(
    model: Model, source: ImageSource, *, tile: int | None, batch_size: int | None, amp: bool | None
) -> float | None:
    """Share of the image that is far, 0 to 1, None where that is not known; see `distances`."""
    found = distances(model, source, tile=tile, batch_size=batch_size, amp=amp)
    return round(float(are_beyond(found).mean()), 3) if len(found) else None


def distances(
    model: Model,
    source: ImageSource,
    *,
    tile: int | None = None,
    batch_size: int | None = None,
    amp: bool | None = None,
) -> NDArray[np.float32]:
    """How far some tiles, spread evenly over the image, are from what was labelled: (n,).

    Args:
        tile, batch_size, amp: as in `classify`.

    Returns:
        float32 (n,), from 1 on far, by the rule of `model.applicability`; none where the model does
        not say what it was trained on, or no tile has enough valid pixels.

    Raises:
        InputError: a damaged file, or a model file whose parts do not fit.
    """
    nothing = np.zeros(0, np.float32)
    if model.applicability is None:
        return nothing
    tile = model.patch_size if tile is None else tile
    tiles = _some_tiles(source, tile)
    if not len(tiles):
        return nothing
    device = model.generator.mean.device
    images = torch.from_numpy(tiles).permute(0, 3, 1, 2)
    features = [
        features_of(model, part.to(device), amp)
        for part in images.split(batch_size or default_batch_size(device, tile))
    ]
    return model.applicability.distance(np.concatenate(features))


def _some_tiles(source: ImageSource, tile: int) -> NDArray[np.uint8]:
    """uint8 (n, tile, tile, C), on a grid over the whole image."""
    down, across = plan_axis(source.height, tile, 0), plan_axis(source.width, tile, 0)
    wanted = min(down.count * across.count, max(LEAST, down.count * across.count // ONE_IN), MOST)
    rows = min(down.count, max(1, round(sqrt(wanted * down.count / across.count))))
    columns = min(across.count, ceil(wanted / rows))
    tiles = []
    for row in _spread(rows, down.count):
        for column in _spread(columns, across.count):
            pixels, valid = read_at(source, _pixels(down, row), _pixels(across, column))
            if valid.mean() >= LEAST_VALID:
                tiles.append(filled(pixels, valid))
    return np.stack(tiles) if tiles else np.zeros((0, tile, tile, 3), np.uint8)


def _spread(some: int, count: int) -> list[int]:
    """`some` of the numbers below `count`, evenly spaced."""
    return [(2 * place + 1) * count // (2 * some) for place in range(some)]


def _pixels(axis: Axis, index: int) -> NDArray[np.intp]:
    """The pixels along an axis that a tile sees."""
    return axis.reflected(axis.begin(index), axis.begin(index) + axis.tile)
