"""The masks of a data set → how they are understood, what they hold, and what is wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.classes import ClassMapping
from salakseg.data.image_checks import ImageCheck
from salakseg.data.mask_checks import MaskCheck, MaskItem, numbers_in
from salakseg.data.problems import SHOWN, Problems, first_of, plural
from salakseg.errors import InputError
from salakseg.grey_masks import (
    JPEG_COLOR_DISTANCE,
    Numbers,
    meaning,
    reads_colors,
    too_near_for_jpeg,
)
from salakseg.mask_meaning import (
    MOST_NUMBER,
    in_words,
    parse_values,
    row_numbers,
    too_much_unknown,
)
from salakseg.mask_sets import understood_numbers

NO_CLASS_IN_IT = "mask without a class"


def with_said_values(mapping: ClassMapping, values: str | None, offset: int | None) -> ClassMapping:
    """With what the options say of masks' numbers."""
    if values is not None and offset is not None:
        raise InputError("--mask-values and --mask-offset: give one of them")
    if values is not None:
        return mapping.with_reading(parse_values(values, mapping.rows))
    if offset is None:
        return mapping
    if not 0 <= offset <= MOST_NUMBER - len(mapping.rows):
        raise InputError(f"--mask-offset {offset}: the number of the first class, as in 1")
    return mapping.with_reading(row_numbers(len(mapping.rows), offset))


def mask_items(
    patches: pd.DataFrame,
    rows: NDArray[np.int64],
    images: list[ImageCheck],
    bands: Sequence[int] = (),
) -> list[MaskItem]:
    """The masks in `rows` of `patches`, as `check_masks` takes them; `bands` of foreign images."""
    names = ("mask", "width", "height", "image")
    columns = [patches[name].iloc[rows].tolist() for name in names]
    items = []
    for row, mask, width, height, image in zip(rows.tolist(), *columns, strict=True):
        partial = images[row].nodata > 0
        of_image = (image, images[row].fingerprint) if partial else ("", 0)
        items.append((mask, width, height, *of_image, *bands))
    return items


def understand(
    names: list[str], checks: list[MaskCheck], mapping: ClassMapping, problems: Problems
) -> tuple[ClassMapping, str, str]:
    """The mapping with what the masks' numbers stand for; that in words, and what speaks against.

    Fatal where a person has to say.
    """
    found = [(name, numbers_in(check)) for name, check in zip(names, checks, strict=True)]
    masks = {name: numbers for name, numbers in found if numbers is not None}
    by_number = [name for name in masks if not reads_colors(masks[name], mapping.rows)]
    if not by_number:
        return mapping, "", ""
    counts: Counter[int] = Counter()
    for name in by_number:
        counts.update(masks[name].counts)
    if mapping.reading is not None:
        smeared = next((name for name in by_number if masks[name].lossy), "")
        if smeared and (near := too_near_for_jpeg(mapping.reading)):
            problems.fatal("numbers in masks", smeared, near)
        return mapping, f"{in_words(counts, mapping.reading, mapping.rows)} (as said)", ""
    try:
        mapping, told = understood_numbers(masks.values(), mapping)
    except InputError as error:
        problems.fatal("numbers in masks", by_number[0], str(error))
        return mapping, "", ""
    assert told is not None
    if told.grave:
        problems.fatal(
            "numbers in masks",
            by_number[0],
            f"{plural(len(by_number), 'mask')} hold {told.words}: {told.doubt}; or save the masks "
            "in the colours of the classes (RGB)",
        )
    _require_one_palette(masks, by_number, mapping, problems)
    return mapping, told.words, told.doubt


def _require_one_palette(
    masks: Mapping[str, Numbers], by_number: list[str], mapping: ClassMapping, problems: Problems
) -> None:
    """Fatal where palettes differ in a way that makes their numbers mean nothing."""
    seen: dict[int, tuple[int, str]] = {}
    for name in by_number:
        for number, color in (masks[name].colors or {}).items():
            first = seen.setdefault(number, (color, name))
            if first[0] != color:
                problems.fatal(
                    "palettes that differ",
                    name,
                    f"{number} has another colour than in {first[1]}, and not the colours of the "
                    "classes: save the masks as RGB, or give the class mapping their colours",
                )
                return
    numbered = next((name for name in by_number if masks[name].colors is not None), None)
    for name in sorted(masks.keys() - by_number) if numbered else ():
        by_color = meaning(masks[name], mapping.rows, mapping.reading)
        plain = masks[name]._replace(colors=None, kind="grey")
        if meaning(plain, mapping.rows, mapping.reading).rows != by_color.rows:
            problems.fatal(
                "two kinds of mask",
                name,
                f"its palette has the colours of the classes, that of {numbered} has not, and its "
                "numbers would be other classes: save the masks as RGB",
            )
            return


def take_masks(
    patches: pd.DataFrame,
    rows: NDArray[np.int64],
    checks: list[MaskCheck],
    mapping: ClassMapping,
    mapping_path: Path,
    problems: Problems,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """int64 (patches, 1 + K): pixels ignored and of each class; and how many masks of each kind.

    A mask that cannot be used is taken out of `patches`, and so is one without a pixel of a class:
    its patch is as good as unlabelled.
    """
    pixels = np.zeros((len(patches), 1 + mapping.num_classes), np.int64)
    paths = patches["mask"].to_numpy(object).copy()
    kinds: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    unknown_pixels = total = 0
    without: list[str] = []
    for row, check in zip(rows.tolist(), checks, strict=True):
        path = paths[row]
        if check.error:
            problems.handled(check.problem, path, f"{check.error}: the mask is not used")
            paths[row] = ""
            continue
        kinds[check.kind] += 1
        total += check.ignored + sum(check.pixels)
        if check.turned:
            problems.handled(
                "mask with an orientation tag",
                path,
                "not turned: a mask must fit the upright image as its pixels are stored",
            )
        if check.unknown:
            unknown_pixels += check.unknown
            unknown.update(check.unknown_colors)
            problems.handled(
                "unknown colour", path, f"{_colors(check.unknown_colors, mapping)}: ignored (255)"
            )
        if check.smeared:
            problems.handled(
                "JPEG mask",
                path,
                f"{plural(check.smeared, 'pixel')} of no class colour; given to the nearest within "
                f"{JPEG_COLOR_DISTANCE:.0f} steps of RGB or half the gap between two class "
                "colours; masks are better saved as PNG",
            )
        if any(check.pixels):
            pixels[row] = (check.ignored, *check.pixels)
        else:
            without.append(path)
            paths[row] = ""
    # An image that cannot be read has no use for its mask.
    paths[(patches["width"] == 0).to_numpy()] = ""
    patches["mask"] = paths
    if len(rows) and not kinds:
        problems.fatal(
            "no usable mask",
            next(row[2] for row in problems.rows if "mask is not used" in row[3]),
            f"none of the {plural(len(rows), 'mask')} can be used; the first: {checks[0].error}",
        )
    classes = int(np.count_nonzero(pixels[:, 1:].sum(0)))
    if too_much_unknown(unknown_pixels, total, classes):
        common = dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:SHOWN])
        problems.fatal(
            "wrong class mapping",
            mapping_path.as_posix(),
            f"{unknown_pixels / total:.0%} of the mask pixels have colours or numbers that it does "
            f"not hold (most: {_colors(common, mapping)}); give the right one with "
            "--class-mapping, or put it into DATA as class_mapping.csv",
        )
    elif kinds and not classes:
        problems.fatal(
            "no class in any mask",
            without[0],
            f"none of the {plural(kinds.total(), 'mask')} has a pixel of {', '.join(mapping.names)}"
            ": all pixels are of ignored classes, of no class (255), or transparent",
        )
    for path in without:
        problems.handled(NO_CLASS_IN_IT, path, "no pixel of a class: used as unlabelled")
    return pixels, dict(sorted(kinds.items()))


def _colors(counts: Mapping[str, int], mapping: ClassMapping) -> str:
    """'1 2 3 × 40 pixels (nearest: Water)' for each colour or number."""
    texts = []
    for color, count in counts.items():
        red, *rest = color.split()
        if len(rest) == 2 and red.isdecimal():
            near = f"nearest: {mapping.nearest_name((int(red), int(rest[0]), int(rest[1])))}"
        else:
            known = [str(number) for number, row in mapping.values or () if row is not None]
            near = f"the classes' numbers are {first_of(known)}"
        texts.append(f"{color} × {plural(count, 'pixel')} ({near})")
    return ", ".join(texts)
