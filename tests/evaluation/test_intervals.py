"""Intervals by bootstrap over base images."""

import math

import numpy as np
import pytest

from salakseg.evaluation.intervals import bootstrap_over, groups_with, interval
from salakseg.metrics import scores


def test_every_resample_is_a_sum_of_base_images() -> None:
    confusions = np.array([[[8, 2], [0, 0]], [[1, 1], [4, 4]], [[0, 0], [5, 5]]])
    possible = {
        scores(confusions[[a, b, c]].sum(0)).miou
        for a in range(3)
        for b in range(3)
        for c in range(3)
    }
    drawn = bootstrap_over(confusions, resamples=500)
    assert {round(miou, 12) for miou in drawn.miou} == {round(miou, 12) for miou in possible}
    assert np.isnan(drawn.iou).any(0).tolist() == [True, True]  # sets without class 0, without 1
    again = bootstrap_over(confusions, resamples=500)
    assert np.array_equal(again.iou, drawn.iou, equal_nan=True)
    assert not np.array_equal(bootstrap_over(confusions, 500, seed=1).miou, drawn.miou)


def test_two_models_are_drawn_alike() -> None:
    confusions = np.random.default_rng(0).integers(0, 100, (7, 3, 3))
    difference = bootstrap_over(confusions).miou - bootstrap_over(confusions.copy()).miou
    assert (difference == 0).all()


def test_many_base_images_and_classes_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    confusions = np.random.default_rng(0).integers(0, 100, (7, 3, 3))
    whole = bootstrap_over(confusions)
    monkeypatch.setattr("salakseg.evaluation.intervals.AT_ONCE", 100)
    assert np.array_equal(bootstrap_over(confusions).iou, whole.iou)


def test_an_interval_over_few_base_images_holds_the_truth_nearly_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held, plain, trials = 0, 0, 300
    for _ in range(trials):
        # Pixel accuracy of 6 photographs of various sizes; in all photographs it is 0.7 on average.
        pixels = random.integers(5_000, 10_000, 6)
        right = (pixels * random.beta(7, 3, 6)).astype(int)
        confusions = np.zeros((6, 2, 2), int)
        confusions[:, 0, 0], confusions[:, 0, 1] = right, pixels - right
        draws = bootstrap_over(confusions, resamples=500).iou[:, 0]
        low, high = interval(draws, 6)
        held += low <= 0.7 <= high
        plain += np.quantile(draws, 0.025) <= 0.7 <= np.quantile(draws, 0.975)
    assert held / trials >= 0.91 > plain / trials


def test_one_base_image_has_no_interval() -> None:
    confusions = np.array([[[8, 2], [0, 5]], [[1, 1], [0, 0]]])
    assert groups_with(confusions).tolist() == [2, 1]
    draws = bootstrap_over(confusions)
    assert math.isnan(interval(draws.iou[:, 1], 1)[0])
    low, high = interval(draws.miou, 2)
    assert low <= scores(confusions.sum(0)).miou <= high
