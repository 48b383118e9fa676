"""How a run is going, in words: rows of log.csv and timing.csv in, advice out.

A log row is one with losses (means since the row before), an evaluation one with mIoU. Parts in %
are of the whole run. "Late": after a third of it. A rule that has fired is said again only after it
has been off for `REST` of the run.

| rule | fires when | says |
|---|---|---|
| overfitting | training mIoU ≥ validation + 0.2 in 3 evaluations running | label other photos |
| underfitting | in the second half, both mIoU < 0.3 | look at the masks, train longer |
| self-training dead | λ_ST > 0, ramp begun, none accepted for 5 % (≥ 3 rows) | lower γ, or auto |
| self-training accepts everything | the same, but ≥ 98 % of the images are | higher γ, or auto |
| discriminator always right | mean loss_d < 0.02 over 5 % (≥ 3 rows) | no judge of images |
| discriminator guessing | loss_d ≥ 0.66 (log 2 = 0.69) for 10 % (≥ 6 rows) | no judge of images |
| loss rising | mean loss_ce of 5 % (≥ 3 rows) ≥ 1.5 × the least before, + 0.1 | lower rate |
| loss oscillating | loss_ce swings by ≥ 25 % and 0.05 for 10 % (≥ 6 rows) | lower rate |
| never predicted: NAME | late, validation IoU 0 in 2 evaluations running | label photos with it |
| validation too good | late, validation ≥ training + 0.15 in 3 evaluations running | a leak? |
| waiting for data | loading share > 20 % in 3 rows running | more threads |
| waiting for saves | saving share > 20 % in 3 rows running | save less often |
| validation flat | for 20 % (≥ 3 evaluations), all after the ramp, gain < 0.005 | stop, or label |

What a run says of patches that look like nothing labelled (`UNLIKE_LABELLED`) is in no log, see
`run_report`. Losses that are no numbers stop the loop and are not looked for here. Every rule looks
back only: the advice on part of a log is the beginning of the advice on all of it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from salakseg.training.options import Recipe
from salakseg.training.rates import self_training_ramp
from salakseg.training.run_log import IOU_COLUMN, LOSSES, MIOUS, Row, numbers_of

REST = 0.1

SHORT, SHORT_ROWS = 0.05, 3

LONG, LONG_ROWS = 0.1, 6

EVALUATIONS = 3

OVERFITTING_GAP = 0.2

UNDERFITTING_MIOU, UNDERFITTING_AFTER = 0.3, 0.5

ALL_ACCEPTED = 0.98

RIGHT_LOSS_D, GUESSING_LOSS_D = 0.02, 0.66

RISE, LEAST_RISE = 1.5, 0.1

SWING, LEAST_SWING = 0.25, 0.05

LEARNT_AFTER = 1 / 3

NEVER_PREDICTED_EVALUATIONS = 2

LEAK_GAP = 0.15

WAITING_SHARE = 0.2

FLAT_FOR, FLAT_GAIN = 0.2, 0.005

UNLIKE_LABELLED = "unlike the labelled"


@dataclass(frozen=True)
class Advice:
    """What a rule says: `text` is one line, the number that made it fire and what to do."""

    rule: str
    iteration: int
    text: str


@dataclass
class _Record:
    """What there is to judge by at some iteration: options, and the rows up to it."""

    num_steps: int
    lambda_st: float
    threshold_st: str | float
    batch_size: int
    losses: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)
    timing: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        # A row that a power cut left half-written is none.
        if row.keys() >= LOSSES:
            self.losses.append(row)
        if row.keys() >= MIOUS:
            self.evaluations.append(row)
        if "loading_share" in row:
            self.timing.append(row)

    def last(self, rows: list[Row], share: float, fewest: int) -> list[Row]:
        """The rows of the last `share` of the run, `fewest` at least; [] before there are such."""
        span = share * self.num_steps
        if len(rows) < fewest or rows[-1]["iteration"] < span:
            return []
        begin = bisect_right(rows, rows[-1]["iteration"] - span, key=itemgetter("iteration"))
        return rows[min(begin, len(rows) - fewest) :]

    def last_evaluations(self, count: int, after: float = 0.0) -> list[Row]:
        """The last `count` evaluations; [] unless all are later than `after` of the run."""
        rows = self.evaluations[-count:]
        late = all(row["iteration"] > after * self.num_steps for row in rows)
        return rows if len(rows) == count and late else []

    def last_semi(self, share: float, fewest: int) -> list[Row]:
        """Like `last` of the log rows; [] where they are of a run without discriminator."""
        rows = self.last(self.losses, share, fewest)
        # Such a run has zeros in all columns that are not its own.
        semi = all(row["loss_d"] or row["loss_fm"] or row["st_count"] for row in rows)
        return rows if semi else []

    def last_self_training(self) -> list[Row]:
        """Log rows to judge self-training by; [] where there is none, or not yet."""
        rows = self.last_semi(SHORT, SHORT_ROWS) if self.lambda_st > 0 else []
        begun = rows and self_training_ramp(int(rows[0]["iteration"]), self.num_steps) > 0
        return rows if begun else []


def _overfitting(record: _Record) -> str | None:
    rows = record.last_evaluations(EVALUATIONS)
    if not rows or any(r["train_miou"] - r["val_miou"] < OVERFITTING_GAP for r in rows):
        return None
    return (
        f"training mIoU {rows[-1]['train_miou']:.2f}, validation {rows[-1]['val_miou']:.2f}: it "
        "knows its training patches, and other photos much less (overfitting). Masks of more and "
        "other photos help, more iterations do not; best_model.pth keeps the best so far"
    )


def _underfitting(record: _Record) -> str | None:
    rows = record.last_evaluations(1, UNDERFITTING_AFTER)
    if not rows or max(rows[0]["train_miou"], rows[0]["val_miou"]) >= UNDERFITTING_MIOU:
        return None
    return (
        f"training mIoU {rows[0]['train_miou']:.2f} and validation {rows[0]['val_miou']:.2f} after "
        f"{rows[0]['iteration'] / record.num_steps:.0%} of the run, both below "
        f"{UNDERFITTING_MIOU} (underfitting). Look whether the masks fit the photos "
        "(index/preview.png); then a higher --num-steps, or a larger --generator"
    )


def _self_training_dead(record: _Record) -> str | None:
    rows = record.last_self_training()
    if not rows or any(row["st_count"] > 0 for row in rows):
        return None
    return (
        f"no unlabelled image was accepted in the last {len(rows)} log lines (ST_Count 0), so the "
        "unlabelled photos teach nothing. "
        + _threshold_advice(record, "A lower one, or --threshold-st auto")
    )


def _self_training_accepts_everything(record: _Record) -> str | None:
    rows, size = record.last_self_training(), record.batch_size
    # More than there are: rows from before the batch size was changed.
    if not rows or any(not ALL_ACCEPTED * size <= row["st_count"] <= size for row in rows):
        return None
    return (
        f"{rows[-1]['st_count']:.2f} of {size} unlabelled images were accepted an iteration, so "
        "bad labels are learnt too. "
        + _threshold_advice(record, "A higher one, or --threshold-st auto")
    )


def _threshold_advice(record: _Record, change: str) -> str:
    if record.threshold_st == "auto":
        return "All images score alike with --threshold-st auto; --lambda-st 0 does without them"
    return f"--threshold-st is {record.threshold_st}. {change} (train --resume takes it)"


def _discriminator_always_right(record: _Record) -> str | None:
    rows = record.last_semi(SHORT, SHORT_ROWS)
    if not rows or (loss := _mean(rows, "loss_d")) >= RIGHT_LOSS_D:
        return None
    return (
        f"Loss_D is {loss:.4f}: the discriminator always tells drawn maps from predicted ones. "
        + _judge_advice(record)
    )


def _discriminator_guessing(record: _Record) -> str | None:
    rows = record.last_semi(LONG, LONG_ROWS)
    if not rows or any(row["loss_d"] < GUESSING_LOSS_D for row in rows):
        return None
    return (
        f"Loss_D is {_mean(rows, 'loss_d'):.2f}, no better than guessing (0.69), for {len(rows)} "
        "log lines: the discriminator cannot tell drawn maps from predicted ones. "
        + _judge_advice(record)
    )


def _judge_advice(record: _Record) -> str:
    if record.threshold_st == "auto":
        return "Images are judged by confidence where it is no use; --lambda-fm 0 does without it"
    return "It is no judge of images then: --threshold-st auto (train --resume takes it)"


def _loss_rising(record: _Record) -> str | None:
    rows = record.last(record.losses, SHORT, SHORT_ROWS)
    width = len(rows)
    if not rows or len(record.losses) < 2 * width:
        return None
    now = _mean(rows, "loss_ce")
    before = [row["loss_ce"] for row in record.losses[:-width]]
    least = float(np.convolve(before, np.full(width, 1 / width), "valid").min())
    if now < RISE * least or now < least + LEAST_RISE:
        return None
    return (
        f"Loss_CE has risen to {now:.2f} from {least:.2f}. The learning rate is too high: start "
        "over with a third of --learning-rate"
    )


def _loss_oscillating(record: _Record) -> str | None:
    rows = record.last(record.losses, LONG, LONG_ROWS)
    if not rows:
        return None
    steps = [b["loss_ce"] - a["loss_ce"] for a, b in pairwise(rows)]
    up, down = sum(s for s in steps if s > 0), -sum(s for s in steps if s < 0)
    # The smaller of both: a loss that only falls does not oscillate.
    swing, mean = 2 * min(up, down) / len(steps), _mean(rows, "loss_ce")
    if swing < SWING * mean or swing < LEAST_SWING:
        return None
    return (
        f"Loss_CE goes up and down by {swing:.2f} around {mean:.2f} from log line to log line. "
        "The learning rate is too high or the batch too small: a third of --learning-rate, or a "
        "higher --batch-size"
    )


def _never_predicted(name: str, record: _Record) -> str | None:
    rows = record.last_evaluations(NEVER_PREDICTED_EVALUATIONS, LEARNT_AFTER)
    if not rows or any(row.get(IOU_COLUMN + name) != 0 for row in rows):
        return None
    return (
        f"{name} has a validation IoU of 0 in {len(rows)} evaluations running: it is never found. "
        f"See how many pixels of it there are to learn from (index/base_images.csv), and draw "
        "masks of photos that show it"
    )


def _validation_too_good(record: _Record) -> str | None:
    rows = record.last_evaluations(EVALUATIONS, LEARNT_AFTER)
    if not rows or any(r["val_miou"] - r["train_miou"] < LEAK_GAP for r in rows):
        return None
    return (
        f"validation mIoU {rows[-1]['val_miou']:.2f}, training {rows[-1]['train_miou']:.2f}: too "
        "good to be true. Do training and validation show the same ground, or is validation a few "
        "easy photos? index --split-by block keeps neighbours together"
    )


def _waiting_for_data(record: _Record) -> str | None:
    share = _waiting(record, "loading_share")
    return share and (
        f"{share} of the time is spent waiting for patches to be read. More --num-workers (train "
        "--resume takes it), or shards on a faster disk"
    )


def _waiting_for_saves(record: _Record) -> str | None:
    share = _waiting(record, "saving_share")
    return share and (
        f"{share} of the time is spent waiting for saves to reach the disk. A higher "
        "--save-latest-every (train --resume takes it), or checkpoints on a faster disk"
    )


def _waiting(record: _Record, column: str) -> str | None:
    """The share of the last rows, if there are enough and it is too much in each."""
    # Runs of earlier versions have one of the columns only.
    shares = [row[column] for row in record.timing if column in row][-SHORT_ROWS:]
    if len(shares) < SHORT_ROWS or min(shares) <= WAITING_SHARE:
        return None
    return f"{sum(shares) / SHORT_ROWS:.0%}"


def _validation_flat(record: _Record) -> str | None:
    rows = record.evaluations
    begin = rows[-1]["iteration"] - FLAT_FOR * record.num_steps if rows else 0
    # Before self-training is fully there, what comes of it is not to be seen yet.
    if begin < Recipe.self_training_full * record.num_steps:
        return None
    before = [row for row in rows if row["iteration"] <= begin]
    since = rows[len(before) :]
    if not before or len(since) < EVALUATIONS:
        return None
    best = max(before, key=itemgetter("val_miou"))
    gain = max(row["val_miou"] for row in since) - best["val_miou"]
    if not gain < FLAT_GAIN:
        return None
    return (
        f"the last {FLAT_FOR:.0%} of the run added {max(0.0, gain):.4f} to the validation mIoU "
        f"{best['val_miou']:.4f} of iteration {best['iteration']:.0f}. It can be stopped (Ctrl-C; "
        "best_model.pth is kept); masks of more photos help rather than more iterations"
    )


def _mean(rows: list[Row], column: str) -> float:
    return sum(row[column] for row in rows) / len(rows)


RULES: dict[str, Callable[[_Record], str | None]] = {
    "overfitting": _overfitting,
    "underfitting": _underfitting,
    "self-training dead": _self_training_dead,
    "self-training accepts everything": _self_training_accepts_everything,
    "discriminator always right": _discriminator_always_right,
    "discriminator guessing": _discriminator_guessing,
    "loss rising": _loss_rising,
    "loss oscillating": _loss_oscillating,
    "validation too good": _validation_too_good,
    "waiting for data": _waiting_for_data,
    "waiting for saves": _waiting_for_saves,
    "validation flat": _validation_flat,
}


def advice_on(
    log: Sequence[Mapping[str, Any]],
    timing: Sequence[Mapping[str, Any]],
    *,
    num_steps: int,
    lambda_st: float,
    threshold_st: str | float,
    batch_size: int,
    class_names: Sequence[str],
) -> list[Advice]:
    """Advice on a run so far, in order of iteration, each rule once per onset.

    Args:
        log, timing: rows of log.csv and timing.csv in their order, as csv.DictReader gives them or
            with numbers; '' and None are missing values.
        num_steps, lambda_st, threshold_st, batch_size: the run's options.
        class_names: of the columns `iou NAME`; names without a column are passed over.
    """
    rules = RULES | {f"never predicted: {n}": partial(_never_predicted, n) for n in class_names}
    record = _Record(num_steps, lambda_st, threshold_st, batch_size)
    advice = []
    last_fired: dict[str, int] = {}
    previous = 0
    rows = sorted(map(numbers_of, [*log, *timing]), key=itemgetter("iteration"))
    for number, group in groupby(rows, key=itemgetter("iteration")):
        iteration = int(number)
        for row in group:
            record.add(row)
        for rule, check in rules.items():
            if (text := check(record)) is None:
                continue
            off_until = min(previous, iteration - REST * num_steps)
            if last_fired.get(rule, -math.inf) < off_until:
                advice.append(Advice(rule, iteration, text))
            last_fired[rule] = iteration
        previous = iteration
    return advice
