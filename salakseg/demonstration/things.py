"""What stands on the farm, seen from above: random numbers in, stamps out.

A stamp is square, of an odd number of pixels: float32 colour (3, S, S), cover (S, S) from 0 to 1,
and height (S, S) in pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HIGHEST = 66  # of all that stands anywhere
ROOFS = ((0.56, 0.27, 0.19), (0.62, 0.63, 0.64), (0.40, 0.30, 0.25), (0.31, 0.42, 0.55))

Floats = NDArray[np.float32]
Random = np.random.Generator
Stamp = tuple[Floats, Floats, Floats]


def noise(random: Random, shape: tuple[int, int], coarsest: int, octaves: int = 4) -> Floats:
    """Clouds about 0, most of them within ±1; the largest are `coarsest` pixels wide."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cell = max(1, coarsest >> octave)
        grid = random.random((shape[0] // cell + 2, shape[1] // cell + 2), np.float32) - 0.5
        size = grid.shape[1] * cell, grid.shape[0] * cell
        smooth = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC))
        total += smooth[: shape[0], : shape[1]] * 2 * 0.6**octave
    return total


def planes(rgb: Sequence[float] | NDArray[np.float64]) -> Floats:
    """A colour that multiplies with (3, H, W)."""
    return np.array(rgb, np.float32)[:, None, None]


def _stamp(*parts: NDArray[np.floating]) -> Stamp:
    color, cover, height = (part.astype(np.float32) for part in parts)
    return color, cover, height


def snake_fruit(random: Random) -> Stamp:
    """A low star of long narrow leaves that arch outwards."""
    radius = random.uniform(17, 22)
    half = int(radius) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    cover, height, shade = np.zeros_like(x), np.zeros_like(x), np.ones_like(x)
    leaves = int(random.integers(14, 19))
    for leaf in random.permutation(leaves):
        angle = (leaf + random.uniform(-0.3, 0.3)) * 2 * np.pi / leaves
        length = radius * random.uniform(0.75, 1)
        along = x * np.cos(angle) + y * np.sin(angle)
        share = np.clip(along / length, 0, 1)
        aside = y * np.cos(angle) - x * np.sin(angle) - random.uniform(-3, 3) * share**2
        width = 0.9 + 0.17 * radius * np.sin(np.pi * share) ** 0.7
        inside = np.clip((width - np.abs(aside)) / 1.2, 0, 1) * (along > 0) * (along < length)
        ribs = 0.16 * np.sin(2.4 * along + 0.9 * np.abs(aside)) + 0.3 * np.exp(-(aside**2))
        bright = random.uniform(0.7, 1.15) * (0.72 + 0.45 * share + ribs)
        shade += inside * (bright - shade)
        height = np.maximum(height, inside * (12 + 12 * np.sin(0.4 + 2.4 * share)))
        cover = np.maximum(cover, inside)
    core = np.exp(-(x**2 + y**2) / (0.24 * radius) ** 2)
    shade *= 1 - 0.45 * core
    cover = np.maximum(cover, np.clip(2 * core, 0, 1))
    return _stamp(planes((0.20, 0.33, 0.15)) * shade, cover, height)


def berinang(random: Random) -> Stamp:
    """A high round crown of many clumps."""
    radius = random.uniform(25, 33)
    half = int(radius) + 3
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    angle, far = np.arctan2(y, x), np.hypot(x, y)
    outline = 0.87 + sum(
        0.05 * np.sin(waves * angle + random.uniform(0, 6)) for waves in (2, 3, 5, 8)
    )
    dome = np.sqrt(np.clip(1 - (far / radius / outline) ** 2, 0, 1))
    clumps = np.zeros_like(x)
    for _ in range(46):
        size, out, turn = (
            random.uniform(4, 8),
            radius * random.random() ** 0.5,
            random.uniform(0, 6.3),
        )
        near = (x - out * np.cos(turn)) ** 2 + (y - out * np.sin(turn)) ** 2
        clumps = np.maximum(
            clumps, random.uniform(0.6, 1) * np.sqrt(np.clip(1 - near / size**2, 0, 1))
        )
    leaves = noise(random, x.shape, 4, 2)
    cover = np.clip((radius * outline - far + 2 * leaves) / 2, 0, 1)
    height = (30 + 26 * dome + 7 * clumps) * (cover > 0)
    shade = 0.62 + 0.45 * clumps + 0.16 * leaves
    return _stamp(planes((0.33, 0.42, 0.13)) * shade, cover, height)


def house(random: Random) -> Stamp:
    """A ridged roof of tiles or sheets."""
    long, short = random.uniform(38, 62), random.uniform(26, 40)
    angle = random.normal(0, 0.12) + random.integers(2) * np.pi / 2
    roof = ROOFS[random.choice(len(ROOFS), p=(0.45, 0.25, 0.2, 0.1))]
    half = int(np.hypot(long, short)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    p, q = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    cover = np.clip(np.minimum(long - np.abs(p), short - np.abs(q)), 0, 1)
    grain = noise(random, x.shape, 16)
    shade = 1 + 0.07 * np.sin(p * 1.3) + 0.10 * grain + 0.25 * np.exp(-(q**2) / 2)
    height = 30 + 20 * (1 - np.abs(q) / short)
    return _stamp(planes(roof) * shade, cover, height)
