"""Light and shadow on things of a known height."""

import numpy as np
import pytest

from salakseg.demonstration.light import AFTERNOON, NOON, Light, photograph


@pytest.mark.parametrize(
    ("light", "lit", "dark"), [(NOON, "left", "up"), (AFTERNOON, "left", "right")]
)
def test_a_thing_throws_its_shadow_away_from_the_sun(light: Light, lit: str, dark: str) -> None:
    height = np.zeros((160, 160), np.float32)
    height[70:90, 70:90] = 40
    color = np.full((3, 160, 160), 0.4, np.float32)
    image = photograph(color, height, light, 8, np.random.default_rng(0)).astype(float)
    assert image.shape == (144, 144, 3)
    # About ten pixels away from each side of the thing.
    beside = {
        "left": image[68:76, 48:54],
        "right": image[68:76, 90:96],
        "up": image[48:54, 68:76],
    }
    assert beside[dark].mean() < 0.7 * beside[lit].mean()
