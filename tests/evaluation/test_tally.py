"""What a pass counts beside the confusion matrix, on pictures small enough to count by hand."""

import numpy as np
import torch

from salakseg.evaluation.tally import BOUNDARY, EVERY, count_by_confidence, near_boundary
from salakseg.metrics import LEVELS


def test_boundary_pixels_are_those_with_another_class_near_by() -> None:
    truth = np.zeros((32, 40), np.uint8)
    truth[:, 20:] = 1
    truth[30:] = 2
    truth[7:9, :6] = 255
    counted = np.zeros((32, 40), bool)
    for row, column in np.ndindex(32, 40):
        for step in range(1, BOUNDARY + 1):
            for y, x in ((row - step, column), (row + step, column)):
                if 0 <= y < 32:
                    counted[row, column] |= truth[y, x] != truth[row, column]
            for y, x in ((row, column - step), (row, column + step)):
                if 0 <= x < 40:
                    counted[row, column] |= truth[y, x] != truth[row, column]
    found = near_boundary(torch.from_numpy(truth)[None])[0]
    assert np.array_equal(found, counted[::EVERY])
    assert found.any() and not found.all()


def test_a_picture_narrower_than_the_boundary_is_counted() -> None:
    assert near_boundary(torch.tensor([[[0, 1]]], dtype=torch.uint8)).all()
    assert not near_boundary(torch.zeros(1, 1, 1, dtype=torch.uint8)).any()


def test_pixels_are_counted_by_place_rightness_and_confidence() -> None:
    truth = torch.zeros(1, EVERY, 16, dtype=torch.uint8)
    truth[0, :, 15] = 1
    truth[0, :, 0] = 255
    prediction = torch.zeros(1, EVERY, 16, dtype=torch.int64)
    confidence = torch.full((1, EVERY, 16), 0.75)
    confidence[0, 0, 8] = 1
    counts = count_by_confidence(truth, prediction, confidence)
    assert counts.sum() == 15  # one row, without the pixel that has no class
    assert counts[0, 1, LEVELS] == 1 and counts[0, 1, 750] == 7
    assert counts[1, 1, 750] == 6 and counts[1, 0, 750] == 1
