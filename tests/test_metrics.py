"""The confusion matrix against a plain count, and scores against arithmetic by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from salakseg import metrics
from salakseg.metrics import (
    LEVELS,
    calibration,
    confusion_matrices,
    confusion_matrix,
    count,
    scores,
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_the_confusion_matrix_is_a_count_of_pairs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (2, 9, 7), generator=generator)
    truth[torch.rand(truth.shape, generator=generator) < 0.2] = 255
    prediction = torch.randint(0, 4, truth.shape, generator=generator)
    counted = np.zeros((4, 4), int)
    for row, column in zip(truth.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if row != 255:
            counted[row, column] += 1
    matrix = confusion_matrix(truth.to(dtype), prediction.to(dtype), 4)
    assert matrix.dtype == torch.int64
    assert np.array_equal(matrix, counted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("way", [count, metrics._count_by_sorting])
def test_counts_are_numpys(way: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    random = np.random.default_rng(0)
    even = random.integers(0, 56, (3, 50, 41))
    skewed = np.where(random.random(even.shape) < 0.6, 9, even)
    for values in (even, skewed, np.full((7, 5), 55), np.zeros((0, 4), int)):
        counted = way(torch.from_numpy(values).to(dtype), 56)
        assert counted.dtype == torch.int64
        assert np.array_equal(counted, np.bincount(values.ravel(), minlength=56))


def test_scores_by_hand() -> None:
    # Truth: 4 of class 0, 6 of class 1, none of class 2, which is predicted once all the same.
    result = scores(np.array([[3, 1, 0], [1, 4, 1], [0, 0, 0]]))
    assert result.iou[:2] == pytest.approx([3 / 5, 4 / 7])
    assert result.precision[:2] == pytest.approx([3 / 4, 4 / 5])
    assert result.recall[:2] == pytest.approx([3 / 4, 4 / 6])
    assert result.f1[:2] == pytest.approx([6 / 8, 8 / 11])
    assert result.support.tolist() == [4, 6, 0]
    assert result.false_positives.tolist() == [1, 1, 1]
    assert result.miou == pytest.approx((3 / 5 + 4 / 7) / 2)
    assert result.pixel_accuracy == pytest.approx(0.7)


def test_an_absent_class_is_neither_nought_nor_in_the_mean() -> None:
    result = scores(torch.tensor([[5, 0], [0, 0]]))
    for values in (result.iou, result.precision, result.recall, result.f1):
        assert values[0] == 1
        assert math.isnan(values[1])
    assert result.miou == 1


def test_a_class_that_is_never_predicted_scores_nought() -> None:
    result = scores(np.array([[5, 0], [3, 0]]))
    assert result.precision[1] == result.recall[1] == result.f1[1] == result.iou[1] == 0
    assert result.miou == pytest.approx(5 / 8 / 2)


def test_without_scored_pixels_there_are_no_scores() -> None:
    nothing = torch.full((3, 3), 255, dtype=torch.uint8)
    matrix = confusion_matrix(nothing, torch.zeros_like(nothing), 2)
    assert int(matrix.sum()) == 0
    assert math.isnan(scores(matrix).miou)
    assert math.isnan(scores(matrix).pixel_accuracy)


def test_matrices_of_a_batch_are_those_of_its_pictures() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, 3, (4, 6, 5), generator=generator, dtype=torch.uint8)
    truth[1], truth[2, 0] = 255, 255
    prediction = torch.randint(0, 3, truth.shape, generator=generator)
    matrices = confusion_matrices(truth, prediction, 3)
    assert matrices.dtype == torch.int64
    for one, one_truth, one_prediction in zip(matrices, truth, prediction, strict=True):
        assert torch.equal(one, confusion_matrix(one_truth, one_prediction, 3))


def test_calibration_by_hand() -> None:
    counts = np.zeros((2, LEVELS + 1), np.int64)
    counts[1, 900], counts[0, 900] = 60, 40  # says 90 %, right in 60 %
    counts[1, LEVELS] = 100  # says 100 %, always right
    result = calibration(counts)
    assert result.error == pytest.approx(0.5 * 0.3)
    assert result.accuracy[-2:] == pytest.approx([0.6, 1])
    assert result.confidence[-2:] == pytest.approx([0.9, 1])
    assert result.share.sum() == pytest.approx(1) and np.isnan(result.accuracy[0])
    assert math.isnan(calibration(np.zeros((2, LEVELS + 1), np.int64)).error)
