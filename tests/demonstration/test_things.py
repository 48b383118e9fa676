"""Stamps of what stands on the farm."""

from collections.abc import Callable

import numpy as np
import pytest

from salakseg.demonstration.things import (
    HIGHEST,
    Random,
    Stamp,
    berinang,
    house,
    noise,
    snake_fruit,
)


@pytest.mark.parametrize("thing", [snake_fruit, berinang, house])
def test_a_stamp_is_square_and_stands_in_its_middle(thing: Callable[[Random], Stamp]) -> None:
    for seed in range(4):
        color, cover, height = thing(np.random.default_rng(seed))
        side = len(cover)
        assert side % 2 == 1
        assert color.shape == (3, side, side) and cover.shape == height.shape == (side, side)
        assert color.dtype == cover.dtype == height.dtype == np.float32
        assert cover.min() >= 0 and cover.max() <= 1 and cover[side // 2, side // 2] > 0.5
        # Nothing is cut off at the edges.
        edges = np.concatenate([cover[0], cover[-1], cover[:, 0], cover[:, -1]])
        assert (edges < 1e-6).all()
        assert 0 < height[cover > 0.5].max() <= HIGHEST
        again = thing(np.random.default_rng(seed))
        assert all(
            (one == two).all() for one, two in zip((color, cover, height), again, strict=True)
        )


def test_clouds_are_about_zero_and_as_wide_as_asked() -> None:
    clouds = noise(np.random.default_rng(0), (300, 200), 50, 1)
    assert clouds.shape == (300, 200) and abs(clouds.mean()) < 0.15
    assert (np.abs(clouds) <= 1).mean() > 0.9
    near = np.abs(np.diff(clouds, axis=1)).mean()
    far = np.abs(clouds[:, 50:] - clouds[:, :-50]).mean()
    assert near < 0.1 * far
