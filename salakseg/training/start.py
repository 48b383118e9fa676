"""What a run starts from (a checkpoint, a model's weights, or nothing), and whether that fits."""

from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from salakseg.console import console
from salakseg.data.shards import Shards
from salakseg.errors import InputError
from salakseg.files import lock_folder, require_folder
from salakseg.model.generator import Generator, normalise_as_pretrained, widened
from salakseg.model.guide import of_the_guide
from salakseg.model.torch_files import read_torch_file
from salakseg.model.weights import MODEL_FORMAT, bring_to, load_model
from salakseg.training.checkpoint import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_FORMATS,
    RUN_FILES,
    keep_best_aside,
    newest_checkpoint,
    refuse_to_overwrite,
)
from salakseg.training.options import (
    PAPER_THRESHOLD,
    S4GAN_PAPER,
    Options,
    abouts,
    option_name,
    require_good,
)
from salakseg.training.run import Run
from salakseg.training.saved_files import periodic, remove_leftovers


def what_there_is(
    folder: Path, resume: bool, restore_from: Path | None, overwrite: bool, held: ExitStack
) -> tuple[dict[str, Any] | None, Path | None]:
    """What to go on from: a checkpoint, a model whose weights are taken, or neither.

    Args:
        held: keeps the lock on a folder that is gone on in.

    Raises:
        InputError: `folder` holds a run that is neither resumed nor overwritten, or nothing whole.
    """
    if not resume:
        if not overwrite:
            refuse_to_overwrite(folder)
        return (None, None) if restore_from is None else read_start(restore_from)
    require_folder(folder, "nothing to resume from; start anew without --resume")
    # First of all: whoever has the folder may be about to save.
    held.enter_context(lock_folder(folder, "training"))
    path, checkpoint, damaged = newest_checkpoint(folder)
    for line in damaged:
        console.print(f"Passed over: {line}")
    console.print(f"Going on from {path}, iteration {checkpoint['iteration']}")
    return checkpoint, None


def read_start(path: Path) -> tuple[dict[str, Any] | None, Path | None]:
    """The checkpoint that a file is, or the file again if it is a model, whose weights are taken.

    Raises:
        InputError: neither, missing or damaged.
    """
    content = read_torch_file(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found == MODEL_FORMAT or of_the_guide(content) is not None:
        return None, path
    if found not in CHECKPOINT_FORMATS:
        raise InputError(f"{path}: neither a checkpoint nor a model of this program")
    console.print(f"Going on from {path}, iteration {content['iteration']}")
    return content, None


def options_of(given: dict[str, Any], checkpoint: dict[str, Any] | None) -> Options:
    """The options given, over those of the run that is gone on with, or over the defaults.

    Raises:
        InputError: one that cannot be, or cannot change.
    """
    if "without" in given:
        given["without"] = tuple(sorted(map(str, given["without"])))
    if checkpoint is None:
        if given.get("method") == S4GAN_PAPER:
            given.setdefault("threshold_st", PAPER_THRESHOLD)
        options = Options(**given)
    else:
        known = {field.name for field in fields(Options)}
        kept = Options(**{k: v for k, v in checkpoint["options"].items() if k in known})
        options = replace(kept, **given)
        about = abouts()
        for name, value in given.items():
            before = getattr(kept, name)
            if value == before:
                continue
            if about[name].fixed:
                raise InputError(
                    f"{option_name(name)} {value}: the run has {before}, which cannot change"
                )
            console.print(f"{option_name(name)} is now {value}, was {before}")
    require_good(options)
    return options


def require_same_run(checkpoint: dict[str, Any], shards: Shards) -> None:
    """Raise `InputError` unless these are the shards, and the classes, of the run."""
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


def require_classes(shards: Shards) -> None:
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


def tell_differences(checkpoint: dict[str, Any], computed: dict[str, str]) -> None:
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


def take_normalisation(network: Generator, checkpoint: dict[str, Any], options: Options) -> None:
    """Give the network the mean and deviation that the run has been trained with."""
    if "mean" in checkpoint:
        network.normalise_by(checkpoint["mean"], checkpoint["std"])
    elif options.encoder_weights == "imagenet":  # of an earlier version, which did not keep it
        normalise_as_pretrained(network)


def take_weights(network: Generator, path: Path, shards: Shards) -> None:
    """Give the network the weights and normalisation of a model file; `InputError` where they do
    not fit."""
    model = load_model(path, mapping=shards.mapping)
    if model.mapping.names != shards.mapping.names:
        raise InputError(
            f"{path}: was trained on other classes ({', '.join(model.mapping.names)}) than "
            f"{shards.folder} has ({', '.join(shards.mapping.names)})"
        )
    if model.band_set is None and shards.band_set is not None:
        model.generator = widened(model.generator, shards.band_set)
    bring_to(model, shards.band_set, str(shards.folder))
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


def tidied(
    run: Run,
    checkpoint: dict[str, Any] | None,
    resume: bool,
    restore_from: Path | None,
    overwrite: bool,
) -> tuple[float, int]:
    """Make the folder fit what the run goes on from; score and iteration of the best model left."""
    remove_leftovers(run.folder)
    beside = run.folder if restore_from is None else restore_from.parent
    if overwrite and not resume:
        own = checkpoint is not None and beside.samefile(run.folder)
        remove_run(run.folder, run.iteration if own else 0)
    if checkpoint is not None:
        keep_best_aside(run.folder, run.iteration)
        run.keep_or_forget_best(checkpoint, beside, resume)
    return run.best_val_miou, run.best_iteration


def remove_run(folder: Path, iteration: int) -> None:
    """Remove the run in `folder`; or, gone back in to `iteration`, what comes after that."""
    if iteration:
        later = [path for number, path in periodic(folder) if number > iteration]
        for path in (*later, *folder.glob("final_model*.pth"), folder / "run.json"):
            path.unlink(missing_ok=True)
        return
    for pattern in RUN_FILES:
        for path in folder.glob(pattern):
            path.unlink()
