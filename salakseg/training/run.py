"""A run: what it has in hand, how it is evaluated, taken up and laid down."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.console import console
from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, Patches, TrainingStream
from salakseg.distributed import from_first, world_size
from salakseg.errors import InputError
from salakseg.evaluation.shard_split import confusions_on_split
from salakseg.metrics import scores
from salakseg.model.applicability import applicability_of, are_beyond, described_rows
from salakseg.model.features import features_of
from salakseg.model.weights import Model, as_array, as_tensor, some_photos
from salakseg.training.advice import Advice, advice_on
from salakseg.training.checkpoint import best_iteration_in, has_best
from salakseg.training.monitor import evaluation_head, print_evaluation
from salakseg.training.options import S4GAN, Options
from salakseg.training.run_log import CsvLog, iou_columns
from salakseg.training.step import LOSS_NAMES, NotFinite, Step, is_finite
from salakseg.training.tracking import Tracker, prediction_sheet
from salakseg.training.trust import Probe
from salakseg.version import VERSION

LIKE_NOTHING = "of the unlabelled patches look like nothing that is labelled"
UNKNOWN = "whether unlabelled patches look like labelled ones cannot be told"
NOT_TAUGHT = (
    "no unlabelled patch teaches. Label some (salakseg suggest); --without likeness has them teach "
    "anyway"
)


class Run:
    """What a run has in hand: options, data, step, and how far it has come."""

    def __init__(
        self,
        options: Options,
        shards: Shards,
        folder: Path,
        step: Step,
        stream: TrainingStream,
        num_workers: int,
        computed: dict[str, str],
    ) -> None:
        self.options, self.shards, self.folder = options, shards, folder
        self.step, self.stream, self.num_workers = step, stream, num_workers
        self.computed = computed
        self.iteration = 0
        self.evaluation_due = False
        self.best_val_miou, self.best_iteration = float("-inf"), 0
        self.val_confusion: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self.val_confusions: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self.probes: list[Batch] = []
        self.advice: list[Advice] = []
        self.tracker = Tracker()
        self.has_val = bool(shards.class_pixels(shards.split("val")).any())

    def read_probes(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Keep the probe patches, decoded, in memory: at most 64."""
        if len(rows):
            self.probes = list(self._batches("train", rows))

    def consult(self, log: CsvLog, timing: CsvLog, say: bool = True) -> None:
        """Let the doctor read the logs; say what is new."""
        found = advice_on(
            log.rows,
            timing.rows,
            num_steps=self.options.num_steps,
            lambda_st=self.options.lambda_st,
            threshold_st=self.options.threshold_st,
            batch_size=self.options.batch_size,
            class_names=self.shards.mapping.names,
        )
        for advice in found:
            if say and advice not in self.advice:
                console.print(f"Advice: {advice.text}")
        self.advice = found

    def decide_on_self_training(
        self, iteration: int, on_batch: Callable[[int], object] = lambda _: None
    ) -> None:
        """Before `iteration`: if self-training of `s4gan` is to set in with it, decide whether it
        does, and say so. Of photographs that are like none of the labelled ones it learns its own
        mistakes (docs/quality.md).

        Args:
            on_batch: called with the number of patches of each batch before it is read. What it
                raises leaves the run undecided.
        """
        step, recipe = self.step, self.step.recipe
        if (
            step.self_trains is not None
            or recipe.method != S4GAN
            or recipe.lambda_st == 0
            or step.ramp(iteration) == 0
        ):
            return
        own = self.share_unlike(self.described_model(on_batch), on_batch)
        share = from_first(lambda: own)
        step.self_trains = share is None or share <= recipe.most_unlike
        found = UNKNOWN if share is None else f"{share:.0%} {LIKE_NOTHING}"
        then = "self-training sets in" if step.self_trains else NOT_TAUGHT
        console.print(f"Iteration {iteration}: {found}: {then}")

    def choose_judge(self) -> Probe | None:
        """Measure who judges images best, and listen to it from here on; None without probes, or
        where no images are judged."""
        if not self.probes or self.step.is_supervised:
            return None
        probe = self.step.probe(self.probes)
        self.step.image_trust.listen_to(from_first(lambda: probe.judge))
        return probe

    def checkpoint(self) -> dict[str, Any]:
        """The content of a full checkpoint; see `training.checkpoint`."""
        return {
            "iteration": self.iteration,
            "evaluation_due": self.evaluation_due,
            **self.step.state_dict(),
            "positions": dict(self.stream.positions),
            "best_val_miou": self.best_val_miou,
            "best_iteration": self.best_iteration,
            "val_confusion": as_tensor(self.val_confusion),
            "val_confusions": as_tensor(self.val_confusions),
            "options": asdict(self.options),
            "mean": self.step.generator.mean.flatten().tolist(),
            "std": self.step.generator.std.flatten().tolist(),
            "computed_with": self.computed,
            "wandb_id": self.tracker.run_id,
            "threads": torch.get_num_threads(),
            "processes": world_size(),
            "classes": self.shards.mapping.as_plain(),
            "shards": self.shards.fingerprint,
        }

    def go_on_from(self, checkpoint: dict[str, Any]) -> None:
        """Take over a full checkpoint; the stream was started at its positions."""
        try:
            self.step.load_state_dict(checkpoint)
            if self.step.recipe.most_unlike == 1:  # --without likeness, since it was decided
                self.step.self_trains = self.step.self_trains or None
            self.iteration = checkpoint["iteration"]
            self.evaluation_due = checkpoint.get("evaluation_due", False)
            self.best_val_miou = checkpoint["best_val_miou"]
            self.best_iteration = checkpoint["best_iteration"]
            self.val_confusion = as_array(checkpoint["val_confusion"])
            # Checkpoints of earlier versions have none.
            self.val_confusions = as_array(checkpoint.get("val_confusions"))
            self.tracker.run_id = checkpoint["wandb_id"]
            # Sums on a CPU depend on how many threads share them.
            if checkpoint.get("processes", 1) == world_size():
                torch.set_num_threads(checkpoint["threads"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the checkpoint does not fit this run ({str(error).splitlines()[0]})"
            ) from error

    def keep_or_forget_best(self, checkpoint: dict[str, Any], beside: Path, resumed: bool) -> None:
        """Have in the folder the best model that `checkpoint`, of the folder `beside`, names; where
        it is nowhere, forget its score, so that the next evaluation gives a best model."""
        if self.best_iteration == 0:
            return
        if has_best(self.folder, beside, self.best_iteration, self.best_val_miou):
            return
        # Killed between a new best model and the checkpoint after it, a run comes to it again.
        if (
            resumed
            and best_iteration_in(self.folder) > self.iteration
            and checkpoint["options"] == asdict(self.options)
            and checkpoint.get("computed_with") == self.computed
        ):
            return
        console.print(
            f"{self.folder}: has no whole best model of iteration {self.best_iteration}; its score "
            f"{self.best_val_miou:.4f} is forgotten, the next evaluation gives a new one"
        )
        self.best_val_miou, self.best_iteration = float("-inf"), 0

    def described_model(self, on_batch: Callable[[int], object] = lambda _: None) -> Model:
        """`model`, with what its labelled patches are like; that takes a pass over some of them.

        Args:
            on_batch: called with the number of patches of each batch before it is read.
        """
        model, samples = self.model(), self.shards.split("train")
        rows = described_rows(len(samples))
        found = self._features(model, "train", rows, on_batch)
        if not np.isfinite(found).all():  # about to diverge: it is like nothing
            return model
        photo = samples.iloc[rows].groupby(["folder", "base_image"]).ngroup().to_numpy()
        return replace(model, applicability=applicability_of(found, photo))

    def share_unlike(
        self, model: Model, on_batch: Callable[[int], object] = lambda _: None
    ) -> float | None:
        """Which share of the unlabelled patches is like none of the labelled ones, by some of them;
        None where there are none or that cannot be said; `on_batch` as of `described_model`."""
        if model.applicability is None or "unlabeled" not in self.stream.positions:
            return None
        rows = described_rows(len(self.shards.split("unlabeled")))
        distance = model.applicability.distance(self._features(model, "unlabeled", rows, on_batch))
        return float(are_beyond(distance).mean())

    def _features(
        self,
        model: Model,
        split: str,
        rows: NDArray[np.int64],
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> NDArray[np.float32]:
        features = [
            features_of(model, batch.images.to(self.step.device), self.options.amp)
            for batch in self._batches(split, rows, on_batch)
        ]
        return np.concatenate(features)

    def _batches(
        self,
        split: str,
        rows: NDArray[np.int64],
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> Iterator[Batch]:
        """These patches of a split; `on_batch` gets the number of each batch before it is read."""
        patches, size = Patches(self.shards, {split: split}), self.options.batch_size
        for part in np.split(rows, np.arange(size, len(rows), size)):
            on_batch(len(part))
            yield patches.read(split, part)

    def model(self) -> Model:
        """The teacher as a model that describes itself."""
        return Model(
            self.step.teacher,
            self.shards.mapping,
            self.shards.patch_size,
            self.shards.pixel_size,
            self.iteration,
            self.val_confusion,
            {
                "options": asdict(self.options),
                "counts": self.shards.samples.split.value_counts().sort_index().to_dict(),
                "shards": self.shards.fingerprint,
                "salakseg": VERSION,
                "torch": str(torch.__version__),
            },
            val_confusions=self.val_confusions,
            white_level=self.shards.white_level,
        )

    def require_numbers(self) -> None:
        """Stop before a good checkpoint is replaced by one that holds NaN."""
        if not is_finite(self.step):
            raise NotFinite(f"iteration {self.iteration}: the losses are no numbers any more")

    def take_losses(self) -> dict[str, Any]:
        """Mean losses since the last call, as a row of log.csv; the one wait for the device."""
        step = self.step
        self.require_numbers()
        *sums, count = step.totals.tolist()
        step.totals.zero_()
        means = [value / count for value in sums]
        row = {"iteration": self.iteration, **dict(zip(LOSS_NAMES, means, strict=True))}
        row["learning_rate"] = step.optimizer.param_groups[0]["lr"]
        return row

    def evaluate(self, on_batch: Callable[[int], object]) -> tuple[dict[str, Any], Model | None]:
        """Score the teacher on the validation patches: a row of log.csv, and the model if it is
        the best so far.

        Args:
            on_batch: called with the number of patches of each batch before it is read. What it
                raises may leave the run half-way: go on from a checkpoint then.
        """
        step = self.step
        console.print(evaluation_head(self.iteration))
        train = scores(step.train_confusion.cpu())
        step.train_confusion = torch.zeros_like(step.train_confusion)
        row: dict[str, Any] = {"iteration": self.iteration, "train_miou": train.miou}
        probe = self.choose_judge()
        if probe is not None:
            row |= {
                "rank_correlation_d": probe.discriminator,
                "rank_correlation_confidence": probe.confidence,
            }
        judge = "" if step.is_supervised else step.image_trust.judge
        row["judge"] = judge
        val = best = None
        if self.has_val:
            confusions = confusions_on_split(
                self.model(),
                self.shards,
                "val",
                batch_size=max(self.options.batch_size, 8),
                num_workers=self.num_workers,
                amp=self.options.amp,
                on_batch=on_batch,
            )
            self.val_confusion, self.val_confusions = confusions.sum(0), some_photos(confusions)
            val = scores(self.val_confusion)
            row |= {"val_miou": val.miou, **iou_columns(self.shards.mapping.names, val)}
            if val.miou > self.best_val_miou:
                self.best_val_miou, self.best_iteration = val.miou, self.iteration
                best = self.described_model(on_batch)
        if self.tracker.active:
            sheet = (
                {"validation": prediction_sheet(self.model(), self.shards)}
                if self.has_val
                else None
            )
            self.tracker.log_evaluation(
                self.iteration, train.miou, val, self.shards.mapping.names, sheet
            )
        score = (self.best_val_miou, self.best_iteration)
        print_evaluation(self.shards.mapping, train, val, probe, judge, score, best is not None)
        return row, best
