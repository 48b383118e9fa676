"""How a run is going: the console line, the evaluation block, curves.png."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.files import atomic_path
from salakseg.metrics import Scores
from salakseg.training.run_log import CsvLog
from salakseg.training.trust import Probe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULE = "=" * 60
# Up to so many points a curve has them marked.
MOST_MARKED = 60


def gpu_memory_mb(device: torch.device) -> float | None:
    """The most memory that tensors have taken on `device` so far, in MiB; None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20


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


def draw_curves_if_possible(folder: Path, log: CsvLog) -> None:
    """As `draw_curves`; where that fails, a warning."""
    try:
        draw_curves(folder, log.rows)
    except OSError as error:  # a picture is not worth a run
        console.print(f"Warning: curves.png was not drawn ({error})")


@contextmanager
def iteration_bar(num_steps: int) -> Iterator[tuple[Progress, Any]]:
    """A progress bar, and its task with a field `rate`; in a terminal only."""
    columns = (
        TextColumn("Iter {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[rate]} · left"),
        TimeRemainingColumn(),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        yield bars, bars.add_task("", total=num_steps, rate="")
