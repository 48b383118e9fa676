import traceback
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, Patches, TrainingStream
from salakseg.model import upsample
from salakseg.model.generator import Generator, create_generator
from salakseg.training import step as step_module
from salakseg.training.options import LEFT_OUT, Part, Recipe
from salakseg.training.rates import teacher_decay
from salakseg.training.step import LOSS_NAMES, Step

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


def test_the_generators_losses_leave_the_discriminator_alone(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step()
    assert step.discriminator is not None
    monkeypatch.setattr(step_module, "DISCRIMINATOR_RATE", 0.0)
    before = {key: value.clone() for key, value in step.discriminator.state_dict().items()}
    run(step, shards, 2)
    assert all(torch.equal(before[k], v) for k, v in step.discriminator.state_dict().items())


def test_the_discriminator_learns_nothing_of_unlabelled_images(shards: Shards) -> None:
    # It would know them by heart: those that never have a drawn map.
    labeled, unlabeled = next(iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)))
    assert unlabeled is not None
    other = replace(unlabeled, images=255 - unlabeled.images)
    gradients, losses = [], []
    for batch in (unlabeled, other):
        step = make_step()
        step.generator.eval()  # in training its statistics are of all images
        step(1, labeled, batch)
        assert step.discriminator is not None
        gradients.append([p.grad for p in step.discriminator.parameters()])
        losses.append(dict(zip(LOSS_NAMES, step.totals.tolist(), strict=False)))
    # Nor does feature matching compare these images with others.
    assert losses[0]["loss_fm"] == losses[1]["loss_fm"] > 0
    assert losses[0]["loss_st"] != losses[1]["loss_st"]
    for a, b in zip(*gradients, strict=True):
        assert a is not None and torch.equal(a, b) and a.any()


def test_feature_matching_does_not_outgrow_cross_entropy(shards: Shards) -> None:
    step = make_step()
    assert step.discriminator is not None
    with torch.no_grad():  # what a long run does to D's features
        step.discriminator.convolutions[-1].weight.mul_(1000)
    losses = run(step, shards, 2)
    assert losses["loss_fm"] == pytest.approx(losses["loss_ce"])


def test_the_discriminator_follows_the_generators_schedule(shards: Shards) -> None:
    for method in ("s4gan", "s4gan-paper"):
        step = make_step(method)
        rates = []
        stream = iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2))
        for iteration in (1, 5, STEPS):
            step(iteration, *next(stream))
            (g,), (d,) = step.optimizer.param_groups, step.optimizer_D.param_groups
            assert d["lr"] / g["lr"] == pytest.approx(2e-4 / 1e-3)
            rates.append(d["lr"])
        assert rates[-1] < 0.1 * rates[0]


@pytest.mark.parametrize(("pretrained", "rates"), [(True, [1, 1 / 40]), (False, [1])])
def test_a_pretrained_encoder_learns_at_the_rate_of_its_family(
    pretrained: bool, rates: list[float]
) -> None:
    network = create_generator("unet-mobilenet_v2", 5, "none")
    network.name = "fpn-dinov3-convnext-tiny"
    recipe = make_step("supervised", pretrained=pretrained).recipe
    step = Step(network, 5, recipe, torch.device("cpu"), None)
    assert [group["rate"] for group in step.optimizer.param_groups] == rates


def partly(batch: Batch, valid: torch.Tensor, fill: int) -> Batch:
    """The batch, all of it `fill` where it is not valid."""
    images = batch.images.masked_fill(~valid[:, None], fill)
    masks = None if batch.masks is None else batch.masks.masked_fill(~valid, 255)
    return replace(batch, images=images, masks=masks, valid=valid)


@pytest.mark.parametrize("method", ["s4gan", "s4gan-paper"])
def test_what_is_no_ground_teaches_nothing(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    step = make_step(method, threshold_st=0.0)  # every image is accepted
    seen: dict[str, Any] = {}

    def watch(logits: torch.Tensor, labels: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
        seen.update(labels=labels, trust=trust)
        return step_module.cross_entropy_loss(logits, labels, trust)

    monkeypatch.setattr(step_module, "self_training_loss", watch)
    labeled, unlabeled = next(iter(TrainingStream(shards, 4, seed=0, unlabeled_batch_size=4)))
    assert unlabeled is not None
    valid = torch.zeros_like(unlabeled.valid)
    valid[:2, 8:50, 8:40] = True  # the others are empty
    step(STEPS, partly(labeled, valid, 0), partly(unlabeled, valid, 255))
    taught = (seen["labels"] != 255) & (seen["trust"] > 0)
    # 8 % of two of four patches, at most half as wide and as high again in a view that is zoomed
    # in; rectangles of labelled patches bring their own.
    assert 0 < taught.float().mean() < 0.2
    assert (seen["trust"] <= 1).all()
    if method == "s4gan":
        share = step.pixel_trust.histogram.sum() / unlabeled.valid.numel()
        assert 0.5 * 0.08 / 2 < share < 0.2
    assert int(step.last_st_count) <= 2
    sums = dict(zip(LOSS_NAMES, step.totals.tolist(), strict=False))
    assert all(np.isfinite(value) for value in sums.values()), sums
    assert 0 < sums["st_pixels"] <= 1


def test_without_any_ground_an_iteration_is_harmless(shards: Shards) -> None:
    for method in ("s4gan", "s4gan-paper", "supervised"):
        step = make_step(method)
        labeled, unlabeled = next(iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)))
        assert unlabeled is not None
        nowhere = torch.zeros_like(labeled.valid)
        step(STEPS, partly(labeled, nowhere, 0), partly(unlabeled, nowhere, 0))
        assert step.totals.isfinite().all() and int(step.last_st_count) == 0
        assert all(p.isfinite().all() for p in step.generator.parameters())


class Copies(TorchDispatchMode):
    """Copies from host to device that the host waits for, by where they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []
        self.in_passing = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            made = func is torch.ops.aten._to_copy.default
            source, target = (args[0], result) if made else (args[1], args[0])
            if source.device.type == "cpu" and target.device.type == "cuda":
                non_blocking = (kwargs or {}).get("non_blocking", args[2:3] == (True,))
                # From memory that is not pinned, it waits all the same.
                if non_blocking and getattr(source, "is_said_to_be_pinned", False):
                    self.in_passing += 1
                else:
                    self.waited.append(str(traceback.extract_stack(limit=12)))
        return result


def on_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let modules move, and memory be pinned, under FakeTensorMode."""

    def to(module: nn.Module, *args: Any, memory_format: Any = None) -> nn.Module:
        for part in module.modules() if args else ():
            for name, parameter in part.named_parameters(recurse=False):
                setattr(part, name, nn.Parameter(parameter.detach().to(*args)))
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, buffer.to(*args))
        return module

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        tensor.is_said_to_be_pinned = True  # type: ignore[attr-defined]
        return tensor

    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    # The backward pass asks for a real device; it is torch's own.
    monkeypatch.setattr(Step, "_descend", lambda *_: None)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("method", ["s4gan", "s4gan-paper", "supervised"])
def test_the_host_never_waits_for_the_gpu(
    shards: Shards, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    recipe = make_step(method).recipe
    on_a_gpu_that_is_not_there(monkeypatch)
    labeled, unlabeled = next(iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)))
    assert unlabeled is not None
    network = create_generator("tiny", 5, "none")
    upsample._weights.cache_clear()
    try:
        # A look at a number, or at how many there are, is an error in this mode.
        with FakeTensorMode(allow_non_fake_inputs=True):
            step = Step(network, 5, recipe, torch.device("cuda"), None)
            batches = [labeled.pin_memory(), unlabeled.pin_memory()]
            with Copies() as copies:
                step(STEPS, batches[0], None if method == "supervised" else batches[1])
    finally:
        upsample._weights.cache_clear()
    assert not copies.waited, copies.waited
    assert copies.in_passing >= 3  # images, masks, valid


def test_the_running_means_tensors_are_listed_once(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step("supervised")
    before = {key: value.clone() for key, value in step.teacher.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "state_dict", None)
        run(step, shards, 1)
    decay = teacher_decay(1, STEPS)
    student, teacher = step.generator.state_dict(), step.teacher.state_dict()
    for key, value in teacher.items():
        if value.is_floating_point():
            expected = decay * before[key] + (1 - decay) * student[key]
            assert torch.allclose(value, expected, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(value, student[key])


def test_a_network_without_counters_has_a_running_mean_too(shards: Shards) -> None:
    # Without batch normalisation there is nothing but numbers.
    network = Generator("plain", nn.Conv2d(3, 5, 3, padding=1))
    before = network.network.weight.detach().clone()
    step = Step(network, 5, make_step("supervised").recipe, torch.device("cpu"), None)
    run(step, shards, 1)
    decay = teacher_decay(1, STEPS)
    expected = decay * before + (1 - decay) * step.generator.network.weight
    assert torch.allclose(step.teacher.network.weight, expected, atol=1e-6)


def test_where_it_was_decided_so_the_labelled_images_alone_teach(shards: Shards) -> None:
    decided, supervised = make_step(), make_step("supervised")
    decided.self_trains = False
    run(decided, shards, 4)
    run(supervised, shards, 4)
    assert torch.equal(decided.totals, supervised.totals)
    assert make_step().is_supervised is False
    later = make_step(self_training_begins=0.0)
    run(later, shards, 4)
    assert later.last_st_count > 0
    later.self_trains = False
    later.totals.zero_()
    run(later, shards, 1)
    assert later.last_st_count == 0


# Likeness is asked about once, by `Run`.
@pytest.mark.parametrize("part", [part for part in Part if part != Part.LIKENESS])
def test_each_part_of_the_recipe_can_be_left_out(shards: Shards, part: Part) -> None:
    whole, ablated = make_step(), make_step(**LEFT_OUT[part])
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


def test_a_probe_leaves_out_what_is_no_ground_and_patches_without_a_class(shards: Shards) -> None:
    step = make_step()
    run(step, shards, 3)
    batch = Patches(shards, {"train": "train"}).read("train", np.arange(12))
    assert batch.masks is not None
    expected = step.probe([batch])
    no_class = torch.full_like(batch.masks, 255)
    beside = replace(batch, masks=no_class)
    assert step.probe([batch, beside]) == expected
    half = batch.valid.clone()
    half[:, 70:] = False
    padded = [partly(batch, half, fill) for fill in (0, 255)]
    confidences = [step.probe([one]).confidence for one in padded]
    assert all(np.isfinite(one) for one in confidences)


@pytest.mark.parametrize("method", ["s4gan", "s4gan-paper", "supervised"])
def test_micro_batches_give_the_gradients_of_the_whole_batch(
    shards: Shards, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    semi = 0 if method == "supervised" else 4
    batches = next(iter(TrainingStream(shards, 4, seed=0, unlabeled_batch_size=semi)))
    gradients, widest = [], []
    for micro_batch in (None, 3):
        step = make_step(method, micro_batch=micro_batch)
        # What a batch's own statistics do, a part of it cannot.
        step.generator.eval()
        if step.discriminator is not None:
            step.discriminator.eval()
        seen: list[int] = []
        step.generator.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(len(x[0])))  # type: ignore[misc]
        step(STEPS, *batches)
        widest.append(max(seen))
        gradients.append([p.grad for p in step.generator.parameters()])
    assert widest[1] == 3 * widest[0] // 4
    for whole, parts in zip(*gradients, strict=True):
        assert whole is not None and parts is not None
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def test_micro_batches_count_running_statistics_once_and_drop_the_same_twice(
    shards: Shards,
) -> None:
    step = make_step("supervised", micro_batch=1)
    drop = nn.Dropout(0.5)
    dropped: list[torch.Tensor] = []
    drop.register_forward_hook(lambda _, x, y: dropped.append((y == 0).detach()))
    step.generator.network = nn.Sequential(drop, step.generator.network)
    step(1, *next(iter(TrainingStream(shards, 2, seed=0))))
    first, second, *again = dropped
    assert not torch.equal(first, second)
    assert {int(torch.equal(first, one)) for one in again} == {0, 1}
    assert all(torch.equal(first, one) or torch.equal(second, one) for one in again)
    (counts,) = {int(v) for k, v in step.generator.state_dict().items() if "num_batches" in k}
    assert counts == 2
