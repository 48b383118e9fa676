"""Pictures for people, looked at pixel by pixel."""

import numpy as np
import pytest

from salakseg.classes import ClassMapping
from salakseg.imagery.drawing import (
    MARGIN,
    TEXT_SIZE,
    averaged,
    colorize,
    contact_sheet,
    fit,
    legend,
    overlay,
    scale_bar,
)

MAPPING = ClassMapping(
    (
        ("unlabelled", (250, 9, 9), True),
        ("water", (0, 0, 200), False),
        ("Pohon Berinang", (50, 255, 167), False),
    )
)
LABELS = np.array([[0, 1, 255]], np.uint8)


def holds(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(2).any())


def test_colours_of_classes() -> None:
    assert colorize(LABELS, MAPPING).tolist() == [[[0, 0, 200], [50, 255, 167], [0, 0, 0]]]


def test_an_overlay_leaves_pixels_without_a_class_alone() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    assert overlay(image, LABELS, MAPPING).tolist() == [
        [[50, 50, 150], [75, 178, 134], [100, 100, 100]]
    ]
    assert np.array_equal(overlay(image, LABELS, MAPPING, opacity=0), image)


def test_a_legend_shows_every_class_and_breaks_its_lines() -> None:
    wide, narrow = legend(MAPPING, 600), legend(MAPPING, 160)
    assert wide.shape[1] == 600
    assert narrow.shape[1] == 160
    assert len(narrow) > len(wide)
    for strip in (wide, narrow):
        assert strip.dtype == np.uint8
        assert all(holds(strip, color) for color in MAPPING.colors)
        assert not holds(strip, (250, 9, 9))


def test_fit_shrinks_and_never_enlarges() -> None:
    assert fit(np.zeros((100, 400, 3), np.uint8), 200, 200).shape == (50, 200, 3)
    assert fit(np.zeros((20, 40, 3), np.uint8), 200, 200).shape == (20, 40, 3)


def test_averages_are_of_whole_squares_and_of_what_is_left_at_the_edges() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 10, 3), np.uint8)
    shrunk = averaged(picture, 3)
    assert shrunk.shape == (3, 4, 3)
    for row, column in ((0, 0), (1, 2), (2, 3)):
        square = picture[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
        np.testing.assert_allclose(shrunk[row, column], square.mean((0, 1)), atol=1)


def test_a_contact_sheet_holds_its_pictures() -> None:
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (200, 200, 10)]
    pictures = [np.full((40, 40, 3), color, np.uint8) for color in colors]
    sheet = contact_sheet(
        [pictures[:2], pictures[2:]], ["first", "second"], ["image", "truth"], MAPPING, cell=40
    )
    for color in colors:
        assert (sheet == color).all(2).sum() == 40 * 40
    assert all(holds(sheet, color) for color in MAPPING.colors)


@pytest.mark.parametrize(("metres_per_pixel", "bar"), [(0.1, 200), (0.018, 278), (30, 333)])
def test_a_scale_bar_has_a_round_length(metres_per_pixel: float, bar: int) -> None:
    strip = scale_bar(metres_per_pixel, 1000)
    black = (strip == 0).all(axis=2)[MARGIN + TEXT_SIZE // 2]
    assert strip.shape[1] == 1000
    assert abs(int(np.argmin(black[MARGIN:])) - bar) <= 2
