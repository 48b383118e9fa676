"""The options that a run keeps over its interruptions, their checks, and the recipe they make."""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.model.generator import DEFAULT_GENERATOR

S4GAN, S4GAN_PAPER, SUPERVISED = "s4gan", "s4gan-paper", "supervised"
METHODS = (S4GAN, S4GAN_PAPER, SUPERVISED)
AUTO = "auto"
# The paper's γ, for Pascal VOC.
PAPER_THRESHOLD = 0.6
# What the weights and the state in a checkpoint were made with.
FIXED_OPTIONS = ("method", "generator", "seed")


class Part(StrEnum):
    """What can be left out of `s4gan`, to see what it brings; λ = 0 leaves out a loss."""

    CUTMIX = "cutmix"
    LABELED_CUTMIX = "labelled-cutmix"
    TEACHER_FLIP = "teacher-flip"
    STRONG_COLOR = "strong-colour"
    PIXEL_TRUST = "pixel-trust"
    IMAGE_TRUST = "image-trust"
    SUPERVISED_START = "supervised-start"


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of a run, apart from networks and data.

    Attributes:
        method: `s4gan`; `s4gan-paper`: the paper's losses; or `supervised`: the labelled part
            alone.
        num_steps: iterations of the whole run; schedules are parts of it.
        learning_rate: of new layers; pretrained encoders learn at a third of it.
        threshold_st: the paper's γ on D's probability, or None for acceptance by rank.
        lambda_st, lambda_fm: weights of the two losses.
        seed: of every draw.
        pretrained: whether the encoder starts from given weights.
        without: what `s4gan` is to do without.
    """

    method: str
    num_steps: int
    learning_rate: float
    threshold_st: float | None
    lambda_st: float
    lambda_fm: float
    seed: int
    pretrained: bool
    without: frozenset[Part] = frozenset()


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


def options_of(given: dict[str, Any], checkpoint: dict[str, Any] | None) -> Options:
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


def whole_number(batch_size: int | str) -> int:
    try:
        return int(batch_size)
    except ValueError:
        raise InputError(f"--batch-size {batch_size}: must be {AUTO} or a number from 1") from None


def recipe_of(options: Options, semi: bool) -> Recipe:
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
