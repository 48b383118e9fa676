from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.data.stream import TrainingStream
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.training.options import LEFT_OUT, Options, Part, recipe_of
from salakseg.training.run import Run
from salakseg.training.step import NotFinite, Step

CPU = torch.device("cpu")


@pytest.fixture
def run(shards: Shards, tmp_path: Path) -> Run:
    """A run of `tiny` that has done two iterations."""
    torch.manual_seed(0)
    options = Options(generator="tiny", encoder_weights="none", num_steps=4, batch_size=2)
    classes = shards.mapping.num_classes
    network = create_generator("tiny", classes, "none")
    step = Step(network, classes, recipe_of(options, True), CPU, None)
    stream = TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2)
    run = Run(options, shards, tmp_path, step, stream, 0, {"device": "cpu"})
    for _, batches in zip(range(2), stream, strict=False):
        run.iteration += 1
        step(run.iteration, *batches)
    return run


def test_losses_are_means_since_they_were_last_taken(run: Run) -> None:
    total = run.step.totals.clone()
    row = run.take_losses()
    assert row["iteration"] == 2
    assert row["loss_ce"] == pytest.approx(total[0].item() / 2)
    assert not run.step.totals.any()


def test_weights_that_are_no_numbers_end_it(run: Run) -> None:
    run.require_numbers()
    next(run.step.generator.parameters()).data.fill_(torch.inf)
    with pytest.raises(NotFinite, match="iteration 2: the losses are no numbers any more"):
        run.require_numbers()


def test_an_evaluation_describes_the_best_model_and_breaks_off_where_it_is_asked(run: Run) -> None:
    asked: list[int] = []
    row, best = run.evaluate(asked.append)
    assert best is not None and best.applicability is not None
    assert run.best_iteration == 2 and row["val_miou"] == run.best_val_miou
    assert sum(asked) >= len(run.shards.split("val"))
    assert run.val_confusions is not None and run.val_confusion is not None
    assert np.array_equal(run.val_confusions.sum(0), run.val_confusion)
    _, again = run.evaluate(lambda _: None)
    assert again is None  # no better than itself

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.evaluate(stop)


def test_which_share_of_the_unlabelled_patches_is_like_no_labelled_one(run: Run) -> None:
    model = run.described_model()
    share = run.share_unlike(model)
    assert share is not None and 0 <= share <= 1
    assert model.applicability is not None
    nearer = replace(model.applicability, limit=1e-6)
    assert run.share_unlike(replace(model, applicability=nearer)) == 1
    assert run.share_unlike(replace(model, applicability=None)) is None
    del run.stream.positions["unlabeled"]  # as of a supervised run
    assert run.share_unlike(model) is None


@pytest.mark.parametrize(
    ("share", "teach", "said"),
    [
        (0.51, False, "51% of the unlabelled patches look like nothing that is labelled: no unl"),
        (0.5, True, "50% of the unlabelled patches look like nothing that is labelled: self"),
        (None, True, "3: whether unlabelled patches look like labelled ones cannot be told: self"),
    ],
)
def test_photographs_like_nothing_that_is_labelled_do_not_teach(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    share: float | None,
    teach: bool,
    said: str,
) -> None:
    asked = []
    monkeypatch.setattr(run, "share_unlike", lambda *_: asked.append(1) or share)
    run.step.recipe = replace(run.step.recipe, self_training_begins=0.5, self_training_full=1.0)
    run.decide_on_self_training(2)
    assert run.step.self_trains is None and not asked  # not due yet
    for iteration in (3, 4):
        run.decide_on_self_training(iteration)
    assert len(asked) == 1
    assert run.step.self_trains is teach and run.step.is_supervised is not teach
    assert said in capsys.readouterr().out
    assert (run.choose_judge() is None) or teach
    content = run.checkpoint()
    run.step.self_trains = None
    run.go_on_from(content)
    assert run.step.self_trains is teach
    # By --resume --without likeness, from then on.
    run.step.recipe = replace(run.step.recipe, **LEFT_OUT[Part.LIKENESS])
    run.go_on_from(content)
    run.decide_on_self_training(4)
    assert run.step.self_trains is True


@pytest.mark.parametrize(
    "change", [{"method": "s4gan-paper"}, {"lambda_st": 0.0}, LEFT_OUT[Part.LIKENESS]]
)
def test_where_nobody_asks_they_all_teach(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr(run, "share_unlike", lambda *_: 1.0)
    run.step.recipe = replace(run.step.recipe, **change)
    run.decide_on_self_training(4)
    assert not run.step.is_supervised


def test_what_breaks_the_question_off_leaves_it_open(run: Run) -> None:
    asked: list[int] = []

    def impatient(count: int) -> None:
        asked.append(count)
        if sum(asked) > len(run.shards.split("train")):  # among the unlabelled ones
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.decide_on_self_training(4, impatient)
    assert run.step.self_trains is None


def test_what_is_laid_down_is_taken_up(run: Run, shards: Shards) -> None:
    content = run.checkpoint()
    assert content["iteration"] == 2 and content["positions"] == {"labeled": 4, "unlabeled": 4}
    run.iteration = 0
    run.go_on_from(content)
    assert run.iteration == 2
    with pytest.raises(InputError, match="the checkpoint does not fit this run"):
        run.go_on_from({key: value for key, value in content.items() if key != "model_state"})
