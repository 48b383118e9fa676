"""Weak and strong views of a batch, image and mask together, on the device of the batch.

The weak view is geometric: flips, quarter turns, scale and place. The strong view changes colours
and sharpness on top of it, and CutMix pastes a rectangle of one sample into the next. Each sample's
parameters are draws keyed by (seed, stream, position), so a view does not depend on workers or on
its neighbours – but for CutMix, whose partner is the neighbour in the batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from salakseg.data.draws import draw_uniform

# Flights differ in height: ground sampling distances of a third less to a half more are seen.
SCALE_RANGE = (0.67, 1.5)
BRIGHTNESS = CONTRAST = SATURATION = 0.3
TINT = 0.1
BLUR_PROBABILITY = 0.5
BLUR_SIGMA = (0.1, 2.0)
BLUR_RADIUS = 4
CUTMIX_PROBABILITY = 0.5
CUTMIX_AREA = (0.1, 0.5)
LUMINANCE = (0.299, 0.587, 0.114)


def to_float(images: Tensor) -> Tensor:
    """uint8 0–255 → float32 in [0, 1], the range of every view."""
    return images.float() / 255


def weak_view(
    images: Tensor, masks: Tensor | None, seed: int, stream: str, positions: NDArray[np.int64]
) -> tuple[Tensor, Tensor | None]:
    """Flips, quarter turns, scale 0.67–1.5 and place, the same for image and mask.

    A view that reaches beyond the patch sees it mirrored. The image is interpolated bilinearly,
    the mask takes the nearest value.

    Args:
        images: uint8 (B, 3, P, P).
        masks: uint8 (B, P, P), or None.
        seed, stream, positions: key of the draws.

    Returns:
        float32 (B, 3, P, P) in [0, 1]; uint8 (B, P, P), or None.
    """
    draws = draw_uniform(seed, f"{stream} weak view", positions, 6)
    low, high = np.log(SCALE_RANGE)
    extent = 1 / np.exp(low + (high - low) * draws[:, 0])  # side of the view in patches
    turn = np.floor(draws[:, 1] * 4) * (np.pi / 2)
    mirror = np.where(draws[:, 2] < 0.5, -1.0, 1.0)
    room = np.abs(1 - extent)
    cos, sin = np.rint(np.cos(turn)), np.rint(np.sin(turn))
    rows = [
        [extent * cos * mirror, -extent * sin, room * (2 * draws[:, 3] - 1)],
        [extent * sin * mirror, extent * cos, room * (2 * draws[:, 4] - 1)],
    ]
    theta = torch.from_numpy(np.stack([np.stack(row, 1) for row in rows], 1).astype(np.float32))
    grid = functional.affine_grid(
        theta.to(images.device), list(images.shape), align_corners=False
    )  # (B, P, P, 2)
    view = functional.grid_sample(
        to_float(images), grid, "bilinear", "reflection", align_corners=False
    )
    if masks is None:
        return view, None
    labels = functional.grid_sample(
        masks[:, None].float(), grid, "nearest", "reflection", align_corners=False
    )
    return view, labels[:, 0].to(torch.uint8)


def color_view(
    images: Tensor,
    seed: int,
    stream: str,
    positions: NDArray[np.int64],
    strength: float = 1.0,
) -> Tensor:
    """Brightness, contrast, saturation, tint and blur; the strong view's part without geometry.

    Args:
        images: float32 (B, 3, P, P) in [0, 1].
        strength: 1 for the strong view; labelled patches get 0.5.

    Returns:
        The same shape and range.
    """
    draws = draw_uniform(seed, f"{stream} colour view", positions, 8)
    signed = torch.from_numpy((2 * draws[:, :6] - 1) * strength).to(images.device)
    brightness, contrast, saturation = (
        1 + limit * signed[:, i].view(-1, 1, 1, 1)
        for i, limit in enumerate((BRIGHTNESS, CONTRAST, SATURATION))
    )
    tint = 1 + TINT * signed[:, 3:6].view(-1, 3, 1, 1)
    x = images * brightness
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * contrast
    weights = torch.tensor(LUMINANCE, device=images.device).view(1, 3, 1, 1)
    grey = (x * weights).sum(1, keepdim=True)
    x = (grey + (x - grey) * saturation) * tint
    low, high = BLUR_SIGMA
    sigma = np.where(
        draws[:, 6] < BLUR_PROBABILITY * strength, low + (high - low) * draws[:, 7], low
    )
    return _blur(x.clamp(0, 1), torch.from_numpy(sigma.astype(np.float32)))


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a deviation a sample, (B,) in pixels; 0.1 leaves a sample as it is."""
    batch, channels = images.shape[:2]
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.device)
    kernel = kernel.repeat_interleave(channels, 0)[:, None]  # (B·C, 1, taps)
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

    def mix(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Paste into each sample of x (B, …, P, P) the rectangle of the same one of `other`.

        Without `other`, of the next one of x.
        """
        inside = self.inside if x.dim() == 4 else self.inside[:, 0]
        return torch.where(inside, x.roll(-1, 0) if other is None else other, x)


def cutmix(
    size: int, seed: int, stream: str, positions: NDArray[np.int64], device: torch.device
) -> Rectangles:
    """Draw the rectangles: half of the samples get one, of 10 to 50 % of the area.

    `stream` is any name: another one is another draw.

    Yun et al. 2019, "CutMix"; for pseudo-labels French et al. 2020, "Semi-supervised semantic
    segmentation needs strong, varied perturbations".
    """
    draws = draw_uniform(seed, f"{stream} cutmix", positions, 5)
    low, high = CUTMIX_AREA
    area = low + (high - low) * draws[:, 1]
    aspect = np.exp((2 * draws[:, 2] - 1) * np.log(2))
    height = np.minimum(np.sqrt(area * aspect), 1.0)
    width = np.minimum(area / height, 1.0)
    top, left = draws[:, 3] * (1 - height), draws[:, 4] * (1 - width)
    edges = np.stack([top, top + height, left, left + width], 1) * size
    edges[draws[:, 0] >= CUTMIX_PROBABILITY] = 0
    first_row, last_row, first_column, last_column = (
        torch.from_numpy(edges[:, i].astype(np.float32)).to(device).view(-1, 1, 1, 1)
        for i in range(4)
    )
    place = torch.arange(size, device=device, dtype=torch.float32)
    row, column = place.view(1, 1, -1, 1), place.view(1, 1, 1, -1)
    return Rectangles(
        (row >= first_row) & (row < last_row) & (column >= first_column) & (column < last_column)
    )
