import numpy as np
import pytest

from salakseg.training.rates import learning_rate_factor, self_training_ramp, teacher_decay


def test_the_schedule_warms_up_and_reaches_the_end_of_the_run() -> None:
    factors = [learning_rate_factor(i, 1000) for i in range(1, 1001)]
    assert factors[0] == pytest.approx(1 / 50)
    assert max(factors) == factors[49]
    assert factors[999] == pytest.approx(0.001**0.9)
    assert (np.diff(factors[49:]) < 0).all()


def test_self_training_sets_in_by_parts_of_the_run() -> None:
    for steps in (300, 50_000):
        ramp = [self_training_ramp(round(part * steps), steps) for part in (0.1, 0.22, 0.5)]
        assert ramp == pytest.approx([0, 7 / 15, 1])


def test_the_teacher_follows_quickly_at_first() -> None:
    assert teacher_decay(1, 50_000) == pytest.approx(0.1)
    assert teacher_decay(40_000, 50_000) == pytest.approx(0.999)
    assert teacher_decay(300, 300) == pytest.approx(1 - 1 / 30)
