"""The images of a data set → their sizes and white level, and what is wrong with them."""

import numpy as np
import pandas as pd

from salakseg.data.image_checks import ImageCheck
from salakseg.data.problems import Problems, plural

LARGEST_PATCH = 1024  # pixels a side


def take_images(patches: pd.DataFrame, checks: list[ImageCheck], problems: Problems) -> None:
    """Put sizes into `patches`, 0 where an image cannot be used; note what is odd."""
    odd: dict[tuple[str, str], list[str]] = {}
    sizes = []
    for check, folder, image in zip(checks, patches["folder"], patches["image"], strict=True):
        empty = 0 < check.nodata == check.width * check.height
        if check.error:
            problems.handled("unreadable image", image, f"{check.error}: left out")
        elif empty:
            problems.handled("nothing in the image", image, "all transparent or nodata: left out")
        elif check.note:
            odd.setdefault((folder, check.note), []).append(image)
        if check.nodata and not empty:
            odd.setdefault((folder, "in part transparent or nodata"), []).append(image)
        sizes.append((0, 0) if empty else (check.width, check.height))
    patches[["width", "height"]] = np.array(sizes, np.int64)
    patches["bytes"] = np.fromiter((check.bytes for check in checks), np.int64)
    for (folder, note), images in odd.items():
        problems.handled("kind of image", images[0], f"{len(images)} of {folder}/: {note}")
    if not patches["width"].any():
        problems.fatal(
            "no readable image",
            patches["image"].iloc[0],
            f"none of the {plural(len(patches), 'image')} can be used "
            f"({checks[0].error or 'all transparent or nodata'})",
        )


def common_white_level(
    patches: pd.DataFrame, images: list[ImageCheck], problems: Problems
) -> int | None:
    """The one of the patches' photographs, as `patchify` has found it; the least that all 16-bit
    patches keep to; None for 8 bits."""
    own = np.array([check.white_level for check in images])
    if own.any():
        problems.handled(
            "kind of image",
            patches["image"].iloc[int(own.argmax())],
            f"{np.count_nonzero(own)} of {plural(len(own), 'image')}: 16 bits, of which "
            f"{own.max()} is full brightness",
        )
        return int(own.max())
    levels = patches["white_level"].dropna().value_counts()
    if len(levels) > 1:
        problems.handled(
            "two white levels",
            patches["image"][patches["white_level"] == levels.index[1]].iloc[0],
            f"cut with {', '.join(map(str, sorted(levels.index)))}: maps are made with "
            f"{levels.index[0]}; cut all photographs together, or with one --white-level",
        )
    return int(levels.index[0]) if len(levels) else None


def patch_size_of(patches: pd.DataFrame, problems: Problems) -> int:
    """The side of the square that holds every patch."""
    readable = patches[patches["width"] > 0]
    if readable.empty:
        return 0
    sides = readable[["width", "height"]].max(axis=1)
    size, usual = int(sides.max()), int(sides.mode().max())
    largest = readable.iloc[int(sides.to_numpy().argmax())]
    if size > LARGEST_PATCH:
        problems.fatal(
            "too large for a patch",
            largest["image"],
            f"{largest['width']}×{largest['height']}; a patch has at most {LARGEST_PATCH} pixels a "
            "side, since training takes it whole: cut full photographs with salakseg patchify",
        )
    elif size > 2 * usual:
        problems.fatal(
            "too large for a patch",
            largest["image"],
            f"{largest['width']}×{largest['height']}, others are {usual} wide or high: batches "
            "need one size; cut full photographs with salakseg patchify",
        )
    smaller = readable[(readable["width"] < size) | (readable["height"] < size)]
    if len(smaller):
        problems.handled(
            "smaller than others",
            smaller["image"].iloc[0],
            f"{plural(len(smaller), 'patch', 'patches')} smaller than {size}×{size}: padded with "
            "pixels that are not scored",
        )
    return size
