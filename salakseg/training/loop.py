"""train(): the run. Shards in, `checkpoints/` out.

From top to bottom: options, data, networks, loop. Every draw is a pure function of the seed and of
what it is for, and every schedule one of the iteration, so a run that goes on from a checkpoint
takes the same way as one that was never stopped.
"""

import time
from contextlib import ExitStack, closing
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from salakseg.console import console
from salakseg.data.random_numbers import draw_bits
from salakseg.data.shards import read_shards
from salakseg.data.stream import TrainingStream, reader_threads
from salakseg.device import (
    autocast_dtype,
    computed_with,
    keep_awake,
    operations_without_determinism,
    out_of_memory_is,
    select_device,
    set_determinism,
    settings_kept,
)
from salakseg.distributed import (
    any_of,
    from_first,
    is_first,
    joined,
    rank,
    was_restarted,
    world_size,
)
from salakseg.errors import InputError, WorkError
from salakseg.files import lock_folder
from salakseg.model.generator import Generator, create_generator, require_side
from salakseg.signals import Stop, stops_noted
from salakseg.training.batch_size import automatic_batch_size
from salakseg.training.checkpoint import (
    LATEST,
    checkpoint_file,
    holds_run,
    model_files,
    refuse_to_overwrite,
)
from salakseg.training.monitor import (
    draw_curves_if_possible,
    gpu_memory_mb,
    iteration_bar,
    iteration_line,
)
from salakseg.training.options import (
    AUTO,
    S4GAN,
    SUPERVISED,
    Options,
    recipe_of,
    whole_number,
)
from salakseg.training.probes import probe_rows
from salakseg.training.replay import where_it_began
from salakseg.training.run import Run
from salakseg.training.run_log import TIMING_COLUMNS, CsvLog, log_columns
from salakseg.training.run_report import (
    TIMED_ITERATIONS,
    announce,
    check_disk,
    finish,
    tell_duration,
    tell_others,
)
from salakseg.training.saver import Saver
from salakseg.training.start import (
    options_of,
    require_classes,
    require_same_run,
    take_normalisation,
    take_weights,
    tell_differences,
    tidied,
    what_there_is,
)
from salakseg.training.step import NotFinite, Step
from salakseg.training.tracking import tracked

LOG_EVERY = 100


def train(
    *,
    shards_dir: Path | str = "shards",
    checkpoint_dir: Path | str = Path("checkpoints"),
    resume: bool = False,
    restore_from: Path | str | None = None,
    overwrite: bool = False,
    keep_checkpoints: int | None = None,
    num_workers: int | None = None,
    cache_dir: Path | str | None = None,
    cache_size: float | None = None,
    device: str = "auto",
    deterministic: bool = True,
    wandb_mode: str | None = None,
    wandb_project: str | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Train S4GAN, or its labelled part alone, on the patches of `shards_dir`.

    Args:
        shards_dir, cache_dir, cache_size: what `shard` wrote, as `read_shards` takes them.
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
        given: fields of `training.options.Options`. Those that are left out, or None, keep the
            value of the run that is gone on with, or take the default. `batch_size` may be "auto".

    Returns:
        The content of `run.json`.

    Raises:
        InputError: no shards, no labelled patches, options or files that do not fit.
        WorkError: a save failed, memory ran out, the losses are no numbers any more.
        KeyboardInterrupt: after Ctrl-C (or another of `salakseg.signals`) and a save.
    """
    known = {field.name for field in fields(Options)}
    if unknown := sorted(given.keys() - known):
        raise TypeError(f"train() got an unexpected keyword argument {unknown[0]!r}")
    given = {name: value for name, value in given.items() if value is not None}
    automatic = given.get("batch_size") == AUTO
    if automatic:
        del given["batch_size"]
    elif "batch_size" in given:
        given["batch_size"] = whole_number(given["batch_size"])
    checkpoint_dir = Path(checkpoint_dir)
    restore_from = None if restore_from is None else Path(restore_from)

    if resume and restore_from is not None:
        raise InputError(
            f"--resume goes on in {checkpoint_dir}, --restore-from from {restore_from}: give one"
        )
    with ExitStack() as held:
        held.enter_context(settings_kept())
        held.enter_context(joined())

        # What to go on from.
        if from_first(lambda: was_restarted() and holds_run(checkpoint_dir)):
            resume, restore_from = True, None
        checkpoint, weights = from_first(
            lambda: what_there_is(checkpoint_dir, resume, restore_from, overwrite, held)
        )
        options = options_of(given, checkpoint)

        # Data.
        processes = world_size()
        shards = read_shards(shards_dir, cache_dir, cache_size)
        if checkpoint is not None:
            require_same_run(checkpoint, shards)
        require_classes(shards)
        torch_device = select_device(device)
        dtype = autocast_dtype(torch_device, options.amp)
        set_determinism(deterministic)
        if not deterministic:
            console.print("Not deterministic: a resumed run will differ from an unbroken one")
        computed = computed_with(torch_device, dtype, deterministic)
        if checkpoint is not None:
            tell_differences(checkpoint, computed)
        workers = reader_threads(num_workers, torch_device)
        semi = options.method != SUPERVISED
        if semi and not (shards.samples.split == "unlabeled").any():
            semi = False
            console.print(
                "No unlabelled patches in the shards: training on the labelled ones alone"
            )
        recipe = recipe_of(options, semi)
        none = np.array([], np.int64)
        # Only acceptance by rank has a judge to choose.
        ranked = recipe.method == S4GAN and recipe.threshold_st is None
        left_out, probes = probe_rows(shards, options.seed) if ranked else (none, none)

        def step_with(network: Generator) -> Step:
            return Step(network, shards.mapping.num_classes, recipe, torch_device, dtype)

        def fresh_step() -> Step:
            classes, bands = shards.mapping.num_classes, shards.band_set
            return step_with(create_generator(options.generator, classes, "none", bands))

        if automatic and checkpoint is not None:
            console.print(f"--batch-size {AUTO}: the run keeps its {options.batch_size}")
        elif automatic:
            most = len(shards.split("train")) - len(left_out)
            batch_size = from_first(
                lambda: automatic_batch_size(
                    fresh_step,
                    shards.patch_size,
                    most,
                    torch_device,
                    otherwise=Options.batch_size,
                    processes=processes,
                )
            )
            options = replace(options, batch_size=batch_size)

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
                rank=rank(),
                world_size=processes,
            )

        stream = stream_from(None if checkpoint is None else checkpoint["positions"])

        # Networks.
        torch.manual_seed(int(draw_bits(options.seed, "weights", 0, 1)[0] >> 1))
        fresh = checkpoint is None and weights is None
        network = create_generator(
            options.generator,
            shards.mapping.num_classes,
            options.encoder_weights if fresh and is_first() else "none",
            shards.band_set,
        )
        require_side(network, shards.patch_size)
        if weights is not None and is_first():
            take_weights(network, weights, shards)
        elif checkpoint is not None:
            take_normalisation(network, checkpoint, options)
        step = step_with(network)
        run = Run(options, shards, checkpoint_dir, step, stream, workers, computed)
        run.read_probes(probes)
        if checkpoint is not None:
            run.go_on_from(checkpoint)
        announce(run, torch_device, dtype)
        if run.iteration >= options.num_steps:
            console.print(
                f"All {run.iteration} iterations are done; a higher --num-steps extends them"
            )
        if is_first():
            check_disk(run, keep_checkpoints)
        saver = Saver(keep_checkpoints)

        # From here on things are written.
        if is_first() and not resume:
            held.enter_context(lock_folder(checkpoint_dir, "training"))
            if not overwrite:  # another run may have come and gone
                refuse_to_overwrite(checkpoint_dir)
        try:
            with (
                out_of_memory_is(
                    f"--batch-size {options.batch_size} is too much; try a --micro-batch of a part "
                    "of it, a smaller one, --amp, or a smaller --generator; go on with salakseg "
                    "train --resume"
                ),
                saver,
                tracked(run.tracker),
            ):
                run.best_val_miou, run.best_iteration = from_first(
                    lambda: tidied(run, checkpoint, resume, restore_from, overwrite)
                )
                if is_first():
                    run.tracker.start(asdict(options), mode=wandb_mode, project=wandb_project)
                return _loop(run, saver)
        except NotFinite as error:
            raise WorkError(
                f"{error}; {where_it_began(run, stream_from)}; the checkpoints in {checkpoint_dir} "
                "are from before: salakseg train --resume with a lower --learning-rate"
            ) from error


def _loop(run: Run, saver: Saver) -> dict[str, Any]:
    options, step, folder = run.options, run.step, run.folder
    names = run.shards.mapping.names
    log = CsvLog(folder / "log.csv", log_columns(names), run.iteration, run.evaluation_due)
    timing = CsvLog(folder / "timing.csv", TIMING_COLUMNS, run.iteration)
    run.consult(log, timing, say=False)
    # From the first iteration on there is something to go on from, and to replay from.
    saver.save(checkpoint_file(folder / LATEST, run.checkpoint()))
    saver.wait()
    began = last_time = time.monotonic()
    first = last_iteration = run.iteration
    loading = saving = 0.0
    with (
        keep_awake(),
        stops_noted(
            lambda: console.print("Stopping after this iteration (once more: at once) …")
        ) as interrupted,
        iteration_bar(options.num_steps) as (bars, task),
        closing(iter(run.stream)) as batches,
    ):

        def stop_if_asked(checkpoint: dict[str, Any], _: int) -> None:
            """End half-way through something; it begins anew from this checkpoint."""
            if any_of(bool(interrupted)):
                run.require_numbers()
                files = model_files(folder, "latest", run.model(), step.discriminator)
                saver.save(files | checkpoint_file(folder / LATEST, checkpoint))
                _stop(run, saver)

        while run.iteration < options.num_steps or run.evaluation_due:
            if not run.evaluation_due:
                # One iteration.
                run.decide_on_self_training(
                    run.iteration + 1, lambda n: stop_if_asked(run.checkpoint(), n)
                )
                asked = time.monotonic()
                labeled, unlabeled = next(batches)
                loading += time.monotonic() - asked
                run.iteration += 1
                if run.iteration == first + 1:
                    with operations_without_determinism() as others:
                        step(run.iteration, labeled, unlabeled)
                    tell_others(others)
                else:
                    step(run.iteration, labeled, unlabeled)

            # What is due after it, each a function of the iteration alone.
            done = run.iteration == options.num_steps
            if run.iteration - first == TIMED_ITERATIONS and step.device.type == "cpu":
                tell_duration(run, time.monotonic() - began)
            if not run.evaluation_due and (run.iteration % LOG_EVERY == 0 or done):
                row = run.take_losses()
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
                accepted = int(step.last_st_count)
                console.print(iteration_line(run.iteration, options.num_steps, row, accepted))
                bars.update(task, rate=f"{rate:.2f} it/s")
            files: dict[Path, Any] = {}
            if run.evaluation_due or run.iteration % options.eval_every == 0 or done:
                run.evaluation_due = True
                before = run.checkpoint()
                row, best = run.evaluate(partial(stop_if_asked, before))
                run.evaluation_due = False
                if best is not None:
                    files |= model_files(folder, "best", best, step.discriminator)
                log.write(row)
                if is_first():
                    draw_curves_if_possible(folder, log)
                run.consult(log, timing, say=not done)  # the summary says it at the end
            stopping = any_of(bool(interrupted))
            if run.iteration % options.save_pred_every == 0 or done:
                path = folder / f"checkpoint_{run.iteration}.pth"
                files |= checkpoint_file(path, run.checkpoint())
            if run.iteration % options.save_latest_every == 0 or done or stopping:
                files |= model_files(folder, "latest", run.model(), step.discriminator)
                files |= checkpoint_file(folder / LATEST, run.checkpoint())
            if files:
                run.require_numbers()
                asked = time.monotonic()
                saver.save(files)
                saving += time.monotonic() - asked
            bars.update(task, completed=run.iteration)
            if stopping and not done:
                _stop(run, saver)
    final = run.described_model()
    saver.save(model_files(folder, "final", final, step.discriminator))
    saver.close()
    return finish(run, final, time.monotonic() - began)


def _stop(run: Run, saver: Saver) -> NoReturn:
    saver.close()
    console.print(
        f"Stopped after iteration {run.iteration}, nothing is lost. Go on with: "
        f"salakseg train --resume --checkpoint-dir {run.folder}"
    )
    raise Stop
