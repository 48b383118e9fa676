"""The options that a run keeps over its interruptions, and the recipe that they make.

An option is declared once, as a field of `Options`: its type and default, what `--help` says of it,
what it may be, and whether a run can be gone on with by another. Imports nothing heavy: the command
line reads it to start.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

from salakseg.errors import InputError
from salakseg.model.names import DEFAULT_GENERATOR, SHORT_NAMES

S4GAN, S4GAN_PAPER, SUPERVISED = "s4gan", "s4gan-paper", "supervised"
METHODS = (S4GAN, S4GAN_PAPER, SUPERVISED)
AUTO = "auto"
# The paper's γ, for Pascal VOC.
PAPER_THRESHOLD = 0.6
# Labelled images get half of the strong view's colours.
LABELED_COLOR = 0.5
# Groups in the help.
NETWORK, UNLABELLED, WHEN, MACHINE = "Network", "What is unlabelled", "How often", "Machine"


class Part(StrEnum):
    """What can be left out of `s4gan`, to see what it brings; λ = 0 leaves out a loss."""

    CUTMIX = "cutmix"
    LABELED_CUTMIX = "labelled-cutmix"
    STRONG_COLOR = "strong-colour"
    CLASS_SHARES = "class-shares"
    PIXEL_TRUST = "pixel-trust"
    IMAGE_TRUST = "image-trust"
    SUPERVISED_START = "supervised-start"
    LIKENESS = "likeness"


@dataclass(frozen=True)
class About:
    """What there is to know of an option beside its type and default.

    Attributes:
        help: a line; the default is added to it, unless the line says it.
        group: its heading in the help, "" for the first one.
        choices: what it may be, () for anything.
        least, above: its smallest value; the number that it must exceed.
        fixed: the weights and the state in a checkpoint were made with it, so it cannot change.
        typed, metavar: its type on the command line, where that is another, and what stands for it.
    """

    help: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    fixed: bool = False
    typed: Any = None
    metavar: str = ""


@dataclass(frozen=True)
class Options:
    """The options that a run keeps over its interruptions.

    Attributes:
        method: s4gan, s4gan-paper or supervised.
        num_steps: iterations of the whole run.
        batch_size: labelled patches an iteration, and as many unlabelled ones. `train` takes "auto"
            too: the largest power of two that fits in the GPU's memory, found out at the start.
        generator: see `model.generator.create_generator`.
        encoder_weights: imagenet, none, or a file.
        learning_rate: of new layers; a pretrained encoder takes a part, by its family.
        threshold_st: "auto", by rank, or D's probability above which an image teaches (0.6 by
            default in s4gan-paper).
        lambda_st, lambda_fm: weights of self-training and feature matching.
        without: parts of the recipe to leave out, to see what they bring; see `Part`.
        micro_batch: labelled patches a pass, and as many unlabelled ones, of which several make an
            iteration; None: one makes it.
        eval_every: iterations from one evaluation to the next; there is one at the end too.
        save_pred_every: iterations from one `checkpoint_N.pth` to the next.
        save_latest_every: iterations from one `latest_*` to the next.
        seed: of every draw.
        amp: mixed precision; None: where the device is fast at it.
    """

    method: Annotated[str, About(choices=METHODS, fixed=True)] = S4GAN
    num_steps: Annotated[int, About("Iterations of the whole run.", least=1)] = 50_000
    batch_size: Annotated[
        int,
        About(
            "Labelled patches an iteration, and as many unlabelled ones; 16 suits a GPU of "
            "16 GB; auto: what fits in it.",
            least=1,
            typed=str,
            metavar="N",
        ),
    ] = 4
    seed: Annotated[int, About("Of every random draw.", fixed=True)] = 0
    generator: Annotated[
        str,
        About(
            f"deeplabv3plus-resnet50, deeplabv2-resnet101, tiny, {', '.join(SHORT_NAMES)}, or "
            "ARCH-ENCODER.",
            NETWORK,
            fixed=True,
        ),
    ] = DEFAULT_GENERATOR
    encoder_weights: Annotated[str, About("imagenet, none, or a file.", NETWORK, fixed=True)] = (
        "imagenet"
    )
    learning_rate: Annotated[
        float,
        About("Of new layers; a pretrained encoder takes a third (DINO: 1/40).", NETWORK, above=0),
    ] = 1e-3
    threshold_st: Annotated[
        str | float,
        About(
            "Which unlabelled images teach: auto, by rank; or the discriminator's score they must "
            "reach, 0 to 1. [default: auto; 0.6 in s4gan-paper]",
            UNLABELLED,
            typed=str,
            metavar="N",
        ),
    ] = AUTO
    lambda_st: Annotated[float, About("Weight of self-training.", UNLABELLED, least=0)] = 1.0
    lambda_fm: Annotated[float, About("Weight of feature matching.", UNLABELLED, least=0)] = 0.1
    without: Annotated[
        tuple[str, ...],
        About(
            "Leave a part of s4gan out, to see what it brings; repeatable.",
            UNLABELLED,
            choices=tuple(Part),
            typed=list[str],
            metavar="PART",
        ),
    ] = ()
    micro_batch: Annotated[
        int | None,
        About(
            "Labelled patches a pass, with as many unlabelled ones, where a whole batch takes too "
            "much memory: slower, and batch normalisation sees one pass at a time. [default: all]",
            MACHINE,
            least=1,
            typed=int,
            metavar="N",
        ),
    ] = None
    eval_every: Annotated[int, About("Iterations between evaluations.", WHEN, least=1)] = 500
    save_pred_every: Annotated[
        int, About("Iterations between checkpoint_N.pth.", WHEN, least=1)
    ] = 5000
    save_latest_every: Annotated[int, About("Iterations between latest_*.", WHEN, least=1)] = 100
    amp: Annotated[
        bool | None, About("Mixed precision. [default: where the device is fast]", MACHINE)
    ] = None


def abouts() -> dict[str, About]:
    """What there is to know of each option, by its name."""
    hints = get_type_hints(Options, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(Options)}


def option_name(field: str) -> str:
    """As it is typed: `--num-steps`."""
    return f"--{field.replace('_', '-')}"


def require_good(options: Options) -> None:
    """Raise `InputError` unless each option may be what it is."""
    for name, about in abouts().items():
        value = getattr(options, name)
        for one in value if isinstance(value, tuple) else (value,):
            if about.choices and one not in about.choices:
                raise InputError(
                    f"{option_name(name)} {one}: use one of {', '.join(about.choices)}"
                )
        if value is None:
            continue
        if about.least is not None and not value >= about.least:
            raise InputError(f"{option_name(name)} {value}: must be at least {about.least:g}")
        if about.above is not None and not value > about.above:
            raise InputError(f"{option_name(name)} {value}: must be above {about.above:g}")
    if options.without and options.method != S4GAN:
        raise InputError(f"--without {options.without[0]}: is a part of --method {S4GAN} only")
    _fixed_threshold(options)


def whole_number(batch_size: int | str) -> int:
    try:
        return int(batch_size)
    except ValueError:
        raise InputError(f"--batch-size {batch_size}: must be {AUTO} or a number from 1") from None


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of a run, apart from networks and data.

    Attributes:
        method: `s4gan`; `s4gan-paper`: the paper's losses; or `supervised`: the labelled part
            alone.
        num_steps: iterations of the whole run; schedules are parts of it.
        learning_rate: of new layers; see `Generator.encoder_rate`.
        threshold_st: the paper's γ on D's probability, or None for acceptance by rank.
        lambda_st, lambda_fm: weights of the two losses.
        seed: of every draw.
        pretrained: whether the encoder starts from given weights.
        micro_batch: see `Options`.

    And of `s4gan` alone:

    Attributes:
        strong_color: strength of the strong view's colours and blur; see `augment.color_view`.
        cutmix, labeled_cutmix: whether the strong view shows rectangles of other unlabelled images,
            and of labelled ones.
        class_shares: whether the teacher's shares of the classes are held.
        kept_pixels: share of a class's pixels, the most confident, that teach.
        accepted_images: share of the images, by the judge's score, that teach.
        self_training_begins, self_training_full: at which parts of the run self-training sets in
            and has its whole weight; before, the teacher has learnt nothing yet.
        most_unlike: if a larger share of the unlabelled patches is like none of the labelled ones
            when self-training is to set in, it does not.
    """

    method: str
    num_steps: int
    learning_rate: float
    threshold_st: float | None
    lambda_st: float
    lambda_fm: float
    seed: int
    pretrained: bool
    micro_batch: int | None = None
    strong_color: float = 1.0
    cutmix: bool = True
    labeled_cutmix: bool = True
    class_shares: bool = True
    kept_pixels: float = 0.8
    accepted_images: float = 0.8
    self_training_begins: float = 0.15
    self_training_full: float = 0.3
    most_unlike: float = 0.5


# What a recipe is where a part is left out; its images have the colours of labelled ones then.
LEFT_OUT: dict[Part, dict[str, Any]] = {
    Part.CUTMIX: {"cutmix": False},
    Part.LABELED_CUTMIX: {"labeled_cutmix": False},
    Part.STRONG_COLOR: {"strong_color": LABELED_COLOR},
    Part.CLASS_SHARES: {"class_shares": False},
    Part.PIXEL_TRUST: {"kept_pixels": 1.0},
    Part.IMAGE_TRUST: {"accepted_images": 1.0, "threshold_st": None},
    Part.SUPERVISED_START: {"self_training_begins": 0.0, "self_training_full": 0.0},
    Part.LIKENESS: {"most_unlike": 1.0},
}


def recipe_of(options: Options, semi: bool) -> Recipe:
    recipe = Recipe(
        method=options.method if semi else SUPERVISED,
        num_steps=options.num_steps,
        learning_rate=options.learning_rate,
        threshold_st=_fixed_threshold(options),
        lambda_st=options.lambda_st,
        lambda_fm=options.lambda_fm,
        seed=options.seed,
        pretrained=options.encoder_weights != "none",
        micro_batch=options.micro_batch,
    )
    for part in options.without:
        recipe = replace(recipe, **LEFT_OUT[Part(part)])
    return recipe


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
