"""How far what has no mask is from what is labelled."""

import numpy as np
import pandas as pd

from salakseg.data.problems import plural
from salakseg.model.applicability import (
    applicability_of,
    are_beyond,
    described_rows,
    is_far,
)
from salakseg.suggestion.embed import BLOCK, Features
from salakseg.suggestion.ranking import labelled_rows


def far_from_labelled(features: Features) -> pd.DataFrame:
    """How far folders and base images without masks are from what is labelled.

    Returns:
        level (folder or photo), folder, base_image ('' for folders), patches without masks, their
        mean distance to the nearest labelled patch by `model.applicability` (1 is the limit), and
        far: yes where more than half of them are beyond it, else no. The farthest first. Empty
        where fewer than two photographs are labelled, and nothing can be said.
    """
    patches = features.patches
    labelled = labelled_rows(features)
    columns = ["level", "folder", "base_image", "patches", "distance", "far"]
    applicability = None
    if len(labelled):
        some = labelled[described_rows(len(labelled))]
        photo = patches.iloc[some].groupby(["folder", "base_image"]).ngroup().to_numpy()
        applicability = applicability_of(features.values[some, : features.size], photo)
    if applicability is None:
        return pd.DataFrame(columns=columns)
    rows = np.flatnonzero(patches.split == "unlabeled")
    distance = np.concatenate(
        [
            applicability.distance(features.values[rows[start : start + BLOCK], : features.size])
            for start in range(0, len(rows), BLOCK)
        ]
    )
    each = patches.iloc[rows][["folder", "base_image"]].assign(
        distance=distance, beyond=are_beyond(distance)
    )
    parts = []
    for level, keys in (("folder", ["folder"]), ("photo", ["folder", "base_image"])):
        part = each.groupby(keys, sort=True).agg(
            patches=("beyond", "size"), distance=("distance", "mean"), beyond=("beyond", "mean")
        )
        part = part.reset_index().assign(level=level)
        parts.append(part.sort_values("distance", ascending=False, kind="stable"))
    table = pd.concat(parts, ignore_index=True)
    table["base_image"] = table.base_image.fillna("")
    table["far"] = ["yes" if is_far(share) else "no" for share in table.beyond]
    return table[columns]


def far_sentences(far: pd.DataFrame) -> list[str]:
    """What looks like nothing labelled, a line each folder and one for single photographs."""
    flagged = far[far.far == "yes"]
    folders = flagged[flagged.level == "folder"]
    lines = [
        f"Folder {row.folder} looks like nothing you have labelled (distance "
        f"{row.distance:.1f}, 1 is the limit): expect errors there"
        for row in folders.itertuples()
        if row.folder != "."
    ]
    photos = flagged[(flagged.level == "photo") & ~flagged.folder.isin(folders.folder)]
    if "." in set(folders.folder):
        photos = flagged[flagged.level == "photo"]
    if len(photos):
        names = ", ".join(photos.base_image.iloc[:3])
        more = f" and {len(photos) - 3} more" if len(photos) > 3 else ""
        lines.append(
            f"{plural(len(photos), 'photo')} look{'s' if len(photos) == 1 else ''} like nothing "
            f"you have labelled ({names}{more}): expect errors there"
        )
    return lines
