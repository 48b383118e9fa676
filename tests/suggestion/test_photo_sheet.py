"""Pictures of what is suggested."""

from pathlib import Path

import numpy as np
import pytest

from salakseg.data.index_files import read_index
from salakseg.imagery.drawing import MARGIN, TEXT_SIZE, colorize
from salakseg.imagery.photo import read_photo
from salakseg.model.weights import load_model
from salakseg.suggestion import photo_sheet as module
from salakseg.suggestion.originals import find_photo
from salakseg.suggestion.photo_sheet import CELL, doubt, look, photo_sheet
from tests.conftest import SAMPLES
from tests.suggestion.test_suggest import save_tiny_model


@pytest.mark.parametrize(("side", "step"), [(512, 1), (100, 4)])
def test_pictures_are_the_photo_and_the_guess(
    index_dir: Path, side: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIDE", side)
    index = read_index(index_dir)
    photo = find_photo(index, ".", "tile6_part008")
    model = load_model(save_tiny_model(index.mapping, Path("model.pth")), "cpu")
    (image, guessed, _), kept = look(photo, model, amp=False, keep=True)
    full = read_photo(SAMPLES / "images" / "tile6_part008.jpg")
    assert kept is not None and kept.shape == full.shape[:2] and len(np.unique(kept)) > 1
    assert np.array_equal(image, full[::step, ::step])
    assert np.array_equal(guessed, colorize(kept, index.mapping)[::step, ::step])
    (alone,), nothing = look(photo, None, amp=None, keep=True)
    assert np.array_equal(alone, image) and nothing is None


def test_the_less_sure_the_redder() -> None:
    image = np.full((1, 5, 3), 60, np.uint8)
    picture = doubt(image, np.array([[100, 75, 50, 20, 255]], np.uint8))[0].astype(int)
    redness = picture[:, 0] - picture[:, 1]
    assert redness[0] == 0 and 0 < redness[1] < redness[2] == redness[3]
    assert (picture[4] == 0).all() and picture[0, 0] > 0


def test_each_photo_is_under_its_own_title() -> None:
    colors = [(200, 30 * n, 0) for n in range(5)]
    shown = [np.full((50, 80, 3), color, np.uint8) for color in colors]
    sheet = photo_sheet(shown, ["a very long name " * 9, "", *"cde"])
    head, step = TEXT_SIZE + MARGIN, CELL + MARGIN
    for place, color in enumerate(colors):
        row, column = divmod(place, 4)
        y, x = MARGIN + row * (step + head), MARGIN + column * step
        assert (sheet[y + head : y + head + 50, x : x + 80] == color).all()
        title = sheet[y : y + head, x : x + step]
        # The long title ends before the second photo, which has none.
        assert (title == 255).all() == (place == 1)
    assert len(sheet) == MARGIN + 2 * (step + head)
    assert photo_sheet(shown[:2], ["", ""]).shape[1] == MARGIN + 2 * step
