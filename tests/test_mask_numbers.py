"""Masks of one band: what each tells, and all of them together."""

from typing import Any

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.mask_numbers import (
    Numbers,
    color_in_words,
    meaning,
    nearest_rows,
    read_otherwise,
    reads_colors,
    understand_masks,
)
from salakseg.masks import BLACK, WHITE, packed

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


@pytest.mark.parametrize(
    ("masks", "rows", "reading"),
    [
        ([grey(0), grey(255)], TWO, {0: 0, 255: 1}),
        ([grey(0, 255), grey(0, 1, kind="1-bit")], TWO, {0: 0, 255: 1}),
        ([grey(0), grey(0, 1, kind="1-bit")], TWO, {0: 0, 1: 1}),
        ([grey(0, 1, kind="1-bit")], BLACK_AND_WHITE, {0: 1, 255: 0}),
        ([grey(0, 1, 2), palette({3: STRAY})], ROWS, {1: 0, 2: 1, 3: 2}),
        ([grey(0, 1, 2), palette({3: ROAD})], ROWS, {0: 0, 1: 1, 2: 2}),
        ([grey(2, 9, 250, 255, lossy=True)], TWO, {0: 0, 255: 1}),
        ([grey(2, 9, 250, 255, lossy=True)], BLACK_AND_WHITE, {0: 1, 255: 0}),
    ],
)
def test_masks_together_tell_what_each_cannot(
    masks: list[Numbers], rows: Any, reading: dict[int, int]
) -> None:
    found = understand_masks(masks, rows)
    assert found is not None and not found.grave
    assert {n: row for n, row in found.reading.items() if row is not None} == reading


def test_nothing_is_told_where_no_mask_is_read_by_numbers() -> None:
    assert understand_masks([], ROWS) is None
    assert understand_masks([palette({0: WATER})], ROWS) is None


def test_one_bit_for_three_classes_has_to_be_said() -> None:
    found = understand_masks([grey(0, 1, kind="1-bit")], ROWS)
    assert found is not None and found.grave
    assert "1-bit mask" in found.doubt and "--mask-values 0:CLASS,1:CLASS" in found.doubt


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


def test_two_pairs_of_numbers_for_two_classes_have_to_be_said() -> None:
    """As of two annotators: one writes 0 and 255, the other 0 and 1."""
    for high in (255, 65535):
        found = understand_masks([grey(0, 1), grey(0, high), grey(0), grey(1)], TWO)
        assert found is not None and found.grave
        assert f"say --mask-values 0:water,1:road,{high}:road; if {high} is no" in found.doubt
    smeared = grey(0, 2, 253, 255, lossy=True)
    found = understand_masks([grey(0, 1), smeared], TWO)
    assert found is not None and found.grave
    # Where 255 stands beside 1, or alone, it is what was not labelled.
    for masks in ([grey(0, 1), grey(0, 255), grey(0, 1, 255)], [grey(0, 1), grey(255)]):
        found = understand_masks(masks, TWO)
        assert found is not None and not found.grave and found.reading[255] is None
    found = understand_masks([grey(0, 1), grey(0, 2)], TWO)
    assert found is not None and not found.grave and "row numbers from 1" in found.words


def test_jpeg_of_numbers_that_are_near_has_to_be_made_again() -> None:
    smeared = Numbers("grey", {0: 60, 1: 90, 2: 50}, lossy=True)
    found = understand_masks([smeared], ROWS)
    assert found is not None and found.grave
    assert "0 and 1 are nearer to each other than JPEG's errors" in found.doubt
    assert found.words == "0 = water (30%), 1 = road (45%), 2 = trees (25%)"


@pytest.mark.parametrize(("white", "black"), [(0, 1), (1, 2), (0, 255)])
def test_palettes_that_show_the_lower_number_white_have_to_be_explained(
    white: int, black: int
) -> None:
    colors = {white: WHITE, black: BLACK}
    masks = [palette(colors), palette({black: BLACK})]
    found = understand_masks(masks, TWO)
    assert found is not None and found.grave
    assert f"{white} white and {black} black; if white is road, say --mask-values " in found.doubt
    found = understand_masks([palette({white: BLACK, black: WHITE})], TWO)
    assert found is not None and not found.grave
    found = understand_masks([*masks, grey(0, 1, kind="1-bit")], TWO)
    assert found is not None and found.grave and "save all as RGB" in found.doubt
    found = understand_masks([palette(colors | {7: STRAY})], TWO)
    assert found is not None and "white" not in found.doubt


def test_masks_that_contradict_a_reading_and_explain_more_by_themselves() -> None:
    rows_from_0 = {0: 0, 1: 1, 2: 2, 255: None}
    assert "1 = water (33%)" in read_otherwise([grey(1, 2, 3)], ROWS, rows_from_0)
    from_1 = {0: None, 1: 0, 2: 1, 3: 2, 255: None}
    assert "0 = water (33%)" in read_otherwise([grey(0, 1, 2)], ROWS, from_1)
    for numbers in (grey(0, 1, 2), grey(1, 2), grey(0, 1, 2, 9), grey(255)):
        assert read_otherwise([numbers], ROWS, rows_from_0) == ""
    assert read_otherwise([grey(0, 1, 2, 3)], ROWS, from_1) == ""
    assert read_otherwise([grey(0, 1, kind="1-bit")], TWO, {0: 0, 255: 1}) == ""
