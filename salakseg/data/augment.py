"""Weak and strong views of a batch, image and mask together, on the device of the batch.

The weak view is geometric: flips, quarter turns, scale and place. The strong view changes colours
and sharpness on top of it, and CutMix pastes a rectangle of one sample into the next. All that is
random in them is the batch's *plan*, a row of numbers a sample, drawn by (seed, stream, position).
So a view does not depend on workers or on its neighbours – but for CutMix, whose partner is the
next sample of the batch – and a GPU gets all of it in one copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from salakseg.classes import IGNORE_INDEX
from salakseg.data.random_numbers import draw_uniform

# Flights differ in height: ground sampling distances of a third less to a half more are seen.
SCALE_RANGE = (0.67, 1.5)
BRIGHTNESS = CONTRAST = SATURATION = 0.3
TINT = 0.1
BLUR_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)
BLUR_RADIUS = 4
CUTMIX_PROBABILITY = 0.5
CUTMIX_AREA = (0.1, 0.5)
# Columns of a plan: the weak view's affine map; brightness, contrast, saturation and three of tint,
# from -1 to 1; whether to blur, from 0 to 1, and by which deviation; the rectangle of the next
# sample and that of a labelled one: top, bottom, left, right in parts of the side.
WEAK, COLOR, BLUR = slice(0, 6), slice(6, 12), slice(12, 14)
NEIGHBOR, FROM_LABELED = slice(14, 18), slice(18, 22)


def plan(seed: int, stream: str, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """All that is random in the views of a batch: float32 (B, 22).

    A pure function of its arguments, to be made wherever the batch is read.
    """
    draws = draw_uniform(seed, f"{stream} views", positions, 23)
    low, high = BLUR_SIGMA
    columns = [
        _weak(draws[:, :5]),
        2 * draws[:, 5:11] - 1,
        np.stack([draws[:, 11], low + (high - low) * draws[:, 12]], 1),
        _rectangle(draws[:, 13:18]),
        _rectangle(draws[:, 18:]),
    ]
    return np.concatenate(columns, 1, dtype=np.float32, casting="same_kind")


def _weak(draws: NDArray[np.float32]) -> NDArray[np.floating]:
    """(B, 5) → the affine maps (B, 2 · 3) of the views, from -1 to 1 over the patch."""
    low, high = np.log(SCALE_RANGE)
    extent = 1 / np.exp(low + (high - low) * draws[:, 0])  # side of the view in patches
    turn = np.floor(draws[:, 1] * 4) * (np.pi / 2)
    mirror = np.where(draws[:, 2] < 0.5, -1.0, 1.0)
    room = np.abs(1 - extent)
    cos, sin = np.rint(np.cos(turn)), np.rint(np.sin(turn))
    right, down = room * (2 * draws[:, 3] - 1), room * (2 * draws[:, 4] - 1)
    return np.stack(
        [extent * cos * mirror, -extent * sin, right, extent * sin * mirror, extent * cos, down], 1
    )


def _rectangle(draws: NDArray[np.float32]) -> NDArray[np.floating]:
    """(B, 5) → the rectangles (B, 4); half of them are empty, the others 10 to 50 % of the area."""
    low, high = CUTMIX_AREA
    area = low + (high - low) * draws[:, 1]
    aspect = np.exp((2 * draws[:, 2] - 1) * np.log(2))
    height = np.minimum(np.sqrt(area * aspect), 1.0)
    width = np.minimum(area / height, 1.0)
    top, left = draws[:, 3] * (1 - height), draws[:, 4] * (1 - width)
    edges = np.stack([top, top + height, left, left + width], 1)
    edges[draws[:, 0] >= CUTMIX_PROBABILITY] = 0
    return edges


def to_float(images: Tensor) -> Tensor:
    """uint8 0–255 → float32 in [0, 1], the range of every view."""
    return images.float() / 255


def weak_view(
    images: Tensor, masks: Tensor | None, valid: Tensor, plan: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Flips, quarter turns, scale 0.67–1.5 and place, the same for image, mask and valid.

    A view that reaches beyond the patch sees it mirrored, which is ground as well. The image is
    interpolated bilinearly, the others take the nearest value.

    Args:
        images: uint8 (B, C, P, P).
        masks: uint8 (B, P, P), or None: no pixel has a class.
        valid: bool (B, P, P).
        plan: float32 (B, 22), on the device.

    Returns:
        float32 (B, C, P, P) in [0, 1]; uint8 (B, P, P), class indices or 255; bool (B, P, P).
    """
    grid = functional.affine_grid(
        plan[:, WEAK].view(-1, 2, 3), list(images.shape), align_corners=False
    )  # (B, P, P, 2)
    view = functional.grid_sample(
        to_float(images), grid, "bilinear", "reflection", align_corners=False
    )
    if masks is None:
        masks = torch.full_like(images[:, 0], IGNORE_INDEX)
    layers = torch.stack([masks, valid], 1).float()
    layers = functional.grid_sample(layers, grid, "nearest", "reflection", align_corners=False)
    return view, layers[:, 0].to(torch.uint8), layers[:, 1].bool()


def color_view(
    images: Tensor, plan: Tensor, strength: float = 1.0, colours: Sequence[int] | None = (0, 1, 2)
) -> Tensor:
    """Brightness, contrast, saturation, tint and blur; the strong view's part without geometry.

    Of more than three bands, brightness and blur are of all, contrast is about each one's own mean,
    and saturation and tint are of red, green and blue.

    Args:
        images: float32 (B, C, P, P) in [0, 1].
        plan: float32 (B, 22), on the device.
        strength: 1 for the strong view; labelled patches get 0.5.
        colours: which bands are red, green and blue; None: they are not all there.

    Returns:
        The same shape and range.
    """
    signed = plan[:, COLOR] * strength
    brightness, contrast, saturation = (
        1 + limit * signed[:, i].view(-1, 1, 1, 1)
        for i, limit in enumerate((BRIGHTNESS, CONTRAST, SATURATION))
    )
    tint = 1 + TINT * signed[:, 3:6].view(-1, 3, 1, 1)
    x = images * brightness
    mean = x.mean((1, 2, 3) if x.shape[1] == 3 else (2, 3), keepdim=True)
    x = mean + (x - mean) * contrast
    if colours is not None:
        bands = list(x.split(1, 1))
        red, green, blue = (bands[band] for band in colours)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        rgb = x if len(bands) == 3 else torch.cat([red, green, blue], 1)
        x = (grey + (rgb - grey) * saturation) * tint
        if len(bands) > 3:
            for band, one in zip(colours, x.split(1, 1), strict=True):
                bands[band] = one
            x = torch.cat(bands, 1)
    chance, sigma = plan[:, BLUR].unbind(1)
    sharp = chance >= BLUR_PROBABILITY * strength
    return _blur(x.clamp(0, 1), sigma.masked_fill(sharp, BLUR_SIGMA[0]))


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a deviation a sample, (B,) in pixels; 0.1 leaves a sample as it is."""
    batch, channels = images.shape[:2]
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None].expand(-1, channels, -1)
    kernel = kernel.reshape(batch * channels, 1, -1)
    x = images.reshape(1, batch * channels, *images.shape[2:])
    edge = (BLUR_RADIUS,) * 4
    x = functional.pad(x, edge, mode="reflect")
    x = functional.conv2d(x, kernel[..., None], groups=batch * channels)
    x = functional.conv2d(x, kernel[:, :, None], groups=batch * channels)
    return x.reshape_as(images)


@dataclass
class Rectangles:
    """CutMix of a batch: inside (B, 1, P, P) is True where a sample shows another one."""

    inside: Tensor

    def mix(self, x: Tensor, other: Tensor) -> Tensor:
        """Paste into each sample of x (B, …, P, P) the rectangle of the same one of `other`."""
        inside = self.inside if x.dim() == 4 else self.inside[:, 0]
        return torch.where(inside, other, x)


def cutmix(size: int, edges: Tensor) -> Rectangles:
    """The rectangles of a plan: half of the samples have one, of 10 to 50 % of the area.

    Yun et al. 2019, "CutMix"; for pseudo-labels French et al. 2020, "Semi-supervised semantic
    segmentation needs strong, varied perturbations".

    Args:
        size: P.
        edges: float32 (B, 4), the columns `NEIGHBOR` or `FROM_LABELED` of a plan, on the device.
    """
    top, bottom, left, right = (edges * size).view(-1, 4, 1, 1, 1).unbind(1)
    place = torch.arange(size, device=edges.device)
    row, column = place.view(-1, 1), place
    return Rectangles((row >= top) & (row < bottom) & (column >= left) & (column < right))
