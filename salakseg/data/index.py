"""Patch folders → index/: pair images and masks, check them, split them.

In goes a folder DATA with images/ and masks/ in it or in folders below. Out come `patches.csv` (one
row a patch: the truth that `shard` obeys), `base_images.csv` (the same by photograph, to edit and
give back), `problems.csv`, `summary.json` and `preview.png`; and `checked.json.gz`, by which the
next run opens only files that changed. The data itself is never changed.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salakseg.classes import (
    ClassMapping,
    find_class_mapping,
    packaged_class_mapping,
    read_class_mapping,
)
from salakseg.console import console
from salakseg.data.check_cache import CheckCache
from salakseg.data.copies import leave_out_copies
from salakseg.data.folders import (
    base_images_of,
    find_folders,
    pair,
)
from salakseg.data.guesses import compare_with_guesses, guesses_of
from salakseg.data.image_doctor import common_white_level, patch_size_of, take_images
from salakseg.data.index_files import FORMAT, tables, write_index
from salakseg.data.index_report import draw_preview, print_report
from salakseg.data.mask_checks import counted
from salakseg.data.mask_doctor import (
    NO_CLASS_IN_IT,
    mask_items,
    take_masks,
    understand,
    with_said_values,
)
from salakseg.data.patch_bands import band_set_of_patches, measured
from salakseg.data.places import grounds_of, note_masks_elsewhere, take_places
from salakseg.data.problems import Problems, plural
from salakseg.data.split import (
    HELD_OUT,
    SPLIT_BY,
    SPLITS,
    frames_on_both_sides,
    note_roles_without_masks,
    patch_splits,
    split_bases,
    split_by_patch,
)
from salakseg.data.split_area import (
    may_split_by_area,
    on_one_ground,
    require_block_size,
    say_area,
    split_by_area,
)
from salakseg.data.split_plan import with_plan
from salakseg.data.user_lists import read_labeled_list, read_split_file
from salakseg.data.workers import require_workers, worker_processes
from salakseg.errors import InputError
from salakseg.files import require_folder
from salakseg.imagery.bands import checked_bands


def index(
    data: Path | str,
    *,
    out: Path | str = Path("index"),
    class_mapping: Path | str | None = None,
    mask_values: str | None = None,
    mask_offset: int | None = None,
    val_split: float = 0.2,
    split_by: str | None = None,
    block_size: int | None = None,
    split_file: Path | str | None = None,
    labeled_list: Path | str | None = None,
    bands: Sequence[int] | str | None = None,
    seed: int = 0,
    num_workers: int | None = None,
    cache: bool = True,
) -> dict[str, Any]:
    """Pair, check and split the patches under `data`.

    Args:
        data: the folder that holds images/ and masks/, or folders with these.
        out: where the index goes; a good one is replaced only by another good one.
        class_mapping: class names and colours; else DATA/class_mapping.csv, the one in the working
            directory, or the packaged one.
        mask_values: what the numbers of grey masks stand for, as in "0:Land,255:Water", `-` for no
            class; else by the column mask_value of the class mapping, or by all masks together.
        mask_offset: the number that is the mapping's first row, the others counting up from it;
            smaller ones are no class.
        val_split: share of the labelled patches to hold out for validation.
        split_by: what stays together: `base` image, `block` of consecutive frames, `folder`, blocks
            of an image's ground with a margin around them (`area`), or single `patch` (which
            leaks). None: `area` where fewer than three base images have masks and their patches'
            places are known, else `base`.
        block_size: side of such a block in patches; None: as far as the labels are alike.
        split_file: CSV with base_image, split and where needed folder, in place of a random split.
        labeled_list: names of the patches or base images whose masks may be used, one a line.
        bands: numbers, from 1, of the more than three bands to take of GeoTIFF patches that other
            programs cut; None: red, green and blue, or what `patchify --bands` has chosen.
        seed: another seed, another split.
        num_workers: processes; all cores if not given. The result does not depend on it.
        cache: what the last index in `out` found in a file holds while its size and time of change
            stay; False opens every file again. The result does not depend on it.

    Returns:
        What summary.json holds.

    Raises:
        InputError: nothing to index, a bad option or file, or problems that a person must solve.
    """
    data, out = Path(data), Path(out)
    class_mapping, split_file, labeled_list = (
        None if path is None else Path(path) for path in (class_mapping, split_file, labeled_list)
    )
    require_folder(data, "DATA is the folder that holds images/, or folders with images/ in them")
    if split_by not in (None, *SPLIT_BY):
        raise InputError(f"--split-by {split_by}: choose one of {', '.join(SPLIT_BY)}")
    if not 0 < val_split < 1:
        raise InputError(f"--val-split {val_split}: must lie between 0 and 1, as in 0.2")
    require_block_size(block_size, "file" if split_file else split_by)
    require_workers(num_workers)
    chosen = checked_bands(bands) or ()
    if 0 < len(chosen) <= 3:
        raise InputError(f"--bands {bands}: more than three; fewer are patchify's to choose")
    mapping_path = find_class_mapping(class_mapping, data)
    mapping = with_said_values(read_class_mapping(mapping_path), mask_values, mask_offset)
    _say_mapping(mapping, mapping_path)

    # What is there, where it lies, and what of it may be used.
    problems = Problems()
    folders = find_folders(data)
    patches, guesses = pair(data, folders, problems), guesses_of(folders)
    listed = {*patches["image"], *patches["mask"], *guesses.values()}
    checks = CheckCache(out / "checked.json.gz", data, mapping, cache)
    found_masks = int((patches["mask"] != "").sum())
    with worker_processes(num_workers) as pool:

        def footprints(names: list[str]) -> dict[str, Any]:
            found = zip(names, checks.footprints(pool, names) if names else (), strict=True)
            return {name: one for name, one in found if one.transform}

        of_images = footprints(patches["image"][patches["placed"]].tolist())
        patches = take_places(patches, of_images, problems)
        bases = base_images_of(patches)
        roles = read_split_file(split_file, bases, problems) if split_file else None
        allowed = read_labeled_list(labeled_list, patches, problems) if labeled_list else None
        if roles is not None:
            patches.loc[np.isin(roles, ("unlabeled", "exclude"))[patches["base"]], "mask"] = ""
        if allowed is not None:
            patches.loc[~allowed, "mask"] = ""
        placed = patches["mask_placed"] & (patches["mask"] != "") & patches["image"].isin(of_images)
        of_masks = footprints(patches["mask"][placed].tolist())
        note_masks_elsewhere(patches[placed], of_images | of_masks, problems)
        problems.stop_if_fatal(out)

        # What is in the files.
        names, beside = patches["image"].tolist(), patches["beside"].tolist()
        images = checks.images(pool, names, beside, chosen)
        take_images(patches, images, problems)
        white_level = common_white_level(patches, images, problems)
        rows = np.flatnonzero((patches["mask"] != "") & (patches["width"] > 0))
        masks = checks.masks(pool, mask_items(patches, rows, images, chosen))
        mask_names = patches["mask"].iloc[rows].tolist()
        mapping, numbers, doubts = understand(mask_names, masks, mapping, problems)
        patch_size = patch_size_of(patches, problems)
        problems.stop_if_fatal(out)
        usable = zip(names, patches["width"] > 0, images, strict=True)
        told = {name: check.bands for name, used, check in usable if used}
        band_set = band_set_of_patches(data, told, chosen)
        masks = [counted(check, mapping) for check in masks]
        changed, corrected = checks.changes(mask_names, masks, mapping)
        pixels, kinds = take_masks(patches, rows, masks, mapping, mapping_path, problems)
        problems.stop_if_fatal(out)
        guessed = compare_with_guesses(
            patches, guesses, lambda some: checks.guesses(pool, some, mapping), problems
        )

        # Which side each patch is on.
        labelled = (patches["mask"] != "").to_numpy()
        base = patches["base"].to_numpy()
        bases["patches"] = np.bincount(base, minlength=len(bases))
        bases["labelled"] = np.bincount(base[labelled], minlength=len(bases))
        base_pixels = np.zeros((len(bases), pixels.shape[1]), np.int64)
        np.add.at(base_pixels, base, pixels)
        area = None
        if roles is None and (
            split_by == "area" or (split_by is None and may_split_by_area(patches, bases))
        ):
            grounds = grounds_of(data, patches, of_images)
            area = split_by_area(
                patches,
                bases,
                pixels[:, 1:],
                patch_size,
                val_split,
                seed,
                block_size,
                grounds,
                problems,
            )
            # Two images of the same ground leave nothing: they are not to be split as others.
            said = split_by == "area" or block_size is not None
            if area is None and (said or on_one_ground(patches, grounds)):
                raise InputError(
                    "--split-by area: the labels lie in too few blocks of ground, so nothing is "
                    "left to learn from or to validate on; label ground further away"
                    + ("" if said else ", or say --split-by base, whose sides show the same ground")
                )
        elif block_size is not None:
            raise InputError(
                f"--block-size {block_size}: is of --split-by area, which is not what is chosen "
                "here by itself; say it"
            )
        split_by = "area" if area is not None else split_by or "base"
        if leaky := roles is None and split_by == "patch":
            patches["split"], bases["split"] = split_by_patch(
                patches, bases, pixels[:, 1:], val_split, seed
            )
        elif area is not None:
            patches["split"], bases["split"] = area.splits, area.words
        else:
            if roles is None:
                roles = split_bases(bases, base_pixels[:, 1:], split_by, val_split, seed)
            bases["split"] = roles
            note_roles_without_masks(bases, problems)
            patches["split"] = patch_splits(roles[base], labelled)
        patches.loc[patches["width"] == 0, "split"] = "exclude"
        if not leaky:
            leave_out_copies(patches, images, lambda some: checks.hashes(pool, some), problems)
        learnt = patches["image"][patches["split"].isin(("train", "unlabeled"))].tolist()
        if band_set is not None:
            band_set = measured(pool, data, learnt, band_set)

    table, base_table = tables(patches, bases, mapping, pixels, base_pixels)
    summary: dict[str, Any] = {
        "format": FORMAT,
        "data": data.absolute().as_posix(),
        "class_mapping": mapping_path.as_posix(),
        "classes": mapping.as_plain(),
        "patch_size": patch_size,
        "split_by": "file" if split_file else split_by,
        "split_file": split_file.as_posix() if split_file else None,
        "labeled_list": labeled_list.as_posix() if labeled_list else None,
        "val_split": val_split,
        "area": None if area is None else area.as_plain(),
        "seed": seed,
        "images": len(patches),
        "masks": found_masks,
        "labelled": int((labelled & (patches["split"] != "exclude")).sum()),
        "splits": {name: int((patches["split"] == name).sum()) for name in SPLITS},
        "mask_kinds": kinds,
        "mask_numbers": numbers,
        "mask_doubts": doubts,
        "masks_without_class": sum(row[1] == NO_CLASS_IN_IT for row in problems.rows),
        "white_level": white_level,
        "guessed": guessed,
        "folders": _by_folder(bases),
        "class_pixels": _class_pixels(table, mapping),
        "frames_on_both_sides": frames_on_both_sides(bases),
        "bases_on_both_sides": int((bases["split"] == "mixed").sum()),
        "problems": dict(sorted(Counter(kind for _, kind, _, _ in problems.rows).items())),
    }
    if band_set is not None:
        summary["bands"] = band_set.as_plain()
        console.print(f"Bands, in 8 bits: {band_set.described()}")
    preview = draw_preview(data, table, mapping, summary["class_pixels"], white_level, band_set)
    if area is not None:
        preview = with_plan(preview, patches, bases, area.edges)
    write_index(out, table, base_table, problems, preview, summary)
    checks.save(listed)
    if changed:
        console.print(
            f"{plural(changed, 'mask')} changed since the last index: at least "
            f"{corrected:,} pixels corrected"
        )
    if area is not None:
        say_area(area, block_size is not None)
    print_report(summary, table, mapping, problems, out)
    return summary


def _say_mapping(mapping: ClassMapping, path: Path) -> None:
    which = "the packaged Salak classes" if path == packaged_class_mapping() else path
    ignored = f"; ignored: {', '.join(mapping.ignored_names)}" if mapping.ignored_names else ""
    console.print(f"Class mapping: {which} ({', '.join(mapping.names)}{ignored})")


def _by_folder(bases: pd.DataFrame) -> list[dict[Any, Any]]:
    table = bases.groupby("folder")[["patches", "labelled"]].sum()
    table["base_images"] = bases.groupby("folder").size()
    return table.reset_index().to_dict("records")


def _class_pixels(table: pd.DataFrame, mapping: ClassMapping) -> dict[str, dict[str, int]]:
    """Split → class → pixels, for the splits with masks."""
    result = {}
    for split in ("train", *HELD_OUT):
        part = table[table["split"] == split]
        if len(part) or split != "test":
            result[split] = {name: int(part[f"pixels {name}"].sum()) for name in mapping.names}
    return result
