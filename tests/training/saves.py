"""Files of a run, made up."""

from pathlib import Path
from typing import Any

import torch

from salakseg.classes import ClassMapping
from salakseg.model.discriminator import Discriminator
from salakseg.model.weights import Model
from salakseg.training.checkpoint import (
    checkpoint_file,
    model_files,
)
from salakseg.training.saver import Saver

CLASSES = ClassMapping((("Water", (0, 0, 255), False), ("Land", (132, 41, 246), False)))


def write(files: dict[Path, Any]) -> None:
    with Saver() as saver:
        saver.save(files)


def save(folder: Path, name: str, iteration: int, best_val_miou: float = 0.5) -> Path:
    content = {"iteration": iteration, "best_val_miou": best_val_miou}
    write(checkpoint_file(folder / name, {**content, "weights": torch.arange(1000.0)}))
    return folder / name


def save_best(folder: Path, model: Model, iteration: int) -> None:
    model.iteration = iteration
    write(model_files(folder, "best", model, Discriminator(2, 16)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
