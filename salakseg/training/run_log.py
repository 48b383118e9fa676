"""log.csv and timing.csv of a run: their columns, written and read.

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
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from salakseg.console import console
from salakseg.distributed import is_first
from salakseg.errors import InputError
from salakseg.files import atomic_path, require_folder
from salakseg.metrics import Scores

IOU_COLUMN = "iou "
# What advice is made of.
LOSSES = frozenset(("loss_ce", "loss_fm", "loss_d", "st_count"))
MIOUS = frozenset(("train_miou", "val_miou"))
COLUMNS = LOSSES | MIOUS | {"iteration", "loading_share", "saving_share"}
Row = dict[str, float]
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


def log_columns(class_names: Sequence[str]) -> tuple[str, ...]:
    """The columns of log.csv, in order."""
    return LOG_COLUMNS + tuple(IOU_COLUMN + name for name in class_names)


def iou_columns(class_names: Sequence[str], val: Scores) -> dict[str, float]:
    """The part of an evaluation row that holds each class's IoU, absent classes left out."""
    values = zip(class_names, val.iou, val.support, strict=True)
    return {IOU_COLUMN + name: float(iou) for name, iou, support in values if support}


class CsvLog:
    """A CSV file that a row is added to at a time; what a resumed run does again is cut off: rows
    of iterations after `iteration`, and with `evaluation_due` the evaluation row of that one.

    The rows are kept in memory and each time written anew: a spreadsheet that holds the file, or
    saves it otherwise, costs a warning at most. Of several processes the first one has the file.

    Attributes:
        rows: as csv.DictReader gives them.
    """

    def __init__(
        self, path: Path, columns: tuple[str, ...], iteration: int, evaluation_due: bool = False
    ) -> None:
        self.path, self.columns = path, columns
        self.rows: list[dict[str, str]] = []
        self._failed = False
        if iteration and is_first() and path.exists():
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
        if not is_first():
            return
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


def numbers_of(row: Mapping[str, Any]) -> Row:
    """The values that are there and finite; raises ValueError or TypeError where one is no
    number."""
    values = {
        name: float(value)
        for name, value in row.items()
        if (name in COLUMNS or name.startswith(IOU_COLUMN)) and value not in ("", None)
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def read_log(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of log.csv and timing.csv of a checkpoint folder; no timing.csv: no rows.

    Raises:
        InputError: no such folder, no log.csv, or a file with other content.
    """
    require_folder(folder, "give the --checkpoint-dir of a run")
    log, timing = folder / "log.csv", folder / "timing.csv"
    if not log.is_file():
        raise InputError(f"{folder}: holds no log.csv; give the --checkpoint-dir of a run")
    rows = read_rows(log, sorted(LOSSES | MIOUS))
    return rows, read_rows(timing) if timing.is_file() else []


def read_rows(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of log.csv or timing.csv; in one cut short, the last columns are None.

    Raises:
        InputError: one that training does not write, or no column `iteration`, or of `columns`.
    """
    rows: list[dict[str, str]] = []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for column in ("iteration", *columns):
                if column not in (reader.fieldnames or ()):
                    raise InputError(
                        f"{path}: has no column {column}, so it is not as training writes it: "
                        "damaged or edited; put that right"
                    )
            for row in reader:
                int(row["iteration"])
                # None: the name of what is beyond the last column.
                if None in row or "iteration" not in numbers_of(row):
                    raise ValueError(row)
                rows.append(row)
    except InputError:
        raise
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: line {len(rows) + 2} is none that training writes: damaged or edited; "
            "put that right or remove the line"
        ) from error
    return rows
