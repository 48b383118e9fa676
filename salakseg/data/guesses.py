"""Masks that began as a model's guess (`guess/` beside `masks/`), and how much a person changed."""

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from salakseg.data.folders import Folder, files_by_stem
from salakseg.data.mask_checks import GuessCheck
from salakseg.data.problems import Problems


def guesses_of(folders: list[Folder]) -> dict[str, str]:
    """Mask → the model's guess that it began as; paths relative to DATA. No guess is a label."""
    found = {}
    for folder in folders:
        guesses, _ = files_by_stem(folder.guess_files)
        masks, _ = files_by_stem(folder.mask_files if guesses else ())
        for stem in masks.keys() & guesses.keys():
            mask_path = PurePosixPath(folder.name, folder.masks, masks[stem][0])
            guess_path = PurePosixPath(folder.name, "guess", guesses[stem][0])
            found[str(mask_path)] = str(guess_path)
    return found


def compare_with_guesses(
    patches: pd.DataFrame,
    guesses: Mapping[str, str],
    compare: Callable[[list[tuple[str, str]]], list[GuessCheck]],
    problems: Problems,
) -> dict[str, Any] | None:
    """How much of the masks that began as a model's guess a person changed; None without any."""
    rows = patches[patches["mask"].isin(list(guesses))]
    if rows.empty:
        return None
    pairs = [(guesses[mask], mask) for mask in rows["mask"]]
    checks = compare(pairs)
    for (guess, _), check in zip(pairs, checks, strict=True):
        if check.error:
            problems.handled(check.problem, guess, f"{check.error}: not compared with its mask")
    rows = rows.assign(changed=np.array([check.changed for check in checks], np.int64))
    by_base = rows.groupby(["folder", "base_image"])["changed"].agg(["min", "max"])
    rows = rows[rows["changed"] >= 0]
    if rows.empty:
        return None
    return {
        "masks": len(rows),
        "base_images": int((by_base["max"] >= 0).sum()),
        "pixels": int((rows["width"] * rows["height"]).sum()),
        "changed_pixels": int(rows["changed"].sum()),
        "unchanged": [
            str(PurePosixPath(*base)) for base in by_base.index[(by_base == 0).all(axis=1)]
        ],
    }
