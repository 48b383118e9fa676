"""A snake-fruit farm drawn from above: seed, place and light in, photograph and class labels out.

The farm has no edges to the east and south, and is nowhere kept: what stands at a place is a pure
function of the seed and the place, so that photographs of neighbouring places fit together, but for
the grain of the ground. Places are pixels of `PIXEL_SIZE`, x to the east and y to the south; so are
heights.

Plots lie in a grid that two waves bend (coordinates u, v), roads and tracks run between them, a
river between some. A ground of colours and classes comes first, then what stands on it is stamped
with its height, and the heights give shade and shadow.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.demonstration.light import Light, photograph
from salakseg.demonstration.things import (
    Floats,
    Random,
    Stamp,
    berinang,
    house,
    noise,
    planes,
    snake_fruit,
)

PIXEL_SIZE = 0.1  # metres
# Class indices, in the order of the Salak classes.
BACKGROUND, WATER, BUILDING, ROAD, BERINANG, SNAKE_FRUIT, EARTH = range(7)

PLOT_U, PLOT_V = 430, 330
ROAD_EVERY, ROAD_HALF, TRACK_HALF = 3, 19, 8
RIVER_EVERY, RIVER_HALF, BANK = 2600, 46, 14
# So far out of the picture is drawn as well: shadows and crowns come in from there.
PAD = 96
GARDEN, GROVE, FIELD, YARD, POND, MEADOW = range(6)
KINDS = (0.42, 0.15, 0.11, 0.18, 0.07, 0.07)


@dataclass(frozen=True)
class Scene:
    """What is being drawn: the piece of the farm whose first pixel is `left`, `top`.

    `color` is float32 (3, H, W), `labels` uint8 (H, W), `height` float32 (H, W).
    """

    left: int
    top: int
    color: Floats
    labels: NDArray[np.uint8]
    height: Floats


def draw(
    seed: int, left: int, top: int, width: int, height: int, light: Light
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph the farm.

    Args:
        left, top: place of the first pixel, 0 or above.

    Returns:
        uint8 (height, width, 3) RGB and uint8 (height, width) class indices.
    """
    random = np.random.default_rng((seed, left, top))
    shape = height + 2 * PAD, width + 2 * PAD
    scene = _ground(seed, left - PAD, top - PAD, shape, random)
    for i, j in _plots_in(seed, scene):
        _furnish(seed, scene, i, j)
    image = photograph(scene.color, scene.height, light, PAD, random)
    return image, scene.labels[PAD:-PAD, PAD:-PAD].copy()


def _bend(seed: int, x: Any, y: Any) -> tuple[Any, Any]:
    """x, y → u, v."""
    u = x + 38 * np.sin(y / 410 + seed) + 13 * np.sin(y / 150 + 2 * seed)
    v = y + 34 * np.sin(x / 370 + 3 * seed) + 12 * np.sin(x / 140 + 4 * seed)
    return u, v


def _unbend(seed: int, u: Any, v: Any) -> tuple[Any, Any]:
    x, y = u, v
    for _ in range(5):  # each makes the error five times smaller
        bent_u, bent_v = _bend(seed, x, y)
        x, y = x + u - bent_u, y + v - bent_v
    return x, y


def _plot(seed: int, i: int, j: int) -> tuple[Random, int]:
    """A plot's own random numbers, and its kind."""
    random = np.random.default_rng((seed, i + 1000, j + 1000))
    return random, int(random.choice(len(KINDS), p=KINDS))


def _plots_in(seed: int, scene: Scene) -> list[tuple[int, int]]:
    rows, columns = scene.labels.shape
    u, v = scene.left // PLOT_U, scene.top // PLOT_V
    across, down = columns // PLOT_U + 3, rows // PLOT_V + 3
    return [(i, j) for j in range(v - 1, v + down) for i in range(u - 1, u + across)]


def _edge(distance: Floats, softness: float = 2.0) -> Floats:
    """0 where `distance` is below 0, 1 where above, soft between."""
    return np.clip(distance / softness + 0.5, 0, 1)


def _ground(seed: int, left: int, top: int, shape: tuple[int, int], random: Random) -> Scene:
    """Colours and classes of what has no height: grass, earth, water, roads."""
    y, x = (
        axis.astype(np.float32) for axis in np.ogrid[top : top + shape[0], left : left + shape[1]]
    )
    u, v = _bend(seed, x, y)
    i, j = np.floor(u / PLOT_U), np.floor(v / PLOT_V)
    first_i, first_j = int(i.min()), int(j.min())
    across, down = range(first_i, int(i.max()) + 1), range(first_j, int(j.max()) + 1)
    kinds = np.array([[_plot(seed, a, b)[1] for b in down] for a in across])
    kind = kinds[i.astype(int) - first_i, j.astype(int) - first_j]
    in_u, in_v = u - i * PLOT_U, v - j * PLOT_V  # place in the plot
    wide, middle, fine = (noise(random, shape, size) for size in (192, 32, 6))
    # From the plot's edge inwards, uneven as hands make it.
    inwards = np.minimum(np.minimum(in_u, PLOT_U - in_u), np.minimum(in_v, PLOT_V - in_v))
    inwards = inwards + 4 * middle

    color = np.empty((3, *shape), np.float32)
    labels = np.zeros(shape, np.uint8)
    height = np.zeros(shape, np.float32)

    def lay(where: Floats, rgb: tuple[float, float, float], texture: Floats, label: int) -> None:
        for plane, value in zip(color, rgb, strict=True):
            plane += where * (value * (1 + texture) - plane)
        labels[where > 0.5] = label

    color[:] = planes((0.31, 0.37, 0.17))
    lay(np.clip(0.5 + 0.7 * wide, 0, 1), (0.24, 0.33, 0.13), 0.25 * middle, BACKGROUND)
    lay(np.clip(0.8 * (middle + 0.4 * wide), 0, 0.8), (0.42, 0.41, 0.22), 0.2 * fine, BACKGROUND)
    color *= 1 + 0.30 * fine
    # Leaf litter under the palms.
    litter = _edge(inwards - 20, 16) * ((kind == GARDEN) | (kind == GROVE))
    lay(litter * np.clip(0.6 + 0.5 * middle, 0, 1), (0.33, 0.28, 0.19), 0.3 * fine, BACKGROUND)

    field = _edge(inwards - 26, 5) * (kind == FIELD)
    furrows = 0.10 * np.sin(in_v * (2 * np.pi / 11) + middle)
    lay(field, (0.52, 0.37, 0.25), furrows + 0.10 * wide + 0.16 * fine + 0.06 * middle, EARTH)
    yard = _edge(inwards - 70 + 38 * wide, 8) * (kind == YARD)
    lay(yard, (0.58, 0.46, 0.34), 0.08 * middle + 0.12 * fine, EARTH)

    pond = np.minimum(inwards - 44, np.abs(in_u - PLOT_U / 2) - 16) + 6 * wide
    pond = np.where(kind == POND, pond, -99.0).astype(np.float32)
    lay(_edge(pond + 9, 6), (0.42, 0.36, 0.25), 0.15 * fine, BACKGROUND)
    lay(_edge(pond), (0.19, 0.28, 0.22), 0.10 * wide + 0.02 * fine, WATER)
    meander = x - 330 * np.sin(y / 800 + seed) - 60 * np.sin(y / 260)
    river = RIVER_HALF + 6 * wide - np.abs(meander % RIVER_EVERY - RIVER_EVERY / 2)
    lay(_edge(river + BANK, 8), (0.40, 0.37, 0.24), 0.2 * fine + 0.1 * middle, BACKGROUND)
    depth = np.clip(river / 60, 0, 1)
    lay(_edge(river), (0.33, 0.33, 0.23), -0.35 * depth + 0.06 * middle + 0.03 * fine, WATER)

    road = np.full(shape, np.inf, np.float32)  # distance from a road's middle
    for place, step in ((u, PLOT_U), (v, PLOT_V)):
        line = np.round(place / step)
        off = np.abs(place - line * step) + 1.5 * middle
        is_road = line % ROAD_EVERY == 0
        np.minimum(road, np.where(is_road, off, np.inf), out=road)
        track = _edge(TRACK_HALF - off, 5) * ~is_road * (river < -BANK) * (line % 2 == 0)
        lay(track, (0.50, 0.39, 0.27), 0.12 * fine + 0.06 * middle, EARTH)
    lay(_edge(ROAD_HALF + 5 - road, 6), (0.44, 0.40, 0.30), 0.2 * fine, BACKGROUND)
    ruts = 0.07 * np.exp(-(((np.minimum(road, 99) - 8) / 3) ** 2))
    lay(_edge(ROAD_HALF - road), (0.53, 0.52, 0.50), ruts + 0.05 * fine, ROAD)
    height[(labels == ROAD) & (river > -BANK)] = 14  # bridges
    return Scene(left, top, color, labels, height)


def _furnish(seed: int, scene: Scene, i: int, j: int) -> None:
    """Put onto a plot what stands on it."""
    random, kind = _plot(seed, i, j)
    tone = planes(1 + 0.12 * (random.random(3) - 0.5))
    if kind == YARD:
        for place in (0.3, 0.7):
            if random.random() < 0.85:
                _build(seed, scene, (i + place) * PLOT_U, (j + 0.5) * PLOT_V, house(random))
    for plant in PLANTS.get(kind, ()):
        _plant(seed, scene, i, j, plant, random, tone)


@cache
def _stamps(seed: int, species: int) -> list[Stamp]:
    """The individuals of a species, repeated all over the farm."""
    random = np.random.default_rng((seed, species))
    return [(snake_fruit if species == SNAKE_FRUIT else berinang)(random) for _ in range(12)]


@dataclass(frozen=True)
class Plant:
    """How a plot is planted: species, pixels along and between the rows, share that grows."""

    species: int
    along: int
    between: int
    share: float


PLANTS = {
    GARDEN: (Plant(SNAKE_FRUIT, 29, 41, 0.96), Plant(BERINANG, 150, 140, 0.35)),
    GROVE: (Plant(BERINANG, 58, 60, 0.93),),
    YARD: (Plant(BERINANG, 120, 110, 0.5),),
    MEADOW: (Plant(BERINANG, 110, 90, 0.2),),
}


def _plant(
    seed: int, scene: Scene, i: int, j: int, plant: Plant, random: Random, tone: Floats
) -> None:
    """Rows of a species over a plot, wherever there is open ground."""
    stamps = _stamps(seed, plant.species)
    along, between = (plant.along, plant.between)[:: 1 if random.random() < 0.6 else -1]
    margin = 22 if plant.species == SNAKE_FRUIT else 32
    scatter = 2.0 if plant.along < 100 else 16.0
    rows = np.arange(margin, PLOT_V - margin + 1, between)
    across, down = np.meshgrid(np.arange(margin, PLOT_U - margin + 1, along), rows)
    u = i * PLOT_U + across.ravel() + random.normal(0, scatter, across.size)
    v = j * PLOT_V + down.ravel() + random.normal(0, scatter, down.size)
    chance, shade = random.random(u.size), random.normal(1, 0.07, u.size)
    individual = random.integers(len(stamps), size=u.size)
    turn = random.integers(4, size=u.size)
    x, y = _unbend(seed, u, v)
    row, column = np.rint(y).astype(int) - scene.top, np.rint(x).astype(int) - scene.left
    for n in np.flatnonzero(chance < plant.share):
        if _is_open(scene, row[n], column[n], plant.species):
            color, cover, height = (
                np.rot90(part, turn[n], (-2, -1)) for part in stamps[individual[n]]
            )
            stamp = color * (tone * shade[n]), cover, height
            _stamp(scene, row[n], column[n], stamp, plant.species)


def _around(scene: Scene, row: int, column: int, reach: int) -> NDArray[np.uint8]:
    """The labels about a place, empty where that is out of the picture."""
    top, left = max(0, row - reach), max(0, column - reach)
    return scene.labels[top : max(0, row + reach + 1), left : max(0, column + reach + 1)]


def _is_open(scene: Scene, row: int, column: int, species: int) -> bool:
    around = _around(scene, row, column, 15 if species == SNAKE_FRUIT else 24)
    if not around.size:
        return False
    taken = np.isin(around, (WATER, BUILDING, ROAD))
    # A shade tree overtops the palms, not its like, and hangs over the road.
    return (
        not taken.any() if species == SNAKE_FRUIT else (taken | (around == BERINANG)).mean() < 0.12
    )


def _stamp(scene: Scene, row: int, column: int, stamp: Stamp, label: int) -> None:
    color, cover, height = stamp
    half = len(cover) // 2
    rows, columns = scene.labels.shape
    top, left = max(0, row - half), max(0, column - half)
    bottom, right = min(rows, row - half + len(cover)), min(columns, column - half + len(cover))
    if top >= bottom or left >= right:
        return
    there = np.s_[top:bottom, left:right]
    here = np.s_[
        top - row + half : bottom - row + half, left - column + half : right - column + half
    ]
    scene.color[:, *there] += cover[here] * (color[:, *here] - scene.color[:, *there])
    scene.height[there] = np.maximum(scene.height[there], height[here] * cover[here])
    scene.labels[there][cover[here] > 0.4] = label


def _build(seed: int, scene: Scene, u: float, v: float, stamp: Stamp) -> None:
    """Put a house where neither road nor water is in its way."""
    x, y = _unbend(seed, u, v)
    row, column = round(y) - scene.top, round(x) - scene.left
    if not np.isin(_around(scene, row, column, len(stamp[1]) // 2), (WATER, ROAD)).any():
        _stamp(scene, row, column, stamp, BUILDING)
