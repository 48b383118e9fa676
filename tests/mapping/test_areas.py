"""Areas and intervals against the paper's own example, and against photographs left out."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from salakseg.mapping.areas import LEAST_PHOTOS, error_adjusted
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured
from tests.rasters import GRID, write_tiff


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Olofsson et al. 2014, table 8: rows the map, columns the reference.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
SHARES = np.array([0.020, 0.015, 0.320, 0.645])


def test_the_papers_own_example() -> None:
    adjusted = error_adjusted(SHARES, COUNTS.T)
    assert adjusted is not None
    # 235,086 ha of deforestation, of ten million.
    assert adjusted[0, 0] * 1e7 == pytest.approx(235_086, abs=1)
    assert adjusted[:, 0].sum() == pytest.approx(1)
    # The paper's interval is for a random sample of this map, which these counts need not be.
    assert (adjusted[:, 1:] == [0, 1]).all()


def test_no_correction_where_nothing_is_known_of_a_classs_errors() -> None:
    never = COUNTS.copy()
    never[1] = 0
    assert error_adjusted(SHARES, never.T) is None
    assert error_adjusted(SHARES, None) is None
    assert error_adjusted(np.zeros(4), COUNTS.T) is None
    # A class that the map does not hold needs no errors.
    adjusted = error_adjusted(np.array([0.1, 0, 0.3, 0.6]), never.T)
    assert adjusted is not None
    assert (adjusted[:, 1] <= adjusted[:, 0]).all()
    assert (adjusted[:, 0] <= adjusted[:, 2]).all()


def photographs(count: int, seed: int, classes: int = 4) -> NDArray[np.int64]:
    """Confusion matrices of photographs, each of which has shares and errors of its own."""
    random = np.random.default_rng(seed)
    truth = random.dirichlet(np.ones(classes), count)
    mean = 20 * (0.8 * np.eye(classes) + 0.2 / classes)
    rates = np.array([[random.dirichlet(row) for row in mean] for _ in range(count)])
    return np.round(1e6 * truth[:, :, None] * rates).astype(np.int64)


def shares_in(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a photograph: the mapped and the true share of each class."""
    return confusion.sum(0) / confusion.sum(), confusion.sum(1) / confusion.sum()


@pytest.mark.parametrize("count", [LEAST_PHOTOS, 10, 40])
def test_the_interval_holds_a_new_photograph_as_often_as_it_says(count: int) -> None:
    held, wide = [], []
    for seed in range(200):
        *validation, new = photographs(count + 1, seed)
        mapped, truth = shares_in(new)
        adjusted = error_adjusted(mapped, np.array(validation))
        assert adjusted is not None
        held += list((adjusted[:, 1] <= truth) & (truth <= adjusted[:, 2]))
        wide += list(adjusted[:, 2] - adjusted[:, 1])
        # All pixels of a photograph err alike: their number says nothing.
        again = error_adjusted(mapped, 10 * np.array(validation))
        np.testing.assert_allclose(again, adjusted)
    assert 0.92 <= np.mean(held) <= 0.99
    assert np.mean(wide) < 0.5  # no interval that says nothing


def test_photographs_without_a_class_say_nothing_of_it() -> None:
    """Seven of eight are without it and without errors: its bounds are those of one photograph."""
    photos = np.zeros((8, 3, 3), np.int64)
    photos[:, 0, 0] = photos[:, 1, 1] = 1000
    photos[0, 2, 2], photos[0, 2, 1] = 1000, 500
    adjusted = error_adjusted(np.array([0.2, 0.2, 0.6]), photos)
    assert adjusted is not None and adjusted[2, 2] - adjusted[2, 1] > 0.7
    # Where the map has none of it either, the bounds of the others are close.
    adjusted = error_adjusted(np.array([0.5, 0.5, 0]), photos)
    assert adjusted is not None and adjusted[0, 2] - adjusted[0, 1] < 0.2


def test_photographs_without_a_scored_pixel_are_none() -> None:
    photos = photographs(LEAST_PHOTOS, 0)
    mapped, _ = shares_in(photos[0])
    empty = np.concatenate([photos, np.zeros_like(photos)])
    np.testing.assert_array_equal(error_adjusted(mapped, empty), error_adjusted(mapped, photos))
    few = error_adjusted(mapped, empty[1:])
    assert few is not None and (few[:, 1:] == [0, 1]).all()


def three_classes(count: int) -> NDArray[np.int64]:
    return photographs(count, 3, classes=3)


@pytest.mark.parametrize(
    ("by_photo", "far", "why", "corrected"),
    [
        (None, None, "does not tell its validation photographs apart", True),
        (three_classes(4), None, "4 validation photographs are too few, 5 are needed", True),
        (three_classes(9), 0.6, "60% of it looks like nothing that the model was trained", False),
    ],
)
def test_where_there_is_no_interval_it_says_why(
    brightest: Any,
    brightest_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by_photo: NDArray[np.int64] | None,
    far: float | None,
    why: str,
    corrected: bool,
) -> None:
    brightest.val_confusions = by_photo
    brightest.val_confusion = three_classes(9).sum(0)
    if far is not None:
        found = np.where(np.arange(10) < 10 * far, 2.0, 0.5)
        monkeypatch.setattr("salakseg.mapping.likeness.distances", lambda *_, **__: found)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(80, 80)[0], 2, 0))
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    said = capsys.readouterr().out
    assert why in said and "(95 %" not in said and ("adjusted" in said) is corrected
    for row in rows_of(result.areas):
        assert row["interval"].startswith("none: ") and why in row["interval"]
        assert (row["adjusted_share"] != "") is corrected
        assert row["new_photo_share_low"] == row["new_photo_hectares_high"] == ""


def test_areas_of_an_enlarged_image_are_not_corrected(
    brightest: Any, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brightest.val_confusions = three_classes(9)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(80, 80)[0], 2, 0))
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", enlarge=1.5)
    assert "Not corrected: what validation knows is of images that are" in capsys.readouterr().out
    assert all(row["adjusted_share"] == "" for row in rows_of(result.areas))


@pytest.mark.parametrize(("gsd", "expected"), [(0.02, 0.0004), (0.1, 0.01)])
def test_the_pixel_size_of_a_photograph_can_be_said(
    brightest_file: Path, tmp_path: Path, gsd: float, expected: float
) -> None:
    photo = tmp_path / "photo.png"
    image: NDArray[Any] = coloured(40, 50)[0]
    Image.fromarray(image).save(photo)
    [result] = predict([photo], model=brightest_file, out=tmp_path / "maps", gsd=gsd)
    assert result.square_metres is not None
    np.testing.assert_allclose(result.square_metres, result.pixels * expected)
    assert result.area_basis == f"by --gsd {gsd:g}"
    assert GRID["crs"] not in result.areas.read_text(encoding="utf-8")
