"""The command that says how a run is going, or went: its log and options in, advice out."""

import json
from pathlib import Path
from typing import Any

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.training.advice import UNLIKE_LABELLED, Advice, advice_on
from salakseg.training.checkpoint import newest_checkpoint
from salakseg.training.run_log import IOU_COLUMN, read_log

OPTIONS = ("num_steps", "lambda_st", "threshold_st", "batch_size")


def doctor(checkpoint_dir: Path | str = Path("checkpoints")) -> list[Advice]:
    """Say how the run in `checkpoint_dir` is going, or went.

    Args:
        checkpoint_dir: where `train` writes.

    Returns:
        What was printed, see `advice_on`.

    Raises:
        InputError: no log there, or nothing that tells the run's options.
    """
    folder = Path(checkpoint_dir)
    log, timing = read_log(folder)
    last = int(log[-1]["iteration"]) if log else 0
    options, said = _of_run(folder, last)
    columns = log[0] if log else {}
    names = [n.removeprefix(IOU_COLUMN) for n in columns if n.startswith(IOU_COLUMN)]
    advice = advice_on(log, timing, **options, class_names=names) + said
    for item in advice:
        console.print(f"Iteration {item.iteration}: {item.text}")
    if not advice:
        evaluations = sum(bool(row["train_miou"]) for row in log)
        console.print(
            f"{folder}: nothing is wrong with the numbers up to iteration {last} of "
            f"{options['num_steps']} (log lines: {len(log) - evaluations}, evaluations: "
            f"{evaluations})"
        )
    return advice


def _of_run(folder: Path, last: int) -> tuple[dict[str, Any], list[Advice]]:
    """`OPTIONS` of the run whose log ends at iteration `last`, and what it said at its end that is
    in no log."""
    path = folder / "run.json"
    if path.is_file():
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            # Else it is from before the run was extended.
            if run["iterations"] >= last:
                advice = [Advice(**one) for one in run.get("advice", [])]
                said = [one for one in advice if one.rule == UNLIKE_LABELLED]
                return {name: run["options"][name] for name in OPTIONS}, said
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a run.json that training wrote") from error
    try:
        _, checkpoint, _ = newest_checkpoint(folder)
    except InputError as error:
        raise InputError(
            f"{folder}: has no run.json of this log and no whole checkpoint, so the run's options "
            "are not known"
        ) from error
    return {name: checkpoint["options"][name] for name in OPTIONS}, []
