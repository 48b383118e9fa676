import re
from pathlib import Path
from typing import Any

import pytest
import torch

from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, TrainingStream
from salakseg.errors import WorkError
from salakseg.training import loop, probes
from salakseg.training.checkpoint import read_checkpoint
from salakseg.training.step import is_finite
from salakseg.training.trust import Probe
from tests.training.test_loop import small_run

LATEST = Path("checkpoints/latest_checkpoint.pth")


def spoil_at(
    monkeypatch: pytest.MonkeyPatch, iteration: int, times: int = 100
) -> list[tuple[int, float]]:
    """Let G's weights be NaN after `iteration`; gives the iterations done and a sum of weights."""
    original = loop.Step.__call__
    done: list[tuple[int, float]] = []
    spoilt = 0

    def step(self: loop.Step, number: int, *batches: Any) -> None:
        nonlocal spoilt
        original(self, number, *batches)
        done.append((number, sum(p.double().sum().item() for p in self.generator.parameters())))
        if number == iteration and spoilt < times:
            spoilt += 1
            with torch.no_grad():
                next(self.generator.parameters()).fill_(torch.nan)

    monkeypatch.setattr(loop.Step, "__call__", step)
    return done


def test_a_learning_rate_that_overflows(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = loop.Step.__call__
    spoilt: list[int] = []

    def step(self: loop.Step, iteration: int, *batches: Any) -> None:
        original(self, iteration, *batches)
        if not is_finite(self):
            spoilt.append(iteration)

    monkeypatch.setattr(loop.Step, "__call__", step)
    with pytest.raises(WorkError) as error:
        small_run(shards_dir, learning_rate=1e30, save_latest_every=6)
    first = spoilt[0]
    assert spoilt[-2:] == [4, first]  # seen before a save, and found once more by the replay
    assert str(error.value).startswith(
        "iteration 4: the losses are no numbers any more; it began at iteration "
        f"{first}, on the labelled patches tile"
    )
    assert "--learning-rate" in str(error.value) and "\n" not in str(error.value)
    assert "Replaying iterations 1 to 4" in capsys.readouterr().out
    assert read_checkpoint(LATEST)["iteration"] == 0


def test_the_iteration_and_its_patches_are_named_and_nothing_is_written(
    shards_dir: Path, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = spoil_at(monkeypatch, 5)
    original, files = loop.where_it_began, []

    def noted(*arguments: Any) -> str:
        files.append({path: path.read_bytes() for path in Path("checkpoints").iterdir()})
        return original(*arguments)

    monkeypatch.setattr(loop, "where_it_began", noted)
    # Who judges images changes at the evaluation in between.
    monkeypatch.setattr(probes, "PROBE_SHARE", 0.25)
    monkeypatch.setattr(loop.Step, "probe", lambda *_: Probe(0.9, 0.1))
    with pytest.raises(WorkError) as error:
        small_run(shards_dir, save_latest_every=3, save_pred_every=100, seed=3)
    assert files[0] == {path: path.read_bytes() for path in Path("checkpoints").iterdir()}
    assert read_checkpoint(LATEST)["iteration"] == 3
    # The replay did what the run had done, to the bit, and stopped where it was spoilt.
    assert [number for number, _ in done] == [1, 2, 3, 4, 5, 6, 4, 5]
    assert done[6:] == done[3:5]

    held, _ = probes.probe_rows(shards, 3)
    stream = TrainingStream(shards, 2, seed=3, unlabeled_batch_size=2, left_out=held)
    batches = [batch for _, batch in zip(range(5), stream, strict=False)]
    labeled, unlabeled = batches[4]
    assert (
        f"it began at iteration 5, on the labelled patches {keys(shards, 'train', labeled)} and "
        f"the unlabelled ones {keys(shards, 'unlabeled', unlabeled)}; the checkpoints in "
        "checkpoints are from before"
    ) in str(error.value)


def keys(shards: Shards, split: str, batch: Batch | None) -> str:
    assert batch is not None
    return ", ".join(dict.fromkeys(shards.split(split).key.iloc[batch.entries.tolist()]))


def test_a_large_batch_is_not_listed_in_full(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_at(monkeypatch, 1)
    with pytest.raises(WorkError) as error:
        small_run(shards_dir, num_steps=1, batch_size=6, method="supervised")
    found = re.search(r"labelled patches (.*?) \(\+ (\d) more\); ", str(error.value))
    assert found is not None and len(found[1].split(", ")) == 4 and int(found[2]) <= 2
    assert "unlabelled" not in str(error.value)


def test_what_does_not_happen_again_is_said_so(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_at(monkeypatch, 2, times=1)
    with pytest.raises(WorkError, match="replayed from iteration 0 it does not happen again"):
        small_run(shards_dir, num_steps=2)


def test_without_a_checkpoint_the_error_is_told_all_the_same(
    shards_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Step.__call__

    def step(self: loop.Step, iteration: int, *batches: Any) -> None:
        original(self, iteration, *batches)
        self.totals += torch.nan
        LATEST.unlink()

    monkeypatch.setattr(loop.Step, "__call__", step)
    with pytest.raises(WorkError, match="where it began is not known"):
        small_run(shards_dir, num_steps=1)
