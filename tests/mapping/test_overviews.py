"""Overviews: whole squares, counted and averaged one by one."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from salakseg.mapping.overviews import averages, commonest, make_overviews
from salakseg.mapping.predict import predict
from salakseg.mapping.scratch import open_scratch, read_raw
from tests.mapping.samples import MAPPING, striped
from tests.rasters import write_tiff


def counted(labels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """The commonest label of each step × step pixels, square by square."""

    def commonest_of(square: NDArray[np.uint8]) -> int:
        counts = np.bincount(square.ravel())
        first = square[0, 0]
        return int(first if counts[first] == counts.max() else counts.argmax())

    rows, columns = (range(0, length, step) for length in labels.shape)
    most = [[commonest_of(labels[y : y + step, x : x + step]) for x in columns] for y in rows]
    return np.array(most, np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (64, 96), (101, 67)])
def test_the_commonest_label_is_counted_in_whole_squares(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 7, 255], shape, p=[0.4, 0.3, 0.1, 0.2])
    labels = labels.astype(np.uint8)
    for steps in ([1], [7], [2, 4, 16], [3, 33]):
        for step, found in zip(steps, commonest(labels, steps), strict=True):
            np.testing.assert_array_equal(found, counted(labels, step))


@pytest.mark.parametrize("step", [2, 4])
def test_equally_common_labels_are_shown_as_often(step: int) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (200, 200)).astype(np.uint8)
    assert commonest(labels, [step])[0].mean() == pytest.approx(0.5, abs=0.03)


def weed(side: int) -> NDArray[np.uint8]:
    """Labels, a tenth of them 1 in clumps of 3 × 3 pixels."""
    rng = np.random.default_rng(0)
    labels = np.zeros((side, side), np.uint8)
    for row, column in rng.integers(0, side - 3, (side * side // 86, 2)):
        labels[row : row + 3, column : column + 3] = 1
    return labels


@pytest.mark.parametrize("side", [1100, 1101])
def test_overviews_and_preview_keep_of_a_scattered_class_what_whole_squares_do(
    brightest_file: Path, tmp_path: Path, side: int
) -> None:
    labels = weed(side)
    image = np.where(labels[..., None] == np.arange(3), 220, 30).astype(np.uint8)
    path = striped(tmp_path / "field", image)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as raster:
        np.testing.assert_array_equal(raster.read(1), labels)
        assert raster.overviews(1) == [2, 4]
    for level, step in enumerate((2, 4)):
        with rasterio.open(result.classes, overview_level=level) as raster:
            np.testing.assert_array_equal(raster.read(1), counted(labels, step))
    preview = np.asarray(Image.open(result.preview)).astype(int)
    height = width = -(-side // 2)
    image, over = preview[:height, :width], preview[:height, width + 8 : 2 * width + 8]
    shown = np.array(MAPPING.colors)[counted(labels, 2)]
    assert abs(over - (image + shown) / 2).max() <= 1


def averaged(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean of what is not 255 of each 2 × 2 pixels, square by square; a half is rounded up."""

    def mean_of(square: NDArray[np.uint8]) -> int:
        there = square[square != 255].astype(int)
        return int((2 * there.sum() + there.size) // (2 * there.size)) if there.size else 255

    rows, columns = (range(0, length, 2) for length in values.shape)
    means = [[mean_of(values[y : y + 2, x : x + 2]) for x in columns] for y in rows]
    return np.array(means, np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (64, 96), (101, 67)])
@pytest.mark.parametrize("missing", [0, 0.6])
def test_means_are_of_what_is_there(shape: tuple[int, int], missing: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 101, shape).astype(np.uint8)
    values[rng.random(shape) < missing] = 255
    expected = values
    for found in averages(values, [2, 4, 8]):
        expected = averaged(expected)
        np.testing.assert_array_equal(found, expected)


def test_means_of_whole_squares_are_those_of_gdal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 101, (256, 384)).astype(np.uint8)
    values[rng.random(values.shape) < 0.3] = 255
    path = write_tiff(tmp_path / "map.tif", values[None], nodata=255)
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    for level, found in enumerate(averages(values, [2, 4, 8])):
        with rasterio.open(path, overview_level=level) as raster:
            np.testing.assert_array_equal(raster.read(1), found)


def test_strips_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = weed(1101)
    monkeypatch.setattr("salakseg.mapping.overviews.STRIP_PIXELS", 20_000)
    nothing = np.zeros(0, np.uint32)
    with open_scratch(tmp_path / "scratch", labels.shape, {}, nothing) as scratch:
        scratch.path("labels").write_bytes(labels.tobytes())
        found = make_overviews(scratch, "labels", commonest)
        assert [shape for _, shape in found] == [(551, 551), (276, 276)]
        for (path, shape), step in zip(found, (2, 4), strict=True):
            np.testing.assert_array_equal(
                read_raw(path, shape, 0, 0, *shape), counted(labels, step)
            )
