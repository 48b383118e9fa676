"""A run on Weights & Biases: rows of log.csv and timing.csv, scores and pictures in.

It never costs the run: without a login there is one line, and any error of wandb is one warning,
after which it is off. log.csv and curves.png are written all the same. wandb's files go into
`wandb/` of the working folder (or $WANDB_DIR).

The x axis of every chart is `iteration`, so that what a resumed run does again lies where it lay. A
resumed run goes on under its id. Offline that cannot be: there it is a new run in the same group,
which is named by the first run's id.
"""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from salakseg.console import console
from salakseg.data.shards import Shards
from salakseg.data.stream import Patches
from salakseg.imagery.drawing import Picture, contact_sheet, overlay
from salakseg.metrics import Scores
from salakseg.model.weights import Model

PROJECT = "salakseg"
# wandb's own 90 s would keep a training waiting, and at its end there is no limit at all. What is
# not uploaded by then stays in wandb/ and can be synced.
START_SECONDS, FINISH_SECONDS = 30, 60
PICTURES, CELL = 4, 256
LOGGED_OUT = "W&B: not logged in (wandb login), local logs only"

# Columns of log.csv and timing.csv → names on W&B.
NAMES = {
    "loss_ce": "Training Loss/Cross Entropy",
    "loss_fm": "Training Loss/Feature Matching",
    "loss_st": "Training Loss/Self-Training",
    "loss_d": "Training Loss/Discriminator",
    "st_count": "Self-Training/Confidence Count",
    "st_pixels": "Self-Training/Trusted Pixel Rate",
    "learning_rate": "Learning Rate/New Layers",
    "iterations_per_second": "Speed/Iterations per Second",
    "loading_share": "Speed/Loading Share",
    "gpu_memory_mb": "Speed/GPU Memory (MB)",
}
ACCEPTANCE = "Self-Training/Image Acceptance Rate"


class Tracker:
    """A run on W&B; does nothing before `start`, and nothing once wandb has failed.

    Attributes:
        run_id: names the run and its group; to be kept in the checkpoint. None where there is none.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id
        self._run: Any = None
        self._folder: Path | None = None
        self._batch_size = 1

    @property
    def active(self) -> bool:
        """Whether what is logged goes anywhere."""
        return self._run is not None

    def start(
        self, options: Mapping[str, Any], *, mode: str | None = None, project: str | None = None
    ) -> None:
        """Begin the run, or go on with `run_id`. Never asks for a login.

        Args:
            options: the config; its `batch_size` is what `st_count` is a share of.
            mode: online, offline, disabled; None: as wandb is set (WANDB_MODE), online by default.
                Online needs a login, and records offline where the server does not answer.
            project: None: as wandb is set (WANDB_PROJECT), else `PROJECT`.
        """
        if mode == "disabled":
            return
        if mode is None and not _used_here():
            console.print(LOGGED_OUT)
            return
        try:
            import wandb
        except ModuleNotFoundError:
            if mode is not None:
                console.print("W&B: not installed, local logs only; pip install wandb")
            return
        except Exception as error:  # a broken installation
            return self._give_up(error)
        self._batch_size = options["batch_size"]
        try:
            settings = wandb.setup(wandb.Settings(silent=True)).settings
            mode = mode or settings.mode
            if mode == "disabled":
                return
            if mode != "offline" and not _logged_in():
                console.print(LOGGED_OUT)
                return
            project = project or settings.project or PROJECT
            if mode == "offline":
                self._init(wandb, options, project, offline=True)
                console.print(f"W&B: recorded offline; upload with: wandb sync {self._folder}")
                return
            try:
                self._init(wandb, options, project, offline=False)
                console.print(f"W&B: {self._run.url}")
            except Exception as error:
                self._init(wandb, options, project, offline=True)
                console.print(
                    f"Warning: W&B cannot be reached ({_line(error)}), so it is recorded offline; "
                    f"upload with: wandb sync {self._folder}"
                )
        except Exception as error:
            self._give_up(error)

    def _init(self, wandb: Any, options: Mapping[str, Any], project: str, offline: bool) -> None:
        fresh = secrets.token_hex(4)
        group = self.run_id or fresh
        run = wandb.init(
            mode="offline" if offline else "online",
            project=project,
            id=fresh if offline else group,
            group=group,
            resume=None if offline else "allow",
            reinit="create_new",
            config=dict(options),
            settings=wandb.Settings(
                silent=True,
                # Its copy of the console would see the progress bar.
                console="off",
                init_timeout=START_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
                # Options may change when a run goes on.
                allow_val_change=True,
            ),
        )
        run.define_metric("iteration", hidden=True)
        run.define_metric("*", step_metric="iteration")
        self._run, self.run_id = run, group
        self._folder = Path(run.dir).parent

    def log_iteration(
        self, iteration: int, row: Mapping[str, Any], timing: Mapping[str, Any]
    ) -> None:
        """Log a log row of log.csv and its row of timing.csv; None is left out."""
        columns = {**row, **timing}
        values = {
            name: columns[column]
            for column, name in NAMES.items()
            if columns.get(column) is not None
        }
        values[ACCEPTANCE] = row["st_count"] / self._batch_size
        self._log(iteration, values)

    def log_evaluation(
        self,
        iteration: int,
        train_miou: float,
        val: Scores | None,
        class_names: Sequence[str],
        pictures: Mapping[str, Picture] | None = None,
    ) -> None:
        """Log an evaluation; `pictures` by caption. Classes that the truth lacks are left out."""
        values: dict[str, Any] = {"Metrics/Training mIoU": float(train_miou)}
        if val is not None:
            values["Metrics/Validation mIoU"] = float(val.miou)
            for name, iou, support in zip(class_names, val.iou, val.support, strict=True):
                if support:
                    values[f"Per-class IoU/{name}"] = float(iou)
        self._log(iteration, values, pictures or {})

    def _log(
        self, iteration: int, values: dict[str, Any], pictures: Mapping[str, Picture] | None = None
    ) -> None:
        if self._run is None:
            return
        try:
            if pictures:
                import wandb

                values["Predictions"] = [
                    wandb.Image(Image.fromarray(picture), caption=caption)
                    for caption, picture in pictures.items()
                ]
            self._run.log({"iteration": iteration, **values})
        except Exception as error:
            self._give_up(error)

    def finish(self, exit_code: int = 0) -> None:
        """Upload what is left, for at most `FINISH_SECONDS`; call it however the run ends."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(exit_code)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        text = f"Warning: W&B failed ({_line(error)}); local logs only from here on"
        if self._folder is not None:
            text += f". What was recorded can be uploaded with: wandb sync {self._folder}"
        console.print(text)


def _used_here() -> bool:
    """Whether anything says that wandb is used: to ask itself takes a second and a process."""
    home = Path.home()
    logins = (Path(os.environ.get("NETRC") or home / ".netrc"), home / "_netrc")
    settings = (home / ".config" / "wandb" / "settings", Path("wandb", "settings"))
    return any(path.exists() for path in (*logins, *settings)) or any(
        name.startswith("WANDB_") for name in os.environ
    )


def _logged_in() -> bool:
    # Not wandb.login(): at a terminal it asks, and a training that was just started would wait.
    from wandb.sdk.wandb_login import _login

    return _login(prompt=False, _silent=True)[0]


def _line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def tracked(tracker: Tracker) -> Iterator[None]:
    """Finish the run on W&B however it ends."""
    try:
        yield
    except BaseException as error:
        tracker.finish(exit_code=130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
    tracker.finish()


def prediction_sheet(model: Model, shards: Shards) -> Picture:
    """Photo, truth and prediction of up to `PICTURES` validation patches, always the same ones.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: damaged shards.
    """
    count = len(shards.split("val"))
    rows = np.unique(np.linspace(0, count - 1, min(count, PICTURES)).astype(np.int64))
    batch = Patches(shards, {"val": "val"}).read("val", rows)
    assert batch.masks is not None  # validation patches have masks
    images = batch.images.to(model.generator.mean.device)
    predictions = model.probabilities(images).max(1).indices.to(torch.uint8).cpu().numpy()
    photos = [shards.picture(image) for image in batch.images.numpy()]
    mapping = shards.mapping
    return contact_sheet(
        [
            [photo, overlay(photo, truth, mapping), overlay(photo, prediction, mapping)]
            for photo, truth, prediction in zip(
                photos, batch.masks.numpy(), predictions, strict=True
            )
        ],
        shards.split("val").key[rows].tolist(),
        ["Image", "Truth", "Prediction"],
        mapping,
        min(CELL, shards.patch_size),
    )
