"""Copies of patches that are held out: what would be trained on with the same bytes is left out."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from salakseg.data.image_checks import ImageCheck
from salakseg.data.problems import Problems
from salakseg.data.split import HELD_OUT


def leave_out_copies(
    patches: pd.DataFrame,
    checks: list[ImageCheck],
    hashes_of: Callable[[list[str]], list[str]],
    problems: Problems,
) -> None:
    """Exclude what would be trained on and has the same bytes as a patch held out."""
    used = patches["split"] != "exclude"
    look = pd.DataFrame(
        {
            "held": patches["split"].isin(HELD_OUT),
            "bytes": patches["bytes"],
            "fingerprint": np.fromiter((check.fingerprint for check in checks), np.int64),
        }
    )[used]
    # Few files are alike in length and in their first and last bytes: only these are read.
    alike = look.groupby(["bytes", "fingerprint"])["held"].transform("nunique") > 1
    suspects = patches.loc[look.index[alike], ["image", "split"]]
    if suspects.empty:
        return
    suspects["hash"] = hashes_of(suspects["image"].tolist())
    suspects["held"] = suspects["split"].isin(HELD_OUT)
    for _, same in suspects.groupby("hash", sort=False):
        held, trained = same[same["held"]], same[~same["held"]]
        if len(held) and len(trained):
            patches.loc[trained.index, "split"] = "exclude"
            for image in trained["image"]:
                problems.handled(
                    "same bytes as a held-out patch",
                    image,
                    f"{held['image'].iloc[0]} is {held['split'].iloc[0]}: this copy is left out",
                )
