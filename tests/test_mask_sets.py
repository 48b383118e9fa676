"""All masks of a data set tell together what their numbers stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import (
    ClassMapping,
    read_mask,
)
from salakseg.errors import InputError
from salakseg.grey_masks import Numbers
from salakseg.mask_sets import read_otherwise, understand_masks, understood_files
from salakseg.masks import BLACK, WHITE
from tests.test_classes import BINARY, MAPPING
from tests.test_classes import TWO as LAND_AND_PALM
from tests.test_grey_masks import (
    BLACK_AND_WHITE,
    ROAD,
    ROWS,
    STRAY,
    TWO,
    WATER,
    grey,
    palette,
)


def save(folder: Path, **pictures: np.ndarray) -> list[Path]:
    paths = []
    for name, pixels in pictures.items():
        paths.append(folder / f"{name}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_mask_files_tell_together_what_their_numbers_are(tmp_path: Path) -> None:
    zeros, ones = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    paths = save(tmp_path, a=zeros, b=ones, c=np.stack([zeros] * 3, 2))
    mapping, found = understood_files(paths, LAND_AND_PALM)
    assert mapping.values == ((0, 0), (255, 1))
    assert found is not None and found.words.endswith("(two values, two classes)")
    # What a model's masks have told holds for others.
    mapping, found = understood_files(paths, BINARY)
    assert mapping == BINARY and found is not None
    assert found.words.startswith("0 = land (50%), 255 = palm (50%) (as said, or as the model's")
    assert found.doubt == "16 pixels of unknown colours in the masks are not scored"
    bits = save(tmp_path, e=np.eye(4) > 0)
    assert understood_files(bits, LAND_AND_PALM)[0].values is not None
    assert understood_files([*paths, *bits], LAND_AND_PALM)[0].values == ((0, 0), (255, 1))
    with pytest.raises(InputError, match=r"1-bit.*put a class_mapping\.csv with a column mask_val"):
        understood_files(bits, MAPPING)


@pytest.mark.parametrize("high", [1, 65535, (255, 255, 255)])
def test_masks_whose_second_class_is_unknown_are_not_scored_by_the_first(
    tmp_path: Path, high: int | tuple[int, int, int]
) -> None:
    """Of a model that learnt 0 and 255, or colours: all that is scored would be one class."""
    half = np.repeat([0, 1], 8).reshape(4, 4)
    pixels = np.array([0, high], np.uint16)[half] if isinstance(high, int) else half
    if isinstance(high, tuple):
        pixels = np.array([LAND_AND_PALM.colors[0], high], np.uint8)[half]
    paths = save(tmp_path, a=pixels)
    named = " ".join(map(str, high)) if isinstance(high, tuple) else high
    with pytest.raises(InputError, match=rf"50% .*{named} = unknown \(50%\).* colours of the cl"):
        understood_files(paths, BINARY)


def test_what_speaks_against_a_models_reading_is_said(tmp_path: Path) -> None:
    three = ClassMapping((*LAND_AND_PALM.rows, ("sea", (0, 0, 9), False)))
    row = np.repeat(np.arange(1, 4), 4).astype(np.uint8)[None]
    _, found = understood_files(save(tmp_path, a=row), three.with_reading({0: 0, 1: 1, 2: 2}))
    assert found is not None and "3 = unknown (33%)" in found.words
    assert found.doubt.startswith("by themselves they would be 1 = land (33%), 2 = palm (33%), 3 =")
    assert found.doubt.endswith("4 pixels of unknown colours in the masks are not scored")


def test_jpeg_masks_of_black_and_white_tell_two_values(tmp_path: Path) -> None:
    blocks = np.kron(np.eye(4), np.ones((16, 16))).astype(np.uint8) * 255
    Image.fromarray(blocks).save(tmp_path / "m.jpg")
    mapping, _ = understood_files([tmp_path / "m.jpg"], LAND_AND_PALM)
    assert mapping.values == ((0, 0), (255, 1))
    labels = read_mask(tmp_path / "m.jpg", mapping).labels
    assert (labels[4:12, 4:12] == 1).all() and (labels[4:12, 20:60] == 0).all()


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
