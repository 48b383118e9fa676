"""How a run is going: the console line, the evaluation block, log.csv, timing.csv and curves.png.

`log.csv` has reproducible columns only: the same run gives the same file, interrupted or not; clock
times go to `timing.csv`. It has a log row every 100 iterations and at the last, and an evaluation
row at each evaluation; the columns of the other kind are empty.

| column of log.csv | row | what it is |
|---|---|---|
| `iteration` | both | iterations done |
| `loss_ce`, `loss_fm`, `loss_st`, `loss_d` | log | mean since the log row before, without weight |
| `st_count` | log | unlabelled images accepted an iteration, mean likewise |
| `st_pixels` | log | share of the unlabelled pixels that teach, 0 to 1, mean likewise |
| `learning_rate` | log | of new layers, at this iteration |
| `train_miou` | evaluation | G on the labelled training batches since the evaluation before |
| `val_miou` | evaluation | the teacher on the validation patches |
| `rank_correlation_d`, `rank_correlation_confidence` | evaluation | see `trust.Probe` |
| `judge` | evaluation | who accepts images from now on: discriminator or confidence |
| `iou NAME`, one a class | evaluation | validation IoU; empty where the truth has none of it |

| column of timing.csv | what it is |
|---|---|
| `iteration` | iterations done |
| `seconds` | since this start of the run |
| `iterations_per_second` | since the row before, evaluations and saves included |
| `loading_share` | share of that time spent waiting for patches |
| `saving_share` | share of it spent waiting for the save before, and copying the next |
| `gpu_memory_mb` | most GPU memory that tensors have taken, in MiB; empty on a CPU |
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.errors import InputError
from salakseg.files import atomic_path
from salakseg.metrics import Scores
from salakseg.training.doctor import IOU_COLUMN, read_rows
from salakseg.training.trust import Probe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Those that every run has; see `log_columns`.
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
TIMING_COLUMNS = (
    "iteration",
    "seconds",
    "iterations_per_second",
    "loading_share",
    "saving_share",
    "gpu_memory_mb",
)
RULE = "=" * 60
# Up to so many points a curve has them marked.
MOST_MARKED = 60


def log_columns(class_names: Sequence[str]) -> tuple[str, ...]:
    """The columns of log.csv, in order."""
    return LOG_COLUMNS + tuple(IOU_COLUMN + name for name in class_names)


def iou_columns(class_names: Sequence[str], val: Scores) -> dict[str, float]:
    """The part of an evaluation row that holds each class's IoU, absent classes left out."""
    values = zip(class_names, val.iou, val.support, strict=True)
    return {IOU_COLUMN + name: float(iou) for name, iou, support in values if support}


def gpu_memory_mb(device: torch.device) -> float | None:
    """The most memory that tensors have taken on `device` so far, in MiB; None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20


class CsvLog:
    """A CSV file that a row is added to at a time; what a resumed run does again is cut off: rows
    of iterations after `iteration`, and with `evaluation_due` the evaluation row of that one.

    The rows are kept in memory and each time written anew: a spreadsheet that holds the file, or
    saves it otherwise, costs a warning at most.

    Attributes:
        rows: as csv.DictReader gives them.
    """

    def __init__(
        self, path: Path, columns: tuple[str, ...], iteration: int, evaluation_due: bool = False
    ) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        self._failed = False
        if iteration and path.exists():
            try:
                self.rows = self._rows_until(iteration, evaluation_due)
            except InputError:
                aside = path.with_name(f"{path.stem}_until_{iteration}{path.suffix}")
                os.replace(path, aside)
                console.print(f"{path}: not as it was written; kept as {aside}, a new one begins")
        self._write()

    def _rows_until(self, iteration: int, evaluation_due: bool) -> list[dict[str, str]]:
        """What stays of the file; `InputError` where a program has changed it."""
        # Earlier versions had fewer columns, never others, and could be killed in a row, which then
        # lacks its last columns.
        rows = [row for row in read_rows(self.path) if None not in row.values()]
        if any(row.keys() - set(self.columns) for row in rows):
            raise InputError(f"{self.path}: has other columns")
        kept = [row for row in rows if int(row["iteration"]) <= iteration]
        if evaluation_due:
            return [r for r in kept if int(r["iteration"]) < iteration or not r["train_miou"]]
        return kept

    def write(self, row: dict[str, Any]) -> None:
        """Add one row; columns that it lacks stay empty."""
        self.rows.append({column: _text(row.get(column)) for column in self.columns})
        self._write()

    def _write(self) -> None:
        try:
            with (
                atomic_path(self.path) as temporary,
                open(temporary, "w", encoding="utf-8", newline="") as file,
            ):
                writer = csv.DictWriter(file, self.columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            self._failed = False
        except OSError as error:  # a log is not worth a run
            if not self._failed:
                console.print(
                    f"Warning: {self.path}: cannot be written ({error.strerror}); training goes "
                    "on, its rows follow with the next that can be"
                )
            self._failed = True


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


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
        console.print("Validation mIoU: none, no validation patch holds a class")
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
    elif best[1]:
        console.print(f"Best validation mIoU: {best[0]:.4f} at iteration {best[1]}")


def draw_curves(folder: Path, log: Sequence[dict[str, str]]) -> None:
    """Draw the rows of log.csv as curves.png in a checkpoint folder; without rows, nothing.

    Raises:
        OSError: curves.png cannot be written.
    """
    from matplotlib.figure import Figure

    if not log:
        return
    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    losses, mious, trust, rate = figure.subplots(2, 2, sharex=True).flat
    share = trust.twinx()

    losses.set_ylabel("loss, mean without weight")
    _plot(losses, log, "loss_ce", "cross entropy", "C0")
    _plot(losses, log, "loss_fm", "feature matching", "C1")
    _plot(losses, log, "loss_st", "self-training", "C2")
    _plot(losses, log, "loss_d", "discriminator", "C3")

    mious.set_ylabel("mIoU")
    _plot(mious, log, "train_miou", "training (running)", "C0")
    iterations, values = _plot(mious, log, "val_miou", "validation", "C1")
    if values:
        # As for best_model.pth, the first of equals.
        best = values.index(max(values))
        label = f"best: {values[best]:.3f} at {iterations[best]}"
        mious.plot(iterations[best], values[best], "k*", markersize=12, label=label)

    trust.set_ylabel("images accepted an iteration")
    _, counts = _plot(trust, log, "st_count", "images accepted", "C0")
    trust.set_ylim(0, 1.05 * max(counts, default=0) or 1)
    share.set_ylabel("share of pixels trusted")
    _plot(share, log, "st_pixels", "pixels trusted (right)", "C1")
    share.set_ylim(0, 1.05)

    rate.set_ylabel("learning rate")
    _, rates = _plot(rate, log, "learning_rate", "of new layers", "C0")
    rate.set_ylim(0, 1.05 * max(rates, default=0) or 1)

    for axes in (losses, mious, trust, rate):
        axes.grid(alpha=0.3)
        # Above, where it hides no curve.
        axes.legend(
            handles=[*axes.get_lines(), *(share.get_lines() if axes is trust else [])],
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            ncols=4,
            frameon=False,
            fontsize=9,
            columnspacing=1,
            handlelength=1.2,
        )
    for axes in (trust, rate):
        axes.set_xlabel("iteration")
    rate.set_xlim(left=0)
    with atomic_path(folder / "curves.png") as temporary:
        figure.savefig(temporary, format="png")


def _plot(
    axes: "Axes", log: Sequence[dict[str, str]], column: str, label: str, color: str
) -> tuple[list[int], list[float]]:
    """Draw the rows that have a value; return their iterations and values."""
    rows = [row for row in log if row.get(column) not in (None, "", "nan")]
    iterations = [int(row["iteration"]) for row in rows]
    values = [float(row[column]) for row in rows]
    if rows:
        marker = "o" if len(rows) <= MOST_MARKED else None
        axes.plot(iterations, values, label=label, color=color, marker=marker, markersize=4)
    return iterations, values
