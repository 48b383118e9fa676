import numpy as np
import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.data.stream import Patches, TrainingStream
from salakseg.model.generator import create_generator
from salakseg.training.step import (
    LOSS_NAMES,
    Part,
    Recipe,
    Step,
    learning_rate_factor,
    self_training_ramp,
    teacher_decay,
)

STEPS = 20


def make_step(method: str = "s4gan", dtype: torch.dtype | None = None, **changes: object) -> Step:
    torch.manual_seed(0)
    recipe = {
        "method": method,
        "num_steps": STEPS,
        "learning_rate": 1e-3,
        "threshold_st": None,
        "lambda_st": 1.0,
        "lambda_fm": 0.1,
        "seed": 0,
        "pretrained": False,
    } | changes
    network = create_generator("tiny", 5, "none")
    return Step(network, 5, Recipe(**recipe), torch.device("cpu"), dtype)  # type: ignore[arg-type]


def run(step: Step, shards: Shards, count: int) -> dict[str, float]:
    semi = 2 if step.discriminator is not None else 0
    stream = iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=semi))
    for iteration in range(1, count + 1):
        step(iteration, *next(stream))
    *sums, steps = step.totals.tolist()
    assert steps == count
    return {name: value / count for name, value in zip(LOSS_NAMES, sums, strict=True)}


def test_all_parts_of_an_iteration_are_there(shards: Shards) -> None:
    step = make_step()
    student = {k: v.clone() for k, v in step.generator.state_dict().items()}
    teacher = {k: v.clone() for k, v in step.teacher.state_dict().items()}
    judge = {k: v.clone() for k, v in step.discriminator.state_dict().items()}  # type: ignore[union-attr]
    losses = run(step, shards, 8)
    assert all(np.isfinite(value) and value > 0 for value in losses.values()), losses
    for before, after in (
        (student, step.generator.state_dict()),
        (teacher, step.teacher.state_dict()),
        (judge, step.discriminator.state_dict()),  # type: ignore[union-attr]
    ):
        assert any(not torch.equal(before[key], after[key]) for key in before)
    assert step.train_confusion.sum() > 0


def test_the_supervised_method_is_the_labelled_part_alone(shards: Shards) -> None:
    step = make_step("supervised")
    losses = run(step, shards, 4)
    assert losses["loss_ce"] > 0
    assert all(losses[name] == 0 for name in LOSS_NAMES if name != "loss_ce")


def test_with_both_weights_at_zero_the_unlabelled_batch_changes_nothing_but_batch_norm(
    shards: Shards,
) -> None:
    # The gradient of G then comes from the labelled images alone.
    step = make_step(lambda_st=0.0, lambda_fm=0.0)
    labeled, unlabeled = next(iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)))
    step.generator.eval()  # fixed batch-norm statistics
    step(1, labeled, unlabeled)
    other = make_step("supervised")
    other.generator.eval()
    other(1, labeled, None)
    # Not the weights: AdamW's first step makes whole steps of gradients that are next to nothing.
    for a, b in zip(step.generator.parameters(), other.generator.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6 * float(b.grad.abs().max()))


def test_the_generators_losses_leave_the_discriminator_alone(shards: Shards) -> None:
    step = make_step()
    assert step.discriminator is not None
    step.optimizer_D.param_groups[0]["lr"] = 0.0
    before = {key: value.clone() for key, value in step.discriminator.state_dict().items()}
    run(step, shards, 2)
    assert all(torch.equal(before[k], v) for k, v in step.discriminator.state_dict().items())


@pytest.mark.parametrize("part", list(Part))
def test_each_part_of_the_recipe_can_be_left_out(shards: Shards, part: Part) -> None:
    whole, ablated = make_step(), make_step(without=frozenset({part}))
    run(whole, shards, 8)
    losses = run(ablated, shards, 8)
    assert all(np.isfinite(value) for value in losses.values())
    weights = zip(whole.generator.parameters(), ablated.generator.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize(("bias", "share"), [(100.0, 1.0), (-100.0, 0.0)])
def test_in_the_papers_method_the_discriminator_alone_decides(
    shards: Shards, bias: float, share: float
) -> None:
    step = make_step("s4gan-paper", threshold_st=0.6)
    assert step.discriminator is not None
    torch.nn.init.constant_(step.discriminator.score.bias, bias)
    losses = run(step, shards, 2)
    assert losses["st_count"] == 2 * share
    assert losses["st_pixels"] == share
    assert (losses["loss_st"] > 0) == (share > 0)
    assert losses["loss_fm"] > 0
    assert losses["loss_d"] > 0


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_same_seed_gives_the_same_bits_and_a_state_goes_on_with_them(
    shards: Shards, dtype: torch.dtype | None
) -> None:
    whole, parted = make_step(dtype=dtype), make_step(dtype=dtype)
    stream = TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)
    batches = [batch for batch, _ in zip(stream, range(8), strict=False)]
    for iteration, batch in enumerate(batches, start=1):
        whole(iteration, *batch)
    for iteration, batch in enumerate(batches[:5], start=1):
        parted(iteration, *batch)
    resumed = make_step(dtype=dtype)
    resumed.load_state_dict(parted.state_dict())
    torch.manual_seed(999)  # whatever state the program is in
    for iteration, batch in enumerate(batches[5:], start=6):
        resumed(iteration, *batch)
    for name in ("generator", "teacher", "discriminator"):
        a, b = getattr(whole, name).state_dict(), getattr(resumed, name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert torch.equal(whole.totals, resumed.totals)
    assert torch.equal(whole.pixel_trust.histogram, resumed.pixel_trust.histogram)


def test_a_few_steps_learn_the_labels(shards: Shards) -> None:
    step = make_step(num_steps=30)
    stream = iter(TrainingStream(shards, 4, seed=0, unlabeled_batch_size=4))
    losses = []
    for iteration in range(1, 31):
        step(iteration, *next(stream))
        losses.append(float(step.totals[0]))
    first, last = losses[4] / 5, (losses[-1] - losses[-6]) / 5
    assert last < 0.75 * first


def test_a_probe_ranks_confidence_and_discriminator(shards: Shards) -> None:
    step = make_step()
    run(step, shards, 3)
    batch = Patches(shards, {"train": "train"}).read("train", np.arange(12))
    probe = step.probe([batch])
    assert -1 <= probe.confidence <= 1
    assert -1 <= probe.discriminator <= 1


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
