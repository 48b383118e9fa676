"""A snake-fruit farm drawn from above: seed, place and light in, photograph and class labels out.

The farm has no edges and is nowhere kept: what stands at a place is a pure function of the seed and
the place, so that photographs of neighbouring places fit together. Places are pixels of
`PIXEL_SIZE`, x to the east and y to the south; heights are pixels too.

Plots lie in a grid that two waves bend (coordinates u, v), roads and tracks run between them, a
river between some. A ground of colours and classes comes first, then what stands on it is stamped
with its height, and the heights give shade and shadow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

PIXEL_SIZE = 0.1  # metres
# Class indices, in the order of the Salak classes.
BACKGROUND, WATER, BUILDING, ROAD, BERINANG, SNAKE_FRUIT, EARTH = range(7)

PLOT_U, PLOT_V = 430, 330
ROAD_EVERY, ROAD_HALF, TRACK_HALF = 3, 19, 8
RIVER_EVERY, RIVER_HALF, BANK = 2600, 46, 14
# So far out of the picture is drawn as well: shadows and crowns come in from there.
PAD = 96
GARDEN, GROVE, FIELD, YARD, POND, MEADOW = range(6)
KINDS = (0.45, 0.17, 0.11, 0.12, 0.06, 0.09)
ROOFS = ((0.56, 0.27, 0.19), (0.62, 0.63, 0.64), (0.40, 0.30, 0.25), (0.31, 0.42, 0.55))

HIGHEST = 66  # of all that stands anywhere

Floats = NDArray[np.float32]
Random = np.random.Generator


@dataclass(frozen=True)
class Light:
    """A day's light.

    Attributes:
        shadow: where a thing of height 1 throws its shadow, in pixels east and south.
        sun, sky: colours of the direct and of the scattered light.
        haze: share of grey in the picture.
    """

    shadow: tuple[float, float]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    haze: float


NOON = Light((0.35, -0.45), (1.02, 0.98, 0.90), (0.44, 0.48, 0.54), 0.03)
AFTERNOON = Light((1.10, 0.40), (0.98, 0.84, 0.64), (0.40, 0.43, 0.50), 0.09)


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

    Returns:
        uint8 (height, width, 3) RGB and uint8 (height, width) class indices.
    """
    random = np.random.default_rng((seed, left, top))
    shape = height + 2 * PAD, width + 2 * PAD
    scene = _ground(seed, left - PAD, top - PAD, shape, random)
    for i, j in _plots_in(seed, scene):
        _furnish(seed, scene, i, j)
    return _lit(scene, light, random), scene.labels[PAD:-PAD, PAD:-PAD].copy()


def _bend(seed: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """x, y → u, v."""
    u = x + 38 * np.sin(y / 410 + seed) + 13 * np.sin(y / 150 + 2 * seed)
    v = y + 34 * np.sin(x / 370 + 3 * seed) + 12 * np.sin(x / 140 + 4 * seed)
    return u, v


def _unbend(seed: int, u: float, v: float) -> tuple[float, float]:
    x, y = u, v
    for _ in range(5):  # each makes the error five times smaller
        bent_u, bent_v = _bend(seed, x, y)  # type: ignore[arg-type]
        x, y = x + u - float(bent_u), y + v - float(bent_v)
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


def _soften(values: Floats, cell: int) -> Floats:
    """Blur over about `cell` pixels."""
    image = Image.fromarray(values)
    small = image.resize((image.width // cell, image.height // cell), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _planes(rgb: Sequence[float] | NDArray[np.float64]) -> Floats:
    """A colour that multiplies with (3, H, W)."""
    return np.array(rgb, np.float32)[:, None, None]


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

    color[:] = _planes((0.31, 0.37, 0.17))
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
    tone = _planes(1 + 0.12 * (random.random(3) - 0.5))
    if kind == YARD:
        for place in (0.3, 0.7):
            if random.random() < 0.85:
                _build(seed, scene, (i + place) * PLOT_U, (j + 0.5) * PLOT_V, random)
    for plant in PLANTS.get(kind, ()):
        _plant(seed, scene, i, j, plant, random, tone)


Stamp = tuple[Floats, Floats, Floats]  # (3, S, S) colour, (S, S) cover, (S, S) height


@cache
def _stamps(seed: int, species: int) -> list[Stamp]:
    """The individuals of a species, repeated all over the farm."""
    random = np.random.default_rng((seed, species))
    return [(_snake_fruit if species == SNAKE_FRUIT else _berinang)(random) for _ in range(12)]


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
    margin = 22 if plant.species == SNAKE_FRUIT else 32
    scatter = 2.0 if plant.along < 100 else 16.0
    for v in np.arange(margin, PLOT_V - margin + 1, plant.between):
        for u in np.arange(margin, PLOT_U - margin + 1, plant.along):
            jitter = random.normal(0, scatter, 2)
            chance, shade, pick = random.random(), random.normal(1, 0.07), random.integers(48)
            x, y = _unbend(seed, i * PLOT_U + u + jitter[0], j * PLOT_V + v + jitter[1])
            row, column = round(y) - scene.top, round(x) - scene.left
            if chance < plant.share and _is_open(scene, row, column, plant.species):
                color, cover, height = (
                    np.rot90(part, pick % 4, (-2, -1)) for part in stamps[pick // 4]
                )
                _stamp(scene, row, column, (color * (tone * shade), cover, height), plant.species)


def _is_open(scene: Scene, row: int, column: int, label: int) -> bool:
    reach = 15 if label == SNAKE_FRUIT else 24
    around = scene.labels[
        max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
    ]
    blocking = (around == WATER) | (around == ROAD) | (around == BUILDING)
    if label == BERINANG:  # a shade tree overtops the palms, not its like
        blocking |= around == BERINANG
        return bool(around.size and blocking.mean() < 0.12)
    return bool(around.size and not blocking.any())


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


def _snake_fruit(random: Random) -> Stamp:
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
    return _planes((0.20, 0.33, 0.15)) * shade, cover, height.astype(np.float32)


def _berinang(random: Random) -> Stamp:
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
    return _planes((0.33, 0.42, 0.13)) * shade, cover.astype(np.float32), height.astype(np.float32)


def _build(seed: int, scene: Scene, u: float, v: float, random: Random) -> None:
    """A house with a ridged roof, unless a road or water is in its way."""
    long, short = random.uniform(38, 62), random.uniform(26, 40)
    angle = random.normal(0, 0.12) + random.integers(2) * np.pi / 2
    roof = ROOFS[random.choice(len(ROOFS), p=(0.45, 0.25, 0.2, 0.1))]
    half = int(np.hypot(long, short)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    p, q = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    cover = np.clip(np.minimum(long - np.abs(p), short - np.abs(q)), 0, 1)
    grain = noise(random, x.shape, 16)
    shade = 1 + 0.07 * np.sin(p * 1.3) + 0.10 * grain + 0.25 * np.exp(-(q**2) / 2)
    color = _planes(roof) * shade
    height = 30 + 20 * (1 - np.abs(q) / short)
    x_place, y_place = _unbend(seed, u, v)
    row, column = round(y_place) - scene.top, round(x_place) - scene.left
    around = scene.labels[
        max(0, row - half) : max(0, row + half), max(0, column - half) : max(0, column + half)
    ]
    if not np.isin(around, (WATER, ROAD)).any():
        _stamp(scene, row, column, (color, cover, height.astype(np.float32)), BUILDING)


def _shadow(height: Floats, light: Light) -> Floats:
    """0 in the sun … 1 in the shadow of something else, with soft edges."""
    rows, columns = height.shape
    half = Image.fromarray(height).resize((columns // 2, rows // 2), Image.Resampling.BOX)
    small = np.asarray(half)
    length = float(np.hypot(*light.shadow))
    blocked = np.full_like(small, -99)
    for far in np.arange(2, HIGHEST * length, 4):  # pixels of the picture
        shift = round(far / 2 * light.shadow[1] / length), round(far / 2 * light.shadow[0] / length)
        np.maximum(blocked, np.roll(small, shift, (0, 1)) - far / length, out=blocked)
    dark = Image.fromarray(np.clip((blocked - small) / 5, 0, 1))
    return np.asarray(dark.resize((columns, rows), Image.Resampling.BILINEAR))


def _lit(scene: Scene, light: Light, random: Random) -> NDArray[np.uint8]:
    """Colours and heights → uint8 RGB, as a camera would see them in this light."""
    inside = np.s_[PAD:-PAD, PAD:-PAD]
    down, right = np.gradient(_soften(scene.height, 2)[inside])
    # Slopes that face the sun are brighter; the sun stands opposite the shadow.
    facing = 1 + 0.30 * np.clip(right * light.shadow[0] + down * light.shadow[1], -2, 2)
    sunlit = facing * (1 - 0.92 * _shadow(scene.height, light)[inside])
    hollow = np.clip((_soften(scene.height, 16) - scene.height)[inside] / 22, 0, 1)
    received = _planes(light.sky) * (1 - 0.5 * hollow) + _planes(light.sun) * sunlit
    image = scene.color[:, *inside] * received
    image += light.haze * (_planes((0.62, 0.64, 0.66)) - image)
    image = 255 * np.clip(image, 0, 1) ** np.float32(0.8) + random.normal(0, 2.5, image.shape[1:])
    picture = Image.fromarray(np.moveaxis(np.clip(image, 0, 255).astype(np.uint8), 0, 2))
    # A lens, too, is not sharp to the pixel.
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)))
