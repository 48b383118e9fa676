"""classify(): an open image and a model in, blocks of class labels and confidence out.

Bounded memory, whatever the size of the image: it is swept downwards in bands of tiles of a bounded
width, and only the rows that the next tiles overlap are carried over. The next block is read while
the network works on this one.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.classes import IGNORE_INDEX
from salakseg.imagery.nodata import filled
from salakseg.imagery.raster import ImageSource, Pixels
from salakseg.imagery.tiles import Axis, plan_axis
from salakseg.model.weights import Model

# The sums of probabilities that are held at a time; the memory of a prediction follows from it.
SUMS_BYTES = 128 << 20
# What a network holds for each pixel of its tiles, with room to spare (in float32 an FPN on
# EfficientNet-Lite0 some 300, a U-Net on ResNet-34 some 520), and what a batch may take of the
# memory.
BYTES_PER_PIXEL = 1024
CPU_BATCH_BYTES = 256 << 20
CUDA_BATCH_SHARE = 8
LARGEST_BATCH = 64
# Of an image that processes share out, at least so many blocks for each, where it has the tiles.
BLOCKS_EACH = 2
# Pixels whose sums are looked through at a time.
CACHED_PIXELS = 1 << 18
# What stands for a probability of 1 where a byte does: 255 is where there is none.
SURE = 254


@dataclass(frozen=True)
class Block:
    """The result for one rectangle of an image.

    Attributes:
        row, column: of its first pixel in the image.
        labels: uint8 (h, w): class indices 0 … K-1, 255 where the pixel is not valid.
        confidence: uint8 (h, w): probability of that class in percent, 255 where not valid.
        image: uint8 (h, w, 3): the image itself, as people see it.
        carried: float32 (K, rows, columns) on the network's device: the unfinished sums that the
            block below goes on with.
        probabilities: uint8 (K, h, w): of each class, `SURE` for 1, 255 where not valid; None: they
            were not asked for.
    """

    row: int
    column: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    image: NDArray[np.uint8]
    carried: Tensor
    probabilities: NDArray[np.uint8] | None = None


def classify(
    model: Model,
    source: ImageSource,
    *,
    tile: int | None = None,
    overlap: float = 0.25,
    batch_size: int | None = None,
    amp: bool | None = None,
    tta: bool = False,
    probabilities: bool = False,
    sums_bytes: int | None = None,
    share: tuple[int, int] = (0, 1),
    done: int = 0,
    carried: Tensor | None = None,
) -> Iterator[Block]:
    """Classify an image of any size in bounded memory.

    The blocks cover every pixel exactly once, in an order that depends on the image's size and the
    options alone. The result does not depend on how the image is cut into them.

    Args:
        tile: side of the tiles in pixels; None: the model's patch size.
        overlap: share of a tile that the next one covers too, 0 to 0.5.
        batch_size: tiles that the network takes at a time; None: see `default_batch_size`.
        amp: mixed precision; None: where the device is fast at it.
        tta: average over the tile's eight turns and mirror images.
        probabilities: the blocks have those of all classes too.
        sums_bytes: of the sums of probabilities at a time, `SUMS_BYTES` by default.
        share: (r, W): of the blocks the r-th of W parts, from 0, one block after the other.
        done, carried: go on after that many blocks, with what the last of them carried. The others
            are then the same bits as without a break.

    Raises:
        InputError: option out of range, or a damaged file.
    """
    tile = model.patch_size if tile is None else tile
    down, across = plan_axis(source.height, tile, overlap), plan_axis(source.width, tile, overlap)
    device = model.generator.mean.device
    batch_size = batch_size or default_batch_size(device, round(model.enlarge * tile))
    at_once = max(4, (sums_bytes or SUMS_BYTES) // (4 * model.mapping.num_classes * tile**2))
    if share[1] > 1:  # each has some, of whole rows
        fair = down.count * across.count // (BLOCKS_EACH * share[1])
        at_once = min(at_once, max(across.count, fair))
    places = _plan(down, across, at_once)
    places = places[len(places) * share[0] // share[1] : len(places) * (share[0] + 1) // share[1]]
    if done < len(places):
        with ThreadPoolExecutor(1, "read") as reader:
            ahead = reader.submit(_read_padded, source, down, across, *places[done])
            # One memory for the sums of all blocks: new pages cost more than the sums.
            memory = torch.empty(0, device=device)
            for number, (rows, columns) in enumerate(places[done:], done):
                image, valid = ahead.result()
                if number + 1 < len(places):
                    ahead = reader.submit(_read_padded, source, down, across, *places[number + 1])
                shape = model.mapping.num_classes, *valid.shape
                if memory.numel() < prod(shape):
                    # By numpy, which asks for the large pages that such strides need.
                    memory = torch.from_numpy(np.empty(prod(shape), np.float32)).to(device)
                sums = memory[: prod(shape)].view(shape).zero_()
                # A band needs the tile before it as well, whose ramp reaches into it.
                computed = range(max(0, columns[0] - 1), columns[-1] + 1)
                add = partial(
                    _add_tiles,
                    model,
                    down=down,
                    across=across,
                    columns=computed,
                    batch_size=batch_size,
                    amp=amp,
                    tta=tta,
                )
                if rows[0] > 0:
                    if carried is None:  # a share begins amid the image
                        above = range(rows[0] - 1, rows[0])
                        before = _read_padded(source, down, across, above, columns)
                        unfinished = sums.new_zeros((len(sums), *before[1].shape))
                        add(unfinished, *before, rows=above)
                        carried = unfinished[:, down.stride :]
                    sums[:, : carried.shape[1]] = carried
                add(sums, image, valid, rows=rows)
                carried = sums[:, down.stride * len(rows) :].clone()
                top, left = down.begin(rows[0]), across.begin(computed[0])
                row, column = down.own_begin(rows[0]), across.own_begin(columns[0])
                inside = np.s_[
                    row - top : down.own_begin(rows[-1] + 1) - top,
                    column - left : across.own_begin(columns[-1] + 1) - left,
                ]
                own = sums[:, inside[0], inside[1]]
                found = likeliest(own).cpu().numpy()
                shares = in_bytes(own).cpu().numpy() if probabilities else None
                if not valid[inside].all():
                    for values in [found] if shares is None else [found, shares]:
                        values[:, ~valid[inside]] = IGNORE_INDEX
                picture = source.shown(image[inside])
                yield Block(row, column, found[0], found[1], picture, carried, shares)


def default_batch_size(device: torch.device, tile: int) -> int:
    """How many tiles of that side the network takes at a time, by the memory of its device.

    By all of a GPU's memory, not by what is free of it: a map that was interrupted must go on with
    the same batches.
    """
    memory = CPU_BATCH_BYTES
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1] // CUDA_BATCH_SHARE
    return min(LARGEST_BATCH, max(1, memory // (BYTES_PER_PIXEL * tile**2)))


def _plan(down: Axis, across: Axis, at_once: int) -> list[tuple[range, range]]:
    """The tiles (rows, columns) of each block, at most `at_once` of them, band after band."""
    band = min(across.count, at_once)
    step = max(1, at_once // band)
    return [
        (range(row, min(row + step, down.count)), range(column, min(column + band, across.count)))
        for column in range(0, across.count, band)
        for row in range(0, down.count, step)
    ]


@torch.inference_mode()
def likeliest(probabilities: Tensor) -> Tensor:
    """uint8 (2, h, w) of probabilities (K, h, w), on their device: the class of the largest, of
    equal ones the first, and its percent."""
    height, width = probabilities.shape[1:]
    found = torch.empty((2, height, width), dtype=torch.uint8, device=probabilities.device)
    # In parts that stay in a processor's cache; torch's `max` with indices is four times as slow.
    step = max(1, CACHED_PIXELS // max(1, width))
    for row in range(0, height, step):
        largest, *others = probabilities[:, row : row + step]
        largest = largest.clone()
        label = torch.zeros(largest.shape, dtype=torch.uint8, device=largest.device)
        for index, other in enumerate(others, 1):
            label = torch.maximum(label, (other > largest).to(torch.uint8).mul_(index))
            torch.maximum(largest, other, out=largest)
        found[0, row : row + step] = label
        found[1, row : row + step] = largest.mul_(100).round_().clamp_(0, 100)
    return found


@torch.inference_mode()
def in_bytes(probabilities: Tensor) -> Tensor:
    """uint8 (K, h, w) of probabilities (K, h, w), on their device: `SURE` for 1."""
    found = torch.empty(probabilities.shape, dtype=torch.uint8, device=probabilities.device)
    for values, of_class in zip(found, probabilities, strict=True):
        values.copy_((of_class * SURE).round_().clamp_(0, SURE))
    return found


def _read_padded(
    source: ImageSource, down: Axis, across: Axis, rows: range, columns: range
) -> Pixels:
    """The pixels of the tiles, and of the column of tiles before; reflected beyond the image."""
    row_index = down.reflected(down.begin(rows[0]), down.begin(rows[-1]) + down.tile)
    column_index = across.reflected(
        across.begin(max(0, columns[0] - 1)), across.begin(columns[-1]) + across.tile
    )
    return read_at(source, row_index, column_index)


def read_at(source: ImageSource, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Pixels:
    """The pixels of these rows and columns, in any order and repeated at will: see `reflected`."""
    top, left = int(rows.min()), int(columns.min())
    image, valid = source.read(top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    # One side after the other: three times as fast as both at once; most need none of it.
    for axis, index in enumerate((rows - top, columns - left)):
        if not np.array_equal(index, np.arange(valid.shape[axis])):
            image, valid = image.take(index, axis), valid.take(index, axis)
    return image, valid


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
    tta: bool,
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
                filled(image[y : y + tile, x : x + tile], valid[y : y + tile, x : x + tile])
                for _, _, y, x in batch
            ]
        )
        inputs = torch.from_numpy(tiles).to(sums.device).permute(0, 3, 1, 2)
        for (row, column, y, x), probabilities in zip(
            batch, _probabilities(model, inputs, amp, tta), strict=True
        ):
            weight = np.outer(down.weight(row), across.weight(column))
            sums[:, y : y + tile, x : x + tile].addcmul_(
                probabilities, torch.from_numpy(weight).to(sums.device)
            )


def _probabilities(model: Model, images: Tensor, amp: bool | None, tta: bool) -> Tensor:
    """float32 (B, K, H, W); `tta`: the mean over the eight turns and mirror images."""
    if not tta:
        return model.probabilities(images, amp)
    total = torch.zeros((), device=images.device)
    for turns in range(4):
        turned = torch.rot90(images, turns, (2, 3))
        straight = model.probabilities(turned, amp)
        mirrored = model.probabilities(turned.flip(3), amp).flip(3)
        total = total + torch.rot90(straight + mirrored, -turns, (2, 3))
    return total / 8
