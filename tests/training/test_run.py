from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.data.stream import TrainingStream
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.training.options import Options, recipe_of
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


def test_what_is_laid_down_is_taken_up(run: Run, shards: Shards) -> None:
    content = run.checkpoint()
    assert content["iteration"] == 2 and content["positions"] == {"labeled": 4, "unlabeled": 4}
    run.iteration = 0
    run.go_on_from(content)
    assert run.iteration == 2
    with pytest.raises(InputError, match="the checkpoint does not fit this run"):
        run.go_on_from({key: value for key, value in content.items() if key != "model_state"})
