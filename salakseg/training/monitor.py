"""How a run is going: the console line, the evaluation block, log.csv and timing.csv.

`log.csv` has reproducible columns only: the same run gives the same file, interrupted or not; clock
times go to `timing.csv`.
"""

import csv
from pathlib import Path
from typing import Any

from rich.table import Table

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.metrics import Scores
from salakseg.training.trust import Probe

LOG_COLUMNS = (
    "iteration",
    "loss_ce",
    "loss_fm",
    "loss_st",
    "loss_d",
    "st_count",
    "st_pixels",
    "learning_rate",
    "train_miou",
    "val_miou",
    "rank_correlation_d",
    "rank_correlation_confidence",
    "judge",
)
TIMING_COLUMNS = ("iteration", "seconds", "iterations_per_second", "loading_share")
RULE = "=" * 60


class CsvLog:
    """Appends rows to a CSV file; rows of iterations that a resumed run does again are cut off."""

    def __init__(self, path: Path, columns: tuple[str, ...], iteration: int) -> None:
        self.path, self.columns = path, columns
        kept = []
        if iteration and path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                kept = [r for r in csv.DictReader(file) if int(r["iteration"] or 0) <= iteration]
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; columns that it lacks stay empty."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def iteration_line(iteration: int, num_steps: int, row: dict[str, Any], st_count: int) -> str:
    """The console line of an iteration; losses are means since the line before."""
    return (
        f"Iter {iteration}/{num_steps} | Loss_CE: {row['loss_ce']:.3f} | "
        f"Loss_FM: {row['loss_fm']:.3f} | Loss_ST: {row['loss_st']:.3f} | "
        f"Loss_D: {row['loss_d']:.3f} | ST_Count: {st_count}"
    )


def evaluation_head(iteration: int) -> str:
    """The lines above an evaluation."""
    return f"{RULE}\nEvaluating at iteration {iteration}\n{RULE}"


def print_evaluation(
    mapping: ClassMapping,
    train: Scores,
    val: Scores | None,
    probe: Probe | None,
    judge: str,
    best: tuple[float, int],
    is_best: bool,
) -> None:
    """The evaluation block: training and validation mIoU, IoU per class, who judges images."""
    console.print(
        f"Training mIoU: {train.miou:.4f}   (running, over the training batches since the last "
        "evaluation)"
    )
    if val is None:
        console.print("Validation mIoU: none, there are no validation patches")
        return
    console.print(f"Validation mIoU: {val.miou:.4f}   (per class below)")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, iou, support in zip(mapping.names, val.iou, val.support, strict=True):
        table.add_row(f"  {name}", f"{iou:.4f}" if support else "absent")
    console.print(table)
    if probe is not None:
        console.print(
            f"Image trust: by {judge} (rank correlation with accuracy on held-out labelled "
            f"patches: discriminator {probe.discriminator:.2f}, confidence {probe.confidence:.2f})"
        )
    if is_best:
        console.print("✓ New best validation mIoU")
    else:
        console.print(f"Best validation mIoU: {best[0]:.4f} at iteration {best[1]}")
