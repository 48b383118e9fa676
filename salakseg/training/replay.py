"""Which iteration, on which patches, spoiled a run: the way there once more, each step checked.

The loop looks at losses and weights only where it waits for the device anyway, at log lines and
saves, so it learns of NaN up to that many iterations late. As all that an iteration does is a pure
function of the checkpoint before it, doing them again from there finds the first bad one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from salakseg.console import console, progress
from salakseg.data.stream import TrainingStream
from salakseg.distributed import from_first, gathered
from salakseg.errors import InputError
from salakseg.training.checkpoint import newest_checkpoint
from salakseg.training.run import Run
from salakseg.training.step import is_finite

MOST_NAMED = 4


def where_it_began(run: Run, stream_from: Callable[[dict[str, int]], TrainingStream]) -> str:
    """Replay `run` from its newest checkpoint to find the first iteration that spoiled it.

    Writes no file; `run` cannot be gone on with afterwards.

    Args:
        run: as `NotFinite` left it.
        stream_from: the run's stream from given positions on.

    Returns:
        Half a sentence for the error: the iteration and its patches, or why they are not known.
    """
    last = run.iteration
    newest = from_first(lambda: _newest(run.folder))
    if newest is None:
        return "where it began is not known, as no checkpoint is whole to replay it from"
    path, checkpoint = newest
    run.go_on_from(checkpoint)
    first = run.iteration
    console.print(
        f"The losses are no numbers any more. Replaying iterations {first + 1} to {last} from "
        f"{path}, to see where that began …"
    )
    if run.evaluation_due:
        run.choose_judge()
    iterations = range(first + 1, last + 1)
    batches = stream_from(checkpoint["positions"])
    with progress("Replaying", len(iterations)) as bar:
        for iteration, (labeled, unlabeled) in zip(iterations, batches, strict=False):
            run.decide_on_self_training(iteration)
            run.step(iteration, labeled, unlabeled)
            if not is_finite(run.step):
                found = f"it began at iteration {iteration}, on the labelled patches "
                found += _names(run, "train", gathered(labeled.entries))
                if unlabeled is not None:
                    found += " and the unlabelled ones "
                    found += _names(run, "unlabeled", gathered(unlabeled.entries))
                return found
            if iteration % run.options.eval_every == 0:
                run.choose_judge()
            bar.advance()
    return (
        f"replayed from iteration {first} it does not happen again, so it is no matter of the "
        "patches (a run that is not deterministic, or a fault of the machine)"
    )


def _newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    try:
        return newest_checkpoint(folder)[:2]
    except InputError:
        return None


def _names(run: Run, split: str, entries: torch.Tensor) -> str:
    names = run.shards.split(split).key.iloc[entries.tolist()].drop_duplicates().tolist()
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" (+ {more} more)" if more > 0 else "")
