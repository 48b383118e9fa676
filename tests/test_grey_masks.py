"""Masks of one band: what each tells."""

from typing import Any

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.grey_masks import (
    Numbers,
    color_in_words,
    meaning,
    nearest_rows,
    reads_colors,
)
from salakseg.masks import packed

ROWS = (("water", (0, 0, 200), False), ("road", (200, 0, 0), False), ("trees", (0, 200, 0), False))
TWO = ROWS[:2]
BLACK_AND_WHITE = (("palm", (255,) * 3, False), ("land", (0, 0, 0), False))
WATER, ROAD, STRAY = (
    int(packed(np.array(color))) for color in ((0, 0, 200), (200, 0, 0), (9, 8, 7))
)


def grey(*numbers: int, kind: str = "grey", **more: Any) -> Numbers:
    return Numbers(kind, dict.fromkeys(numbers, 100), **more)


def palette(colors: dict[int, int], class_palette: bool = False) -> Numbers:
    return Numbers("palette", dict.fromkeys(colors, 100), colors, class_palette)


def test_a_palette_is_read_by_colours_or_by_numbers() -> None:
    known = palette({1: WATER, 0: ROAD})
    assert reads_colors(known, ROWS)
    assert meaning(known, ROWS, {0: 2, 1: 2}).rows == {1: 0, 0: 1}
    stray = {0: ROAD, 1: WATER, 2: STRAY}
    assert not reads_colors(palette(stray), ROWS)
    found = meaning(palette(stray), ROWS, None)
    assert (found.rows, found.kind, found.unknown) == ({0: 0, 1: 1, 2: 2}, "palette numbers", {})
    found = meaning(palette(stray, class_palette=True), ROWS, None)
    assert (found.rows, found.unknown) == ({0: 1, 1: 0}, {"9 8 7": 100})
    void = meaning(palette({0: ROAD, 255: STRAY}), ROWS, None)
    assert (void.rows, void.unknown) == ({0: 1, 255: None}, {})


def test_white_of_one_bit_is_1_or_the_largest_number() -> None:
    bits = grey(0, 1, kind="1-bit")
    assert meaning(bits, TWO, None).rows == {0: 0, 1: 1}
    assert meaning(bits, BLACK_AND_WHITE, None).rows == {0: 1, 1: 0}
    assert meaning(bits, TWO, {0: 1, 38: 0, 255: None}).rows == {0: 1, 1: 0}
    assert meaning(bits, ROWS, {0: 0, 1: 2, 255: 1}).rows == {0: 0, 1: 2}
    assert meaning(grey(0, kind="1-bit"), ROWS, None).rows == {0: 0}
    with pytest.raises(
        InputError, match="1-bit mask can tell two classes apart, the mapping has 3"
    ):
        meaning(bits, ROWS, None)


def test_smeared_numbers_go_to_the_nearest_within_reach() -> None:
    found = meaning(grey(0, 5, 47, 49, 128, 210, 255, lossy=True), TWO, {0: 0, 255: 1})
    assert found.rows == {0: 0, 5: 0, 47: 0, 210: 1, 255: 1}
    assert (found.unknown, found.smeared) == ({"49": 100, "128": 100}, 300)
    # JPEG makes one of the other of numbers that are near to each other.
    for near in (1, 31):
        with pytest.raises(InputError, match=f"0 and {near} are nearer .* again, as PNG"):
            meaning(grey(0, near, lossy=True), TWO, {-1: None, 0: 0, near: 1})
    assert meaning(grey(0, 32, lossy=True), TWO, {-1: None, 0: 0, 32: 1}).unknown == {}
    by_color = meaning(grey(3, 128, lossy=True), BLACK_AND_WHITE, None)
    assert (by_color.rows, by_color.unknown) == ({3: 1}, {"128 128 128": 100})


def test_the_nearest_row_is_no_evidence_from_afar() -> None:
    nearest, near = nearest_rows(packed(np.array([[0, 0, 190], [90, 90, 90]])), ROWS)
    assert (nearest[0], near.tolist()) == (0, [True, False])
    assert color_in_words(STRAY) == "9 8 7"
