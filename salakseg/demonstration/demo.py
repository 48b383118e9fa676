"""demo(): nothing in; out, in one folder, a drawn farm and all that the commands make of it.

`salakseg-demo/` gets `DATA/` and `farm.tif` (see `flights`), `demo.json`, which marks the folder as
this program's, and then what index, shard, train, eval, predict and assess write.
"""

import json
import time
import webbrowser
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from salakseg.console import console, quoted
from salakseg.data.problems import plural
from salakseg.errors import InputError
from salakseg.files import lock_folder, require_folder, write_text

FORMAT = "salakseg-demo-1"
MARK = "demo.json"
NUM_STEPS = 300
POINTS = 250
# What drawing takes on two cores; see `Stage.seconds`.
DRAWING_SECONDS, TRAINING_SECONDS, SHORT_SECONDS = 15.0, 150.0, 15.0


@dataclass(frozen=True)
class Stage:
    """A line as a person would type it, and the same as a call.

    `seconds` is what it takes on two cores; how long the ones before took tells by how much this
    machine is faster or slower. `before` is what a person would do before.
    """

    line: str
    call: Callable[[], Any]
    seconds: float
    before: Callable[[], Any] | None = None


def demo(
    out: Path | str = Path("salakseg-demo"),
    only_data: bool = False,
    open_: bool = False,
    *,
    num_steps: int | None = None,
    photo_patches: tuple[int, int] = (4, 3),
    seed: int = 0,
) -> dict[str, float]:
    """Draw a farm and go the whole way on it: index, shard, train, eval, predict, assess.

    Needs no data and no network. Called again on the same folder it goes on: the farm and the
    training stay and are finished, the rest, which takes seconds, is made anew. To start over,
    remove the folder.

    Args:
        out: a folder that is new, empty, or from here.
        only_data: draw the farm and stop.
        open_: open the report in the browser at the end.
        num_steps: iterations of training; None: 300, or those of the run that is there.
        photo_patches: patches of 256 pixels across and down a photograph, for a smaller farm; one
            that is there stays as it is.
        seed: another seed, another farm.

    Returns:
        `miou`, on the validation patches, and `commonest_class_miou`, of always answering the class
        that is commonest in training. Empty with `only_data`.

    Raises:
        InputError: `out` holds something else.
        KeyboardInterrupt: after Ctrl-C.
    """
    out = Path(out)
    _require_ours(out)
    try:
        with lock_folder(out, "the demo"):
            write_text(out / MARK, json.dumps({"format": FORMAT}) + "\n")
            begun = time.monotonic()
            usual = 0.0
            if (out / "DATA").exists():
                console.print(f"{out}: the farm is there already")
            else:
                # Not at the top: rasterio is slow to import.
                from salakseg.demonstration.flights import write_farm

                write_farm(out, photo_patches, seed)
                usual = DRAWING_SECONDS
            if only_data:
                console.print(f"Next: cd {quoted(out)}, then salakseg index DATA")
                return {}
            console.print(f"\nNow the whole way, as you would type it.\n\n$ cd {quoted(out)}")
            with chdir(out):
                _go(_commands(num_steps), time.monotonic() - begun, usual)
            return _conclude(out, open_)
    except KeyboardInterrupt:
        console.print(f"Stopped, nothing is lost. Go on with: salakseg demo --out {quoted(out)}")
        raise


def _require_ours(out: Path) -> None:
    if not out.exists():
        return
    require_folder(out, "--out takes a folder")
    try:
        ours = json.loads((out / MARK).read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    # A demo that was killed as it began left a lock and no mark.
    if not ours and any(path.name != ".lock" for path in out.iterdir()):
        raise InputError(f"{out}: holds something else; give a new folder with --out")


def _commands(num_steps: int | None) -> list[Stage]:
    """The way through, from what is in the working directory."""
    # Only now: the farm is drawn without torch.
    from salakseg.assessment.plan import assess_plan
    from salakseg.assessment.score import assess_score
    from salakseg.data.index import index
    from salakseg.data.shards_pack import shard
    from salakseg.demonstration.interpreter import TRUTH, answer_by_truth
    from salakseg.evaluation.evaluate import evaluate
    from salakseg.mapping.predict import predict
    from salakseg.training.loop import train

    if Path("checkpoints/latest_checkpoint.pth").exists():
        training: dict[str, Any] = {"resume": True}
    else:
        num_steps = NUM_STEPS if num_steps is None else num_steps
        training = {
            "generator": "tiny",
            "encoder_weights": "none",
            "batch_size": 4,
            "eval_every": 100,
        }
    if num_steps is not None:
        training["num_steps"] = num_steps
    seconds = 2 if Path("checkpoints/run.json").exists() else TRAINING_SECONDS
    mapping = {"overwrite": True} if Path("predictions/farm_classes.tif").exists() else {}
    planning = {"overwrite": True} if Path("assessment/plan.json").exists() else {}
    assessing = [
        _command(
            8,
            "assess plan",
            lambda one, **more: assess_plan([one], **more),
            "predictions/farm_classes.tif",
            points=POINTS,
            **planning,
        ),
        replace(_command(1, "assess score", assess_score), before=answer_by_truth),
    ]
    return [
        _command(4, "index", index, "DATA"),
        _command(2, "shard", shard),
        _command(seconds, "train", train, **training, wandb_mode="disabled"),
        _command(8, "eval", evaluate, "best_model.pth"),
        _command(
            6, "predict", lambda image, **more: predict([image], **more), "farm.tif", **mapping
        ),
        # A farm that an earlier version drew does not say what is there.
        *(assessing if Path(TRUTH).exists() else []),
    ]


def _command(
    seconds: float, name: str, function: Callable[..., Any], *arguments: str, **options: Any
) -> Stage:
    words = ["salakseg", name, *arguments]
    for option, value in options.items():
        if option == "wandb_mode":
            words.append("--no-wandb")
        else:
            words.append(f"--{option.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return Stage(" ".join(words), partial(function, *arguments, **options), seconds)


def _go(commands: list[Stage], spent: float, usual: float) -> None:
    """Run the commands in turn, after parts that took `spent` seconds instead of `usual`."""
    for number, command in enumerate(commands):
        # A short part says little about the machine.
        pace = (spent + SHORT_SECONDS) / (usual + SHORT_SECONDS)
        left = sum(later.seconds for later in commands[number:]) * pace
        about = f"{left / 60:.0f} minutes" if left > 90 else plural(round(left), "second")
        console.print(f"\n$ {command.line}    # {number + 1} of {len(commands)}, {about} left")
        begun = time.monotonic()
        if command.before is not None:
            command.before()
        command.call()
        spent += time.monotonic() - begun
        usual += command.seconds


def _conclude(out: Path, open_: bool) -> dict[str, float]:
    """Say what came of it and where to look; give the scores."""
    from salakseg.demonstration.interpreter import TRUTH, tell_truth
    from salakseg.evaluation.baseline import commonest_class

    report = out / "eval" / "report.html"
    miou = json.loads((out / "eval" / "metrics.json").read_text(encoding="utf-8"))["miou"]
    commonest, floor = commonest_class(out / "shards")
    if (out / TRUTH).exists():
        console.print()
        tell_truth(out)
    console.print(
        f"\nmIoU {miou:.4f} on photographs that training has not seen; {floor:.4f} for answering "
        f"{commonest}, the commonest class, everywhere. A drawn farm is easier than a real one.\n"
        "Look at\n"
        f"  {out / 'index' / 'preview.png'}    the photographs and their masks\n"
        f"  {out / 'eval' / 'contact_sheet.png'}    where the map is right, and where wrong\n"
        f"  {out / 'predictions' / 'index.html'}    the map of the orthomosaic\n"
        f"  {report}    how far to trust it\n"
        f"  {out / 'assessment' / 'index.html'}    where a person says what is there\n"
        f"Next: cd {quoted(out)}, and type a command above again with something changed; or index "
        "photographs of your own"
    )
    if open_:
        webbrowser.open(report.resolve().as_uri())
    return {"miou": miou, "commonest_class_miou": floor}
