"""Colours and heights → a photograph, in the light of a day."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from salakseg.demonstration.things import HIGHEST, Floats, Random, planes


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


def _soften(values: Floats, cell: int) -> Floats:
    """Blur over about `cell` pixels."""
    image = Image.fromarray(values)
    small = image.resize((image.width // cell, image.height // cell), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


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


def photograph(
    color: Floats, height: Floats, light: Light, pad: int, random: Random
) -> NDArray[np.uint8]:
    """What a camera sees.

    Args:
        color: float32 (3, H, W), as in scattered white light.
        height: float32 (H, W), in pixels.
        pad: pixels on every side that throw shadows but are not in the picture.

    Returns:
        uint8 (H - 2 pad, W - 2 pad, 3) RGB.
    """
    inside = np.s_[pad:-pad, pad:-pad]
    down, right = np.gradient(_soften(height, 2)[inside])
    # Slopes that face the sun are brighter; the sun stands opposite the shadow.
    facing = 1 + 0.30 * np.clip(right * light.shadow[0] + down * light.shadow[1], -2, 2)
    sunlit = facing * (1 - 0.92 * _shadow(height, light)[inside])
    hollow = np.clip((_soften(height, 16) - height)[inside] / 22, 0, 1)
    received = planes(light.sky) * (1 - 0.5 * hollow) + planes(light.sun) * sunlit
    image = color[:, *inside] * received
    image += light.haze * (planes((0.62, 0.64, 0.66)) - image)
    image = 255 * np.clip(image, 0, 1) ** np.float32(0.8) + random.normal(0, 2.5, image.shape[1:])
    picture = Image.fromarray(np.moveaxis(np.clip(image, 0, 255).astype(np.uint8), 0, 2))
    # A lens, too, is not sharp to the pixel.
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)))
