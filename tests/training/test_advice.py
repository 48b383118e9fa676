import csv
import io
import math
from typing import Any

import pytest

from salakseg.training.advice import Advice
from salakseg.training.advice import advice_on as advice_on_rows
from tests.training.test_doctor import GOOD_LOG, GOOD_OPTIONS, GOOD_TIMING

STEPS = 10_000
ITERATIONS = range(100, STEPS + 1, 100)
EVALUATED = range(500, STEPS + 1, 500)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def advice_on(
    log: list[dict[str, Any]], timing: list[dict[str, Any]] | None = None, **options: Any
) -> list[Advice]:
    defaults = {
        "num_steps": STEPS,
        "lambda_st": 1.0,
        "threshold_st": 0.6,
        "batch_size": 4,
        "class_names": ["Water", "Road"],
    }
    return advice_on_rows(log, timing or [], **(defaults | options))


def fired(*args: Any, **options: Any) -> list[tuple[str, int]]:
    return [(advice.rule, advice.iteration) for advice in advice_on(*args, **options)]


def losses(iterations: range = ITERATIONS, **columns: Any) -> list[dict[str, Any]]:
    """Log rows; a column is a number or a function of the iteration."""
    healthy = {"loss_ce": 0.5, "loss_fm": 0.1, "loss_st": 0.2, "loss_d": 0.4, "st_count": 3.0}
    return [
        {"iteration": i, **{k: v(i) if callable(v) else v for k, v in (healthy | columns).items()}}
        for i in iterations
    ]


def evaluations(iterations: range = EVALUATED, **columns: Any) -> list[dict[str, Any]]:
    """Evaluation rows; validation gains to the end unless a column says otherwise."""
    healthy = {"train_miou": lambda i: 0.5 + i / 50_000, "val_miou": lambda i: 0.4 + i / 50_000}
    columns = {name.replace("iou_", "iou "): value for name, value in columns.items()}
    return [
        {"iteration": i, **{k: v(i) if callable(v) else v for k, v in (healthy | columns).items()}}
        for i in iterations
    ]


def test_nothing_is_said_about_a_good_short_run() -> None:
    advice = advice_on_rows(rows_of(GOOD_LOG), rows_of(GOOD_TIMING), **GOOD_OPTIONS, class_names=[])
    assert advice == []


def test_nothing_is_said_about_a_good_long_run() -> None:
    falling = losses(
        loss_ce=lambda i: 0.3 + 1.2 * math.exp(-i / 800) + 0.03 * math.sin(i),
        loss_d=lambda i: 0.1 + 0.6 * math.exp(-i / 500),
        st_count=lambda i: 3.2 + 0.2 * math.sin(i),
    )
    assert fired([*falling, *evaluations(**{"iou Road": 0.3, "iou Water": 0.8})]) == []


def test_nothing_is_said_about_no_rows() -> None:
    assert fired([]) == []


def test_overfitting() -> None:
    def train_miou(iteration: int) -> float:
        return 0.9 if iteration > 5000 else 0.5

    found = advice_on(evaluations(train_miou=train_miou))
    assert [(a.rule, a.iteration) for a in found] == [("overfitting", 6500)]
    assert found[0].text.startswith("training mIoU 0.90, validation 0.53: ")
    assert fired(evaluations(train_miou=lambda i: 0.55 + i / 50_000)) == []


def test_underfitting_is_a_matter_of_the_second_half() -> None:
    low = evaluations(train_miou=0.25, val_miou=lambda i: 0.1 + i / 100_000)
    assert fired(low) == [("underfitting", 5500)]
    assert fired([row for row in low if row["iteration"] <= 5000]) == []


@pytest.mark.parametrize(
    ("count", "rule"), [(0.0, "self-training dead"), (4.0, "self-training accepts everything")]
)
def test_self_training_that_sorts_out_nothing_or_everything(count: float, rule: str) -> None:
    log = losses(st_count=count)
    # The ramp begins after 1,500 iterations; 5 % of the run, five rows, lie behind 2,000.
    assert fired(log) == [(rule, 2000)]
    assert "--threshold-st is 0.6. " in advice_on(log)[0].text
    assert fired(log, lambda_st=0.0) == []
    assert fired(losses(st_count=lambda i: count if i % 300 else 2.0)) == []


def test_a_changed_batch_size_is_not_taken_for_accepting_everything() -> None:
    assert fired(losses(st_count=6.4), batch_size=4) == []


def test_discriminator_always_right() -> None:
    def loss_d(iteration: int) -> float:
        return 0.01 if iteration >= 4000 else 0.3

    assert fired(losses(loss_d=loss_d)) == [("discriminator always right", 4400)]
    assert fired(losses(loss_d=0.05)) == []


def test_discriminator_guessing_for_long() -> None:
    assert fired(losses(loss_d=0.693)) == [("discriminator guessing", 1000)]
    assert fired(losses(loss_d=lambda i: 0.693 if i < 900 else 0.5)) == []
    assert "--threshold-st auto" in advice_on(losses(loss_d=0.693))[0].text


def test_a_supervised_run_has_no_discriminator_to_speak_of() -> None:
    assert fired(losses(loss_fm=0.0, loss_st=0.0, loss_d=0.0, st_count=0.0)) == []


def test_loss_rising() -> None:
    found = advice_on(losses(loss_ce=lambda i: 0.4 if i < 6000 else 0.8))
    assert [(a.rule, a.iteration) for a in found] == [("loss rising", 6200)]
    assert found[0].text.startswith("Loss_CE has risen to 0.64 from 0.40. ")
    assert fired(losses(loss_ce=lambda i: 0.4 if i < 6000 else 0.5)) == []
    # Twice as much, but of next to nothing.
    assert fired(losses(loss_ce=lambda i: 0.02 if i < 6000 else 0.04)) == []


def test_loss_oscillating() -> None:
    assert fired(losses(loss_ce=lambda i: 0.4 if i % 200 else 0.6)) == [("loss oscillating", 1000)]
    assert fired(losses(loss_ce=lambda i: 0.45 if i % 200 else 0.55)) == []
    assert fired(losses(loss_ce=lambda i: 0.02 if i % 200 else 0.04)) == []
    assert fired(losses(loss_ce=lambda i: 0.3 + 2 * math.exp(-i / 200))) == []  # a steep fall


def test_a_class_that_is_never_predicted() -> None:
    def road(iteration: int) -> float:
        return 0.0 if iteration < 6000 else 0.2

    log = evaluations(**{"iou Water": 0.8, "iou Road": road})
    assert fired(log) == [("never predicted: Road", 4000)]  # a third of the run is at 3,333
    assert fired(evaluations(**{"iou Water": 0.8, "iou Road": ""})) == []  # absent


def test_validation_too_good_to_be_true() -> None:
    assert fired(evaluations(train_miou=0.4, val_miou=lambda i: 0.6 + i / 50_000)) == [
        ("validation too good", 4500)
    ]
    assert fired(evaluations(train_miou=lambda i: 0.35 + i / 50_000)) == []


def test_waiting_for_data() -> None:
    slow = [{"iteration": i, "loading_share": 0.3} for i in (100, 200, 300)]
    found = advice_on([], slow)
    assert [(a.rule, a.iteration) for a in found] == [("waiting for data", 300)]
    assert found[0].text.startswith("30% of the time ")
    assert "--num-workers" in found[0].text
    slow[1]["loading_share"] = 0.1
    assert fired([], slow) == []


def test_waiting_for_saves() -> None:
    rows = [{"iteration": i, "loading_share": 0, "saving_share": 0.25} for i in (100, 200, 300)]
    found = advice_on([], rows)
    assert [(a.rule, a.iteration) for a in found] == [("waiting for saves", 300)]
    assert "25% of the time " in found[0].text and "--save-latest-every" in found[0].text
    # A run of an earlier version goes on: its first rows do not say.
    assert fired([], [{"iteration": 50, "loading_share": 0}, *rows]) == [("waiting for saves", 300)]
    rows[1]["saving_share"] = 0.1
    assert fired([], rows) == []


def test_validation_flat_for_a_fifth_of_the_run() -> None:
    log = evaluations(val_miou=lambda i: min(0.4 + i / 50_000, 0.5))
    assert fired(log) == [("validation flat", 7000)]
    assert (
        "added 0.0000 to the validation mIoU 0.5000 of iteration 5000. " in advice_on(log)[0].text
    )
    # Flat before self-training is fully there: no matter.
    assert fired(evaluations(val_miou=lambda i: 0.4 + max(0, i - 3000) / 50_000)) == []


def test_a_rule_is_said_once_an_onset() -> None:
    def again(iteration: int) -> float:
        return 0.3 if 1000 <= iteration < 2000 or iteration >= 6000 else 0.1

    def flickering(iteration: int) -> float:
        return 0.1 if iteration % 500 == 0 else 0.3

    def timing(share: Any) -> list[dict[str, Any]]:
        return [{"iteration": i, "loading_share": share(i)} for i in ITERATIONS]

    assert fired([], timing(again)) == [("waiting for data", 1200), ("waiting for data", 6200)]
    assert fired([], timing(flickering)) == [("waiting for data", 300)]


def test_advice_is_in_order_and_never_taken_back() -> None:
    log = [
        *losses(st_count=0.0, loss_d=lambda i: 0.001 if i > 5000 else 0.3),
        *evaluations(train_miou=0.25, val_miou=0.2),
    ]
    log.sort(key=lambda row: row["iteration"])
    whole = advice_on(log)
    assert len(whole) >= 4
    assert [a.iteration for a in whole] == sorted(a.iteration for a in whole)
    for end in EVALUATED:
        part = advice_on([row for row in log if row["iteration"] <= end])
        assert part == [advice for advice in whole if advice.iteration <= end]


def test_text_rows_count_as_numbers_do() -> None:
    numbers = losses(st_count=0.0)
    texts = [{name: f"{value}" for name, value in row.items()} for row in numbers]
    assert advice_on(texts) == advice_on(numbers) != []
