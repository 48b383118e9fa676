"""Which patches are shown, and what is to be seen of them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import ClassMapping
from salakseg.evaluation.pictures import (
    CELL,
    WRONG,
    draw_confusion,
    extremes,
    four_pictures,
    spread,
)

WATER, FIELD = (0, 0, 200), (50, 255, 167)
MAPPING = ClassMapping((("Water", WATER, False), ("Field", FIELD, False)))


def test_shown_patches_go_from_the_worst_up_and_over_many_base_images() -> None:
    accuracy = np.linspace(0, 1, 32, dtype=np.float32)
    accuracy[5] = np.nan  # a patch without a scored pixel is never shown
    owner = np.arange(32) % 2
    chosen = spread(accuracy, owner)
    assert len(chosen) == 8 and chosen[0] == 0 and 5 not in chosen
    assert (np.diff(accuracy[chosen]) > 0).all()
    assert np.bincount(owner[chosen]).tolist() == [4, 4]
    assert spread(np.array([0.5, 0.25], np.float32), np.array([0, 0])).tolist() == [1, 0]


def test_extremes_come_from_many_base_images_and_have_enough_pixels() -> None:
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.0, np.nan])
    scored = np.array([100, 100, 100, 100, 1, 100])
    owner = np.array([0, 0, 0, 1, 1, 1])
    assert extremes(score, scored, owner, 2) == [0, 3]
    assert extremes(score, scored, owner, 10) == [0, 1, 2, 3]


def test_wrong_pixels_are_red_unscored_ones_black_and_the_others_grey() -> None:
    image = np.full((2, 3, 3), (90, 120, 30), np.uint8)
    truth = np.array([[0, 1, 1], [255, 0, 0]], np.uint8)
    prediction = np.array([[0, 0, 1], [0, 255, 1]], np.uint8)
    shown, true, predicted, errors = four_pictures(image, truth, prediction, MAPPING)
    np.testing.assert_array_equal(shown, image)
    black, grey = (0, 0, 0), (140, 140, 140)
    assert true.tolist() == np.array([[WATER, FIELD, FIELD], [black, WATER, WATER]]).tolist()
    assert predicted.tolist() == np.array([[WATER, WATER, FIELD], [WATER, black, FIELD]]).tolist()
    assert errors.tolist() == np.array([[grey, WRONG, grey], [black, black, WRONG]]).tolist()


def test_a_large_patch_is_shrunk_without_making_up_classes() -> None:
    truth = np.zeros((CELL, 2 * CELL), np.uint8)
    truth[:, CELL // 2 + 1 :] = 1  # an odd column: a mean would mix the two
    image = np.zeros((*truth.shape, 3), np.uint8)
    pictures = four_pictures(image, truth, 1 - truth, MAPPING)
    assert [picture.shape for picture in pictures] == [(CELL // 2, CELL, 3)] * 4
    for picture in pictures[1:3]:
        assert {tuple(color) for color in picture.reshape(-1, 3).tolist()} == {WATER, FIELD}
    assert (pictures[3] == WRONG).all()


@pytest.mark.parametrize("absent", [1, 2])
def test_the_confusion_matrix_is_dark_where_its_share_is_high(tmp_path: Path, absent: int) -> None:
    # One class that is always found, and classes that the truth does not hold.
    count = 1 + absent
    confusion = np.zeros((count, count), np.int64)
    confusion[0, 0] = 5000
    # A name is a name, and no formula.
    draw_confusion(tmp_path / "c.png", confusion, ["$\\water$", "Field", "Road"][:count])
    with Image.open(tmp_path / "c.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))

    def cells(color: tuple[int, int, int]) -> int:
        return int((pixels == color).all(axis=2).sum())

    always, never, nowhere = cells((8, 48, 107)), cells((247, 251, 255)), cells((230, 230, 230))
    # The text in them and the scale beside them take and give a little.
    assert always > 1000
    assert never / always == pytest.approx(absent, rel=0.3)
    assert nowhere / always == pytest.approx(count * absent, rel=0.3)
