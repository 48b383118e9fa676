"""train(): the run. Shards in, `checkpoints/` out.

From top to bottom: options, data, networks, loop. Every draw is a pure function of the seed and of
what it is for, and every schedule one of the iteration, so a run that goes on from a checkpoint
takes the same way as one that was never stopped.
"""

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import salakseg
from salakseg.console import console
from salakseg.data.draws import draw_bits
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import Batch, Patches, TrainingStream, reader_threads
from salakseg.device import (
    autocast_dtype,
    computed_with,
    keep_awake,
    operations_without_determinism,
    select_device,
    set_determinism,
    settings_kept,
)
from salakseg.errors import InputError, WorkError
from salakseg.evaluation.evaluate import confusions_on_split
from salakseg.files import (
    format_bytes,
    lock_folder,
    require_disk_space,
    require_folder,
    write_text,
)
from salakseg.metrics import scores
from salakseg.model.applicability import applicability_of, described_rows
from salakseg.model.features import features_of
from salakseg.model.generator import (
    DEFAULT_GENERATOR,
    Generator,
    create_generator,
    normalise_as_pretrained,
    require_side,
)
from salakseg.model.weights import (
    MODEL_FORMAT,
    Model,
    as_array,
    as_tensor,
    load_model,
    read_torch_file,
    some_photos,
)
from salakseg.signals import Stop, on_stop
from salakseg.training.batch_size import AUTO, automatic_batch_size
from salakseg.training.checkpoint import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_FORMATS,
    LATEST,
    Saver,
    checkpoint_file,
    keep_best_aside,
    model_files,
    newest_checkpoint,
    periodic,
    refuse_to_overwrite,
    remove_leftovers,
)
from salakseg.training.doctor import Advice, diagnose, read_log
from salakseg.training.monitor import (
    TIMING_COLUMNS,
    CsvLog,
    draw_curves,
    evaluation_head,
    gpu_memory_mb,
    iou_columns,
    iteration_line,
    log_columns,
    print_evaluation,
)
from salakseg.training.replay import NotFinite, is_finite, where_it_began
from salakseg.training.step import (
    LOSS_NAMES,
    METHODS,
    PAPER_THRESHOLD,
    S4GAN,
    S4GAN_PAPER,
    SUPERVISED,
    Part,
    Recipe,
    Step,
)
from salakseg.training.tracking import Tracker, prediction_sheet
from salakseg.training.trust import Probe

Rows = np.ndarray[Any, np.dtype[np.int64]]

LOG_EVERY = 100
# Of the labelled patches this share is kept from G, to measure who can judge images; too few
# (below 8) measure nothing, more than 64 are not needed.
PROBE_SHARE, FEWEST_PROBES, MOST_PROBES = 0.05, 8, 64
# Where that share is so many photographs, they are kept whole, and these are enough.
FEWEST_PHOTOS, ENOUGH_PHOTOS = 2, 4
TIMED_ITERATIONS = 5


@dataclass(frozen=True)
class Options:
    """The options that a run keeps over its interruptions; see `train`."""

    method: str = S4GAN
    generator: str = DEFAULT_GENERATOR
    encoder_weights: str = "imagenet"
    num_steps: int = 50_000
    batch_size: int = 4
    learning_rate: float = 1e-3
    threshold_st: str | float = AUTO
    lambda_st: float = 1.0
    lambda_fm: float = 0.1
    without: tuple[str, ...] = ()
    eval_every: int = 500
    save_pred_every: int = 5000
    save_latest_every: int = 100
    seed: int = 0
    amp: bool | None = None


# What the weights and the state in a checkpoint were made with.
FIXED_OPTIONS = ("method", "generator", "seed")


def train(
    *,
    shards_dir: Path | str = Path("shards"),
    checkpoint_dir: Path | str = Path("checkpoints"),
    resume: bool = False,
    restore_from: Path | str | None = None,
    overwrite: bool = False,
    keep_checkpoints: int | None = None,
    num_workers: int | None = None,
    device: str = "auto",
    deterministic: bool = True,
    wandb_mode: str | None = None,
    wandb_project: str | None = None,
    method: str | None = None,
    generator: str | None = None,
    encoder_weights: str | None = None,
    num_steps: int | None = None,
    batch_size: int | str | None = None,
    learning_rate: float | None = None,
    threshold_st: str | float | None = None,
    lambda_st: float | None = None,
    lambda_fm: float | None = None,
    without: Sequence[str] | None = None,
    eval_every: int | None = None,
    save_pred_every: int | None = None,
    save_latest_every: int | None = None,
    seed: int | None = None,
    amp: bool | None = None,
) -> dict[str, Any]:
    """Train S4GAN, or its labelled part alone, on the patches of `shards_dir`.

    Options that are None keep the value of the run that is gone on with, or take the default.

    Args:
        shards_dir: what `shard` wrote.
        checkpoint_dir: where models and checkpoints go.
        resume: go on from the newest whole checkpoint in `checkpoint_dir`.
        restore_from: go on from this full checkpoint; or start at iteration 0 with the weights of
            this model file.
        overwrite: start over in a folder that holds a run.
        keep_checkpoints: how many `checkpoint_N.pth` to keep, the newest; None: all.
        num_workers: threads that read and decode ahead; None: one, on a GPU half the cores, at
            most 4; 0: none.
        device: auto, cpu, cuda, cuda:1, ….
        deterministic: the same bits again on the same machine; False lets CUDA choose its kernels
            by the clock, which is faster and gives up exact resuming.
        wandb_mode: Weights & Biases: online, offline or disabled; None: online where somebody is
            logged in.
        wandb_project: its project there.
        method: s4gan (default), s4gan-paper or supervised.
        generator: see `create_generator`; default deeplabv3plus-resnet50.
        encoder_weights: imagenet (default), none, or a file.
        num_steps: iterations of the whole run (50,000).
        batch_size: labelled patches an iteration, and as many unlabelled ones (4); auto: the
            largest power of two that fits in the GPU's memory, found out at the start of a run.
        learning_rate: of new layers (0.001); pretrained encoders learn at a third.
        threshold_st: auto, by rank (default of s4gan), or D's probability above which an image
            teaches (default of s4gan-paper: 0.6).
        lambda_st, lambda_fm: weights of self-training (1.0) and feature matching (0.1).
        without: parts of the recipe to leave out, to see what they bring; see `step.Part`.
        eval_every: iterations from one evaluation to the next (500); there is one at the end too.
        save_pred_every: iterations from one `checkpoint_N.pth` to the next (5,000).
        save_latest_every: iterations from one `latest_*` to the next (100).
        seed: of every draw (0).
        amp: mixed precision; None: where the device is fast at it.

    Returns:
        The content of `run.json`.

    Raises:
        InputError: no shards, no labelled patches, options or files that do not fit.
        WorkError: a save failed, memory ran out, the losses are no numbers any more.
        KeyboardInterrupt: after Ctrl-C (or another of `salakseg.signals`) and a save.
    """
    arguments = dict(locals())
    given = {f.name: arguments[f.name] for f in fields(Options) if arguments[f.name] is not None}
    automatic = batch_size == AUTO
    if automatic:
        del given["batch_size"]
    elif batch_size is not None:
        given["batch_size"] = _whole_number(batch_size)
    shards_dir, checkpoint_dir = Path(shards_dir), Path(checkpoint_dir)
    restore_from = None if restore_from is None else Path(restore_from)

    if resume and restore_from is not None:
        raise InputError(
            f"--resume goes on in {checkpoint_dir}, --restore-from from {restore_from}: give one"
        )
    with ExitStack() as held:
        held.enter_context(settings_kept())

        # What to go on from.
        checkpoint: dict[str, Any] | None = None
        weights: Path | None = None
        if resume:
            require_folder(checkpoint_dir, "nothing to resume from; start anew without --resume")
            # First of all: whoever has the folder may be about to save.
            held.enter_context(lock_folder(checkpoint_dir, "training"))
            path, checkpoint, damaged = newest_checkpoint(checkpoint_dir)
            for line in damaged:
                console.print(f"Passed over: {line}")
            console.print(f"Going on from {path}, iteration {checkpoint['iteration']}")
        elif not overwrite:
            refuse_to_overwrite(checkpoint_dir)
        if restore_from is not None:
            content = read_torch_file(restore_from)
            found = content.get("format") if isinstance(content, dict) else None
            if found in CHECKPOINT_FORMATS:
                checkpoint = content
                console.print(f"Going on from {restore_from}, iteration {checkpoint['iteration']}")
            elif found == MODEL_FORMAT:
                weights = restore_from
            else:
                raise InputError(
                    f"{restore_from}: neither a checkpoint nor a model of this program"
                )
        options = _options(given, checkpoint)

        # Data.
        shards = read_shards(shards_dir)
        if checkpoint is not None:
            _require_same_run(checkpoint, shards)
        _require_classes(shards)
        torch_device = select_device(device)
        dtype = autocast_dtype(torch_device, options.amp)
        set_determinism(deterministic)
        if not deterministic:
            console.print("Not deterministic: a resumed run will differ from an unbroken one")
        computed = computed_with(torch_device, dtype, deterministic)
        if checkpoint is not None:
            _tell_differences(checkpoint, computed)
        workers = reader_threads(num_workers, torch_device)
        semi = options.method != SUPERVISED
        if semi and not (shards.samples.split == "unlabeled").any():
            semi = False
            console.print(
                "No unlabelled patches in the shards: training on the labelled ones alone"
            )
        recipe = _recipe(options, semi)
        none = np.array([], np.int64)
        # Only acceptance by rank has a judge to choose.
        ranked = recipe.method == S4GAN and recipe.threshold_st is None
        left_out, probe_rows = _probe_rows(shards, options.seed) if ranked else (none, none)

        def step_with(network: Generator) -> Step:
            return Step(network, shards.mapping.num_classes, recipe, torch_device, dtype)

        def fresh_step() -> Step:
            classes = shards.mapping.num_classes
            return step_with(create_generator(options.generator, classes, "none"))

        if automatic and checkpoint is None:
            most = len(shards.split("train")) - len(left_out)
            size = automatic_batch_size(
                fresh_step, shards.patch_size, most, torch_device, otherwise=Options.batch_size
            )
            options = replace(options, batch_size=size)

        def stream_from(positions: dict[str, int] | None) -> TrainingStream:
            return TrainingStream(
                shards,
                options.batch_size,
                seed=options.seed,
                unlabeled_batch_size=options.batch_size if semi else 0,
                left_out=left_out,
                start=positions,
                num_workers=workers,
                pin_memory=torch_device.type == "cuda",
            )

        stream = stream_from(None if checkpoint is None else checkpoint["positions"])

        # Networks.
        torch.manual_seed(int(draw_bits(options.seed, "weights", 0, 1)[0] >> 1))
        fresh = checkpoint is None and weights is None
        network = create_generator(
            options.generator,
            shards.mapping.num_classes,
            options.encoder_weights if fresh else "none",
        )
        require_side(network, shards.patch_size)
        if weights is not None:
            _take_weights(network, weights, shards)
        elif checkpoint is not None:
            _take_normalisation(network, checkpoint, options)
        step = step_with(network)
        run = Run(options, shards, checkpoint_dir, step, stream, workers, computed)
        run.read_probes(probe_rows)
        if checkpoint is not None:
            run.go_on_from(checkpoint)
        _announce(run, torch_device, dtype)
        if run.iteration >= options.num_steps:
            console.print(
                f"All {run.iteration} iterations are done; a higher --num-steps extends them"
            )
        _check_disk(run, keep_checkpoints)
        saver = Saver(keep_checkpoints)

        # From here on things are written.
        if not resume:
            held.enter_context(lock_folder(checkpoint_dir, "training"))
            if not overwrite:  # another run may have come and gone
                refuse_to_overwrite(checkpoint_dir)
        try:
            with saver, _tracked(run):
                remove_leftovers(checkpoint_dir)
                if overwrite and not resume:
                    own = restore_from is not None and restore_from.parent.samefile(checkpoint_dir)
                    _remove_run(checkpoint_dir, run.iteration if own and checkpoint else 0)
                if checkpoint is not None:
                    keep_best_aside(checkpoint_dir, run.iteration)
                run.tracker.start(asdict(options), mode=wandb_mode, project=wandb_project)
                return _loop(run, saver)
        except NotFinite as error:
            raise WorkError(
                f"{error}; {where_it_began(run, stream_from)}; the checkpoints in {checkpoint_dir} "
                "are from before: salakseg train --resume with a lower --learning-rate"
            ) from error
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"out of GPU memory with --batch-size {options.batch_size}; try a smaller one, "
                f"--amp, or a smaller --generator; go on with salakseg train --resume "
                f"({str(error).splitlines()[0]})"
            ) from error


def _options(given: dict[str, Any], checkpoint: dict[str, Any] | None) -> Options:
    if "without" in given:
        given["without"] = tuple(sorted(map(str, given["without"])))
    if checkpoint is None:
        if given.get("method") == S4GAN_PAPER:
            given.setdefault("threshold_st", PAPER_THRESHOLD)
        options = Options(**given)
    else:
        known = {f.name for f in fields(Options)}
        kept = Options(**{k: v for k, v in checkpoint["options"].items() if k in known})
        options = replace(kept, **given)
        for name, value in given.items():
            before = getattr(kept, name)
            if value == before:
                continue
            option = f"--{name.replace('_', '-')}"
            if name in FIXED_OPTIONS:
                raise InputError(f"{option} {value}: the run has {before}, which cannot change")
            console.print(f"{option} is now {value}, was {before}")
    if options.method not in METHODS:
        raise InputError(f"--method {options.method}: use one of {', '.join(METHODS)}")
    for part in options.without:
        if part not in set(Part):
            raise InputError(f"--without {part}: use one of {', '.join(Part)}")
    if options.without and options.method != S4GAN:
        raise InputError(f"--without {options.without[0]}: is a part of --method {S4GAN} only")
    _fixed_threshold(options)
    for name in ("num_steps", "batch_size", "eval_every", "save_pred_every", "save_latest_every"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: must be at least 1")
    if not options.learning_rate > 0:
        raise InputError(f"--learning-rate {options.learning_rate}: must be above 0")
    for name in ("lambda_st", "lambda_fm"):
        if not getattr(options, name) >= 0:
            raise InputError(f"--{name.replace('_', '-')}: must be 0 or above")
    return options


def _whole_number(batch_size: int | str) -> int:
    try:
        return int(batch_size)
    except ValueError:
        raise InputError(f"--batch-size {batch_size}: must be {AUTO} or a number from 1") from None


def _recipe(options: Options, semi: bool) -> Recipe:
    return Recipe(
        method=options.method if semi else SUPERVISED,
        num_steps=options.num_steps,
        learning_rate=options.learning_rate,
        threshold_st=_fixed_threshold(options),
        lambda_st=options.lambda_st,
        lambda_fm=options.lambda_fm,
        seed=options.seed,
        pretrained=options.encoder_weights != "none",
        without=frozenset(map(Part, options.without)),
    )


def _fixed_threshold(options: Options) -> float | None:
    """The paper's γ, or None for acceptance by rank."""
    if options.threshold_st == AUTO:
        return None
    try:
        threshold = float(options.threshold_st)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise InputError(
            f"--threshold-st {options.threshold_st}: must be auto or a number from 0 to 1"
        )
    return threshold


def _require_same_run(checkpoint: dict[str, Any], shards: Shards) -> None:
    if checkpoint["classes"] != shards.mapping.as_plain():
        raise InputError(
            f"{shards.folder}: has other classes than the run that is gone on with; shard the "
            "data that it was trained on, or start a new run"
        )
    if checkpoint["shards"] != shards.fingerprint:
        raise InputError(
            f"{shards.folder}: other shards than the run was trained on, so it cannot be gone on "
            "with; --restore-from best_model.pth starts a new run from its weights"
        )


def _require_classes(shards: Shards) -> None:
    """Refuse masks from which nothing can be learnt; say where little can."""
    labelled, names = shards.split("train"), shards.mapping.names
    pixels = shards.class_pixels(labelled).sum(0)
    there = [name for name, count in zip(names, pixels, strict=True) if count]
    if len(labelled) and not there:
        raise InputError(
            f"{shards.folder}: no mask of a training patch holds a pixel of any class "
            f"({', '.join(names)}); see how they were read (salakseg index says it, and draws "
            "index/preview.png), put the class mapping right, then index and shard again"
        )
    if len(there) == 1:
        console.print(
            f"Warning: the masks of the training patches hold {there[0]} alone, of {len(names)} "
            "classes: all that can be learnt is to answer it everywhere"
        )


def _tell_differences(checkpoint: dict[str, Any], computed: dict[str, str]) -> None:
    """Say what lets the run go on to other bits than it would have had."""
    if checkpoint["format"] != CHECKPOINT_FORMAT:
        console.print(
            "The run was begun by an earlier version, which drew patches, views and held-out "
            "patches otherwise: it goes on, but not as it would have"
        )
    before = checkpoint.get("computed_with", {})
    others = [
        f"{name}: {computed.get(name)}, was {was}"
        for name, was in before.items()
        if computed.get(name) != was
    ]
    if others:
        console.print(
            f"Not computed as so far ({'; '.join(others)}): it goes on, to other last bits than on "
            "its own way"
        )


def _probe_rows(shards: Shards, seed: int) -> tuple[Rows, Rows]:
    """Labelled patches that G is not trained on, and those of them that measure who can judge
    images: of photographs that G does not see at all, where there are enough of them."""
    samples = shards.split("train")
    most = int(len(samples) * PROBE_SHARE)
    wanted = min(MOST_PROBES, most)
    if wanted < FEWEST_PROBES:
        return np.array([], np.int64), np.array([], np.int64)
    order = np.argsort(draw_bits(seed, "probe", 0, len(samples)), kind="stable")
    photos = np.asarray(samples.groupby(["folder", "base_image"]).ngroup(), np.int64)
    kept = _photos_to_keep(photos, shards.class_pixels(samples), most, wanted, seed)
    if not kept:
        rows = np.sort(order[:wanted])
        return rows, rows
    inside = np.isin(photos, kept)
    return np.flatnonzero(inside), np.sort(order[inside[order]][:wanted])


def _photos_to_keep(
    photos: Rows, class_pixels: Rows, most: int, wanted: int, seed: int
) -> list[int]:
    """Photographs to keep from G, of `most` patches together; [] where there are too few.

    None without which G would see less than half of a class.
    """
    patches = np.bincount(photos)
    pixels = np.zeros((len(patches), class_pixels.shape[1]), np.int64)
    np.add.at(pixels, photos, class_pixels)
    left, total = pixels.sum(0), 0
    enough = left / 2
    kept: list[int] = []
    for photo in np.argsort(draw_bits(seed, "probe photographs", 0, len(patches)), kind="stable"):
        if total + patches[photo] > most or (left - pixels[photo] < enough).any():
            continue
        kept.append(int(photo))
        total, left = total + patches[photo], left - pixels[photo]
        if len(kept) >= ENOUGH_PHOTOS and total >= wanted:
            break
    return kept if len(kept) >= FEWEST_PHOTOS and total >= FEWEST_PROBES else []


def _take_normalisation(network: Generator, checkpoint: dict[str, Any], options: Options) -> None:
    if "mean" in checkpoint:
        network.normalise_by(checkpoint["mean"], checkpoint["std"])
    elif options.encoder_weights == "imagenet":  # of an earlier version, which did not keep it
        normalise_as_pretrained(network)


def _take_weights(network: Generator, path: Path, shards: Shards) -> None:
    model = load_model(path)
    if model.mapping.names != shards.mapping.names:
        raise InputError(
            f"{path}: was trained on other classes ({', '.join(model.mapping.names)}) than "
            f"{shards.folder} has ({', '.join(shards.mapping.names)})"
        )
    try:
        network.load_state_dict(model.generator.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{path}: is a {model.generator.name}; give --generator {model.generator.name}"
        ) from error
    network.normalise_by(
        model.generator.mean.flatten().tolist(), model.generator.std.flatten().tolist()
    )
    console.print(
        f"Starting at iteration 0 with the weights of {path}; the optimisers' state, the "
        "discriminator and the learning-rate schedule of its run are lost"
    )


def _remove_run(folder: Path, iteration: int) -> None:
    """Remove the run in `folder`; or, gone back in to `iteration`, what comes after that."""
    if iteration:
        later = [path for number, path in periodic(folder) if number > iteration]
        for path in (*later, *folder.glob("final_model*.pth"), folder / "run.json"):
            path.unlink(missing_ok=True)
        return
    # The checkpoints first: without them nothing takes the rest for a run.
    for pattern in ("*checkpoint*.pth", "*_model*.pth", "*.csv", "curves.png", "run.json"):
        for path in folder.glob(pattern):
            path.unlink()


class Stopped(Exception):
    """An evaluation was broken off by a signal."""


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
            patches = Patches(self.shards, {"train": "train"})
            size = self.options.batch_size
            self.probes = [
                patches.read("train", part)
                for part in np.split(rows, np.arange(size, len(rows), size))
            ]

    def consult(self, say: bool = True) -> None:
        """Let the doctor read the log; say what is new."""
        found = diagnose(
            *read_log(self.folder),
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

    def choose_judge(self) -> Probe | None:
        """Measure who judges images best, and listen to it from here on; None without probes."""
        if not self.probes:
            return None
        probe = self.step.probe(self.probes)
        self.step.image_trust.listen_to(probe.judge)
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
            "classes": self.shards.mapping.as_plain(),
            "shards": self.shards.fingerprint,
        }

    def go_on_from(self, checkpoint: dict[str, Any]) -> None:
        """Take over a full checkpoint; the stream was started at its positions."""
        try:
            self.step.load_state_dict(checkpoint)
            self.iteration = checkpoint["iteration"]
            self.evaluation_due = checkpoint.get("evaluation_due", False)
            self.best_val_miou = checkpoint["best_val_miou"]
            self.best_iteration = checkpoint["best_iteration"]
            self.val_confusion = as_array(checkpoint["val_confusion"])
            # Checkpoints of earlier versions have none.
            self.val_confusions = as_array(checkpoint.get("val_confusions"))
            self.tracker.run_id = checkpoint["wandb_id"]
            # Sums on a CPU depend on how many threads share them.
            torch.set_num_threads(checkpoint["threads"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"the checkpoint does not fit this run ({str(error).splitlines()[0]})"
            ) from error

    def described_model(self, on_batch: Callable[[int], object] = lambda _: None) -> Model:
        """`model`, with what its labelled patches are like; that takes a pass over some of them.

        Args:
            on_batch: called with the number of patches of each batch before it is read.
        """
        model, samples = self.model(), self.shards.split("train")
        rows = described_rows(len(samples))
        patches = Patches(self.shards, {"train": "train"})
        size = self.options.batch_size
        features = []
        for part in np.split(rows, np.arange(size, len(rows), size)):
            on_batch(len(part))
            images = patches.read("train", part).images.to(self.step.device)
            features.append(features_of(model, images, self.options.amp))
        photo = samples.iloc[rows].groupby(["folder", "base_image"]).ngroup().to_numpy()
        return replace(model, applicability=applicability_of(np.concatenate(features), photo))

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
                "salakseg": salakseg.__version__,
                "torch": str(torch.__version__),
            },
            val_confusions=self.val_confusions,
            white_level=self.shards.white_level,
        )


def _announce(run: Run, device: torch.device, dtype: torch.dtype | None) -> None:
    counts = run.shards.samples.split.value_counts()
    options = run.options
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the {device.type}"
    precision = "float32" if dtype is None else f"{str(dtype).removeprefix('torch.')} (AMP)"
    console.print(
        f"{run.step.recipe.method}: {options.generator}, {run.shards.mapping.num_classes} classes, "
        f"on {where} in {precision}, {options.num_steps} iterations"
    )
    parts = [f"{counts.get('train', 0)} labelled patches"]
    if run.probes:
        held = sum(len(batch.entries) for batch in run.probes)
        parts[0] += f" ({held} of them kept to judge the judges)"
    if "unlabeled" in run.stream.positions:
        parts.append(f"{counts.get('unlabeled', 0)} unlabelled")
    parts.append(f"{counts.get('val', 0)} for validation")
    console.print(", ".join(parts) + f"; batch size {options.batch_size}")
    if not run.has_val:
        what = "No validation patch holds a class" if counts.get("val") else "No validation patches"
        console.print(f"{what}: best_model.pth will not be written")


@contextmanager
def _tracked(run: Run) -> Iterator[None]:
    """Finish the run on W&B however it ends."""
    try:
        yield
    except BaseException as error:
        run.tracker.finish(exit_code=130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
    run.tracker.finish()


def _check_disk(run: Run, keep: int | None) -> None:
    """Say what the run will write, and refuse where the first two checkpoints do not fit."""
    step, options = run.step, run.options
    # G, the teacher and two moments of AdamW; D and two moments of Adam.
    size = 4 * _bytes(step.generator)
    size += 0 if step.discriminator is None else 3 * _bytes(step.discriminator)
    periodic = -(-options.num_steps // options.save_pred_every)
    kept = periodic if keep is None else min(keep, periodic)
    console.print(
        f"Checkpoints: {format_bytes(size)} each, {kept} kept by the end"
        + (" (--keep-checkpoints N keeps fewer)" if kept > 2 else "")
    )
    require_disk_space(run.folder, 2 * size, "a pair of checkpoints")


def _bytes(network: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _loop(run: Run, saver: Saver) -> dict[str, Any]:
    options, step, folder = run.options, run.step, run.folder
    names = run.shards.mapping.names
    log = CsvLog(folder / "log.csv", log_columns(names), run.iteration, run.evaluation_due)
    timing = CsvLog(folder / "timing.csv", TIMING_COLUMNS, run.iteration)
    run.consult(say=False)
    # From the first iteration on there is something to go on from, and to replay from.
    saver.save(checkpoint_file(folder / LATEST, run.checkpoint()))
    saver.wait()
    began = last_time = time.monotonic()
    first = last_iteration = run.iteration
    loading = saving = 0.0
    with (
        keep_awake(),
        _interruptible() as interrupted,
        _bar(options.num_steps) as (bars, task),
        closing(iter(run.stream)) as batches,
    ):

        def stop_evaluating(_: int = 0) -> None:
            if interrupted:
                raise Stopped

        while run.iteration < options.num_steps or run.evaluation_due:
            if not run.evaluation_due:
                # One iteration.
                asked = time.monotonic()
                labeled, unlabeled = next(batches)
                loading += time.monotonic() - asked
                run.iteration += 1
                if run.iteration == first + 1:
                    with operations_without_determinism() as others:
                        step(run.iteration, labeled, unlabeled)
                    _tell_others(others)
                else:
                    step(run.iteration, labeled, unlabeled)

            # What is due after it, each a function of the iteration alone.
            done = run.iteration == options.num_steps
            if run.iteration - first == TIMED_ITERATIONS and step.device.type == "cpu":
                _tell_duration(run, time.monotonic() - began)
            if not run.evaluation_due and (run.iteration % LOG_EVERY == 0 or done):
                row = _take_losses(run)
                log.write(row)
                now = time.monotonic()
                rate = (run.iteration - last_iteration) / (now - last_time)
                times = {
                    "iteration": run.iteration,
                    "seconds": now - began,
                    "iterations_per_second": rate,
                    "loading_share": loading / (now - last_time),
                    "saving_share": saving / (now - last_time),
                    "gpu_memory_mb": gpu_memory_mb(step.device),
                }
                timing.write(times)
                run.tracker.log_iteration(run.iteration, row, times)
                last_time, last_iteration, loading, saving = now, run.iteration, 0.0, 0.0
                line = iteration_line(
                    run.iteration, options.num_steps, row, int(step.last_st_count)
                )
                console.print(line)
                bars.update(task, rate=f"{rate:.2f} it/s")
            files: dict[Path, Any] = {}
            if run.evaluation_due or run.iteration % options.eval_every == 0 or done:
                run.evaluation_due = True
                before = run.checkpoint()
                try:
                    row, best = _evaluate(run, stop_evaluating)
                except Stopped:
                    _require_numbers(run)
                    files |= model_files(folder, "latest", run.model(), step.discriminator)
                    saver.save(files | checkpoint_file(folder / LATEST, before))
                    _stop(run, saver)
                run.evaluation_due = False
                log.write(row)
                _draw_curves(folder)
                run.consult(say=not done)  # the summary says it at the end
                if best is not None:
                    files |= model_files(folder, "best", best, step.discriminator)
            if run.iteration % options.save_pred_every == 0 or done:
                path = folder / f"checkpoint_{run.iteration}.pth"
                files |= checkpoint_file(path, run.checkpoint())
            if run.iteration % options.save_latest_every == 0 or done or interrupted:
                files |= model_files(folder, "latest", run.model(), step.discriminator)
                files |= checkpoint_file(folder / LATEST, run.checkpoint())
            if files:
                _require_numbers(run)
                asked = time.monotonic()
                saver.save(files)
                saving += time.monotonic() - asked
            bars.update(task, completed=run.iteration)
            if interrupted and not done:
                _stop(run, saver)
    saver.save(model_files(folder, "final", run.described_model(), step.discriminator))
    saver.close()
    return _finish(run, time.monotonic() - began)


def _stop(run: Run, saver: Saver) -> NoReturn:
    saver.close()
    console.print(
        f"Stopped after iteration {run.iteration}, nothing is lost. Go on with: "
        f"salakseg train --resume --checkpoint-dir {run.folder}"
    )
    raise Stop


def _tell_others(operations: set[str]) -> None:
    if operations:
        console.print(
            f"Of {', '.join(sorted(operations))} torch has no form here that gives the same bits "
            "each time: a resumed run will differ from an unbroken one in its last bits"
        )


def _draw_curves(folder: Path) -> None:
    try:
        draw_curves(folder)
    except (OSError, InputError) as error:  # a picture is not worth a run
        console.print(f"Warning: curves.png was not drawn ({error})")


def _take_losses(run: Run) -> dict[str, Any]:
    """Mean losses since the last call, as a row of log.csv; the one wait for the device."""
    step = run.step
    _require_numbers(run)
    *sums, count = step.totals.tolist()
    step.totals.zero_()
    means = [value / count for value in sums]
    row = {"iteration": run.iteration, **dict(zip(LOSS_NAMES, means, strict=True))}
    row["learning_rate"] = step.optimizer.param_groups[0]["lr"]
    return row


def _require_numbers(run: Run) -> None:
    """Stop before a good checkpoint is replaced by one that holds NaN."""
    if not is_finite(run.step):
        raise NotFinite(f"iteration {run.iteration}: the losses are no numbers any more")


def _evaluate(run: Run, on_batch: Callable[[int], object]) -> tuple[dict[str, Any], Model | None]:
    """Score the teacher on the validation patches: a row of log.csv, and the model if it is the
    best so far. What `on_batch` raises may leave `run` half-way: go on from a checkpoint then."""
    step = run.step
    console.print(evaluation_head(run.iteration))
    train = scores(step.train_confusion.cpu())
    step.train_confusion = torch.zeros_like(step.train_confusion)
    row: dict[str, Any] = {"iteration": run.iteration, "train_miou": train.miou}
    probe = run.choose_judge()
    if probe is not None:
        row |= {
            "rank_correlation_d": probe.discriminator,
            "rank_correlation_confidence": probe.confidence,
        }
    judge = "" if step.discriminator is None else step.image_trust.judge
    row["judge"] = judge
    val = best = None
    if run.has_val:
        confusions = confusions_on_split(
            run.model(),
            run.shards,
            "val",
            batch_size=max(run.options.batch_size, 8),
            num_workers=run.num_workers,
            amp=run.options.amp,
            on_batch=on_batch,
        )
        run.val_confusion, run.val_confusions = confusions.sum(0), some_photos(confusions)
        val = scores(run.val_confusion)
        row |= {"val_miou": val.miou, **iou_columns(run.shards.mapping.names, val)}
        if val.miou > run.best_val_miou:
            run.best_val_miou, run.best_iteration = val.miou, run.iteration
            best = run.described_model(on_batch)
    if run.tracker.active:
        sheet = {"validation": prediction_sheet(run.model(), run.shards)} if run.has_val else None
        run.tracker.log_evaluation(run.iteration, train.miou, val, run.shards.mapping.names, sheet)
    score = (run.best_val_miou, run.best_iteration)
    print_evaluation(run.shards.mapping, train, val, probe, judge, score, best is not None)
    return row, best


def _finish(run: Run, seconds: float) -> dict[str, Any]:
    best = None if run.best_iteration == 0 else run.best_val_miou
    content = {
        "options": asdict(run.options),
        "method": run.step.recipe.method,
        "iterations": run.iteration,
        "best_val_miou": best,
        "best_iteration": run.best_iteration,
        "final_val_miou": None if run.val_confusion is None else scores(run.val_confusion).miou,
        "advice": [asdict(advice) for advice in run.advice],
        "seconds_of_last_start": round(seconds, 1),
        "salakseg": salakseg.__version__,
        "torch": str(torch.__version__),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(run.step.device),
    }
    write_text(run.folder / "run.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if run.advice:
        console.print("Advice on this run:")
    for advice in run.advice:
        console.print(f"  Iteration {advice.iteration}: {advice.text}")
    if best is not None:
        console.print(
            f"Done. Best validation mIoU {best:.4f} at iteration {run.best_iteration}: "
            f"{run.folder / 'best_model.pth'}. Next: salakseg eval best_model.pth"
        )
    else:
        console.print(f"Done: {run.folder / 'final_model.pth'}")
    return content


def _tell_duration(run: Run, seconds: float) -> None:
    left = run.options.num_steps - run.iteration
    total = seconds / TIMED_ITERATIONS * left
    text = f"about {total / 3600:.1f} h" if total > 5400 else f"about {max(1, total / 60):.0f} min"
    console.print(
        f"This will take {text} on this CPU, without the evaluations"
        + (
            "; to try things out: --num-steps 300 --generator tiny; for a real run, use a GPU"
            if total > 1800
            else ""
        )
    )


@contextmanager
def _bar(num_steps: int) -> Iterator[tuple[Progress, Any]]:
    columns = (
        TextColumn("Iter {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[rate]} · left"),
        TimeRemainingColumn(),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        yield bars, bars.add_task("", total=num_steps, rate="")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Signals that ask to stop fill the list that this gives; a second one stops at once."""
    received: list[int] = []

    def note(number: int) -> None:
        if received:
            raise Stop
        received.append(number)
        console.print("Stopping after this iteration (once more: at once) …")

    with on_stop(note):
        yield received
