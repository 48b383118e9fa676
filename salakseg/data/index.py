"""Patch folders → index/: pair images and masks, check them, split them.

In goes a folder DATA with images/ and masks/ in it or in folders below. Out come `patches.csv` (one
row a patch: the truth that `shard` obeys), `base_images.csv` (the same by photograph, to edit and
give back), `problems.csv`, `summary.json` and `preview.png`; and `checked.json.gz`, by which the
next run opens only files that changed. The data itself is never changed.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from salakseg.classes import (
    ClassMapping,
    find_class_mapping,
    packaged_class_mapping,
    read_class_mapping,
)
from salakseg.console import console
from salakseg.data.check_cache import CheckCache
from salakseg.data.checks import GuessCheck, ImageCheck, counted
from salakseg.data.folders import (
    base_images_of,
    find_folders,
    guesses_of,
    pair,
    read_labeled_list,
    read_split_file,
)
from salakseg.data.index_report import draw_preview, print_report
from salakseg.data.mask_doctor import (
    NO_CLASS_IN_IT,
    mask_items,
    take_masks,
    understand,
    with_said_values,
)
from salakseg.data.places import note_masks_elsewhere, take_places
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
from salakseg.data.workers import require_workers, worker_processes
from salakseg.errors import InputError
from salakseg.files import atomic_path, require_folder, sha256_of
from salakseg.imagery.drawing import Picture

FORMAT = "salakseg-index-1"
PATCH_COLUMNS = ["folder", "base_image", "row", "column", "image", "mask", "width", "height"]
PATCH_COLUMNS += ["bytes", "split", "pixel_size", "x", "y"]
LARGEST_PATCH = 1024  # pixels a side


@dataclass(frozen=True)
class Index:
    """What `index` wrote.

    `patches` has the columns of patches.csv: text columns hold strings ('' for none), width, height
    and bytes int64, row, column, x, y and the pixel counts Int64 (NA where not known), pixel_size
    float64 in metres (NaN where not known).
    """

    data: Path
    mapping: ClassMapping
    patches: pd.DataFrame
    patch_size: int
    summary: dict[str, Any]


def index(
    data: Path | str,
    *,
    out: Path | str = Path("index"),
    class_mapping: Path | str | None = None,
    mask_values: str | None = None,
    mask_offset: int | None = None,
    val_split: float = 0.2,
    split_by: str = "base",
    split_file: Path | str | None = None,
    labeled_list: Path | str | None = None,
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
        split_by: what stays together: `base` image, `block` of consecutive frames, `folder`, or
            single `patch` (which leaks).
        split_file: CSV with base_image, split and where needed folder, in place of a random split.
        labeled_list: names of the patches or base images whose masks may be used, one a line.
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
    if split_by not in SPLIT_BY:
        raise InputError(f"--split-by {split_by}: choose one of {', '.join(SPLIT_BY)}")
    if not 0 < val_split < 1:
        raise InputError(f"--val-split {val_split}: must lie between 0 and 1, as in 0.2")
    require_workers(num_workers)
    mapping_path = find_class_mapping(class_mapping, data)
    mapping = with_said_values(read_class_mapping(mapping_path), mask_values, mask_offset)
    _say_mapping(mapping, mapping_path)

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

        images = checks.images(pool, patches["image"].tolist(), patches["beside"].tolist())
        _take_images(patches, images, problems)
        white_level = _white_level(patches, images, problems)
        rows = np.flatnonzero((patches["mask"] != "") & (patches["width"] > 0))
        masks = checks.masks(pool, mask_items(patches, rows, images))
        mask_names = patches["mask"].iloc[rows].tolist()
        mapping, numbers, doubts = understand(mask_names, masks, mapping, problems)
        patch_size = _patch_size(patches, problems)
        problems.stop_if_fatal(out)
        masks = [counted(check, mapping) for check in masks]
        changed, corrected = checks.changes(mask_names, masks, mapping)
        pixels, kinds = take_masks(patches, rows, masks, mapping, mapping_path, problems)
        problems.stop_if_fatal(out)
        guessed = _compare_with_guesses(
            patches, guesses, lambda some: checks.guesses(pool, some, mapping), problems
        )

        labelled = (patches["mask"] != "").to_numpy()
        base = patches["base"].to_numpy()
        bases["patches"] = np.bincount(base, minlength=len(bases))
        bases["labelled"] = np.bincount(base[labelled], minlength=len(bases))
        base_pixels = np.zeros((len(bases), pixels.shape[1]), np.int64)
        np.add.at(base_pixels, base, pixels)
        if roles is None and split_by == "patch":
            patches["split"], bases["split"] = split_by_patch(
                patches, bases, pixels[:, 1:], val_split, seed
            )
            patches.loc[patches["width"] == 0, "split"] = "exclude"
        else:
            if roles is None:
                roles = split_bases(bases, base_pixels[:, 1:], split_by, val_split, seed)
            bases["split"] = roles
            note_roles_without_masks(bases, problems)
            patches["split"] = patch_splits(roles[base], labelled)
            patches.loc[patches["width"] == 0, "split"] = "exclude"
            _leave_out_copies(patches, images, lambda some: checks.hashes(pool, some), problems)

    names = ["ignored", *(f"pixels {name}" for name in mapping.names)]
    counts = pd.DataFrame(pixels, columns=names, index=patches.index).astype("Int64")
    counts[~labelled] = pd.NA
    table = pd.concat([patches[PATCH_COLUMNS], counts], axis=1)
    base_table = pd.concat(
        [
            bases[["folder", "base_image", "split", "patches", "labelled"]],
            pd.DataFrame(base_pixels, columns=names),
        ],
        axis=1,
    )
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
    preview = draw_preview(data, table, mapping, summary["class_pixels"], white_level)
    _write(out, table, base_table, problems, preview, summary)
    checks.save(listed)
    if changed:
        console.print(
            f"{plural(changed, 'mask')} changed since the last index: at least "
            f"{corrected:,} pixels corrected"
        )
    print_report(summary, table, mapping, problems, out)
    return summary


def read_index(index_dir: Path) -> Index:
    """Read what `index` wrote.

    Raises:
        InputError: no index there, a damaged one, or one whose data is gone.
    """
    path = index_dir / "summary.json"
    if not path.is_file():
        raise InputError(f"{index_dir}: no index there; run salakseg index DATA first")
    again = "run salakseg index DATA again"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["format"] != FORMAT:
            raise InputError(f"{path}: the format {summary['format']!r} is not known here; {again}")
        mapping = ClassMapping.from_plain(summary["classes"], str(path))
        data, patch_size = Path(summary["data"]), int(summary["patch_size"])
        checksum = summary["patches_sha256"]
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; {again}") from error
    table = index_dir / "patches.csv"
    if not table.is_file() or sha256_of(table) != checksum:
        raise InputError(
            f"{table}: missing, or not as salakseg index wrote it; {again} "
            "(to change the split, edit base_images.csv and give it to --split-file)"
        )
    if not data.is_dir():
        raise InputError(f"{data}: the data of {index_dir} is gone; {again} with its new place")
    counts = ["ignored", *(f"pixels {name}" for name in mapping.names)]
    optional = ["row", "column", "x", "y", *counts]
    types = {
        **dict.fromkeys(("folder", "base_image", "image", "mask", "split"), "str"),
        **dict.fromkeys(("width", "height", "bytes"), "int64"),
        **dict.fromkeys(optional, "Int64"),
        "pixel_size": "float64",
    }
    # A folder or photograph may be called NA or null: only numbers have missing values.
    missing = {name: [""] for name in (*optional, "pixel_size")}
    try:
        patches = pd.read_csv(
            table, dtype=types, keep_default_na=False, na_values=missing, encoding="utf-8"
        )
    except ValueError as error:  # the table is as written, so its classes are others
        raise InputError(f"{path}: does not fit {table}; {again}") from error
    if gone := types.keys() - set(patches.columns):
        raise InputError(f"{path}: does not fit {table}, which has no {min(gone)}; {again}")
    return Index(data, mapping, patches, patch_size, summary)


def _say_mapping(mapping: ClassMapping, path: Path) -> None:
    which = "the packaged Salak classes" if path == packaged_class_mapping() else path
    ignored = f"; ignored: {', '.join(mapping.ignored_names)}" if mapping.ignored_names else ""
    console.print(f"Class mapping: {which} ({', '.join(mapping.names)}{ignored})")


def _take_images(patches: pd.DataFrame, checks: list[ImageCheck], problems: Problems) -> None:
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


def _white_level(patches: pd.DataFrame, images: list[ImageCheck], problems: Problems) -> int | None:
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


def _patch_size(patches: pd.DataFrame, problems: Problems) -> int:
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


def _leave_out_copies(
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


def _compare_with_guesses(
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


def _write(
    out: Path,
    table: pd.DataFrame,
    base_table: pd.DataFrame,
    problems: Problems,
    preview: Picture,
    summary: dict[str, Any],
) -> None:
    """All files or none: each is whole under a temporary name before the first gets its own."""
    with ExitStack() as stack:
        # The stack renames from the last to the first: the summary, which vouches for the rest,
        # comes last.
        names = ("summary.json", "preview.png", "problems.csv", "base_images.csv", "patches.csv")
        paths = {name: stack.enter_context(atomic_path(out / name)) for name in names}
        for name, frame in (("patches.csv", table), ("base_images.csv", base_table)):
            frame.to_csv(paths[name], index=False, encoding="utf-8", lineterminator="\n")
        paths["problems.csv"].write_text(problems.as_csv(), encoding="utf-8", newline="\n")
        Image.fromarray(preview).save(paths["preview.png"])
        summary["patches_sha256"] = sha256_of(paths["patches.csv"])
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        paths["summary.json"].write_text(text, encoding="utf-8", newline="\n")
