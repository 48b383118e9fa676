"""An index → what a person sees of it: preview.png, and the tables on the console."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from salakseg.band_set import BandSet
from salakseg.classes import ClassMapping, read_mask
from salakseg.console import console
from salakseg.data.problems import Problems, first_of, plural
from salakseg.imagery.drawing import MARGIN, TEXT_SIZE, Picture, contact_sheet, overlay
from salakseg.imagery.photo import read_photo

CELL = 192
MAX_ROWS = 24  # classes shown


def draw_preview(
    data: Path,
    table: pd.DataFrame,
    mapping: ClassMapping,
    pixels: dict[str, dict[str, int]],
    white_level: int | None = None,
    band_set: BandSet | None = None,
) -> Picture:
    """A row for each class, with a patch of training and one of validation; class shares below.

    16-bit patches are read by their set's `white_level`, those of more bands as `band_set`.
    """

    def read(image: str) -> Picture:
        return read_photo(data / image, white_level, band_set)

    blank = np.full((8, 8, 3), 255, np.uint8)
    rows: list[list[Picture]] = []
    titles: list[str] = []
    for name in mapping.names[:MAX_ROWS]:
        row: list[Picture] = []
        title = []
        for split in ("train", "val"):
            part = table[(table["split"] == split) & (table[f"pixels {name}"] > 0)]
            if part.empty:
                row += [blank, blank]
                title.append("none")
                continue
            # Half class, half others shows best whether mask and image lie on each other.
            share = part[f"pixels {name}"] / (part["width"] * part["height"])
            patch = part.iloc[int((share - 0.5).abs().to_numpy(float).argmin())]
            image = read(patch["image"])
            labels = read_mask(data / patch["mask"], mapping).labels
            row += [image, overlay(image, labels, mapping)]
            title.append(patch["image"])
        if any(picture is not blank for picture in row):
            rows.append(row)
            titles.append(f"{name}: {' | '.join(title)}")
    heads = ["train", "with mask", "val", "with mask"]
    if not rows:
        some = table[table["split"] != "exclude"]["image"].iloc[:: max(1, len(table) // 12)][:12]
        pictures = [read(image) for image in some]
        pictures += [blank] * (-len(pictures) % 4)
        rows = [pictures[start : start + 4] for start in range(0, len(pictures), 4)]
        titles, heads = [""] * len(rows), ["unlabelled"] * 4
    sheet = contact_sheet(rows, titles, heads, mapping, CELL)
    return np.concatenate([sheet, _histogram(pixels, mapping, sheet.shape[1])])


def _histogram(pixels: dict[str, dict[str, int]], mapping: ClassMapping, width: int) -> Picture:
    """Each class's share of the pixels, a bar for every split."""
    font = ImageFont.load_default(TEXT_SIZE)
    line = TEXT_SIZE + MARGIN
    names, splits = mapping.names, [split for split in pixels if any(pixels[split].values())]
    picture = Image.new("RGB", (width, line * (len(names) * len(splits) + 1)), "white")
    draw = ImageDraw.Draw(picture)
    left = 2 * MARGIN + max(int(font.getlength(f"{name} train")) for name in names)
    room = width - left - int(font.getlength("100.00 %")) - 2 * MARGIN
    y = MARGIN
    for name, color in zip(names, mapping.colors, strict=True):
        for split in splits:
            share = pixels[split][name] / max(1, sum(pixels[split].values()))
            right = left + round(share * room)
            draw.text((MARGIN, y), f"{name} {split}", fill="black", font=font)
            draw.rectangle((left, y + 2, right, y + TEXT_SIZE), fill=color, outline="black")
            draw.text((right + MARGIN, y), f"{share:.2%}", fill="black", font=font)
            y += line
    return np.asarray(picture)


def print_report(
    summary: dict[str, Any],
    table: pd.DataFrame,
    mapping: ClassMapping,
    problems: Problems,
    out: Path,
) -> None:
    """Print the totals, the class shares, the split and what was found wrong."""
    splits = summary["splits"]
    console.print(f"TOTAL PATCHES: {summary['images']} images, {summary['masks']} masks")
    _print_table(
        ("folder", "patches", "labelled", "base images"),
        [tuple(folder.values()) for folder in summary["folders"]],
    )
    if summary["mask_kinds"]:
        kinds = ", ".join(f"{count} as {kind}" for kind, count in summary["mask_kinds"].items())
        numbers = f": {summary['mask_numbers']}" if summary["mask_numbers"] else ""
        console.print(f"Masks read: {kinds}{numbers}")
    if summary["mask_doubts"]:
        console.print(f"WARNING: {summary['mask_doubts']}")
    if summary["masks_without_class"]:
        console.print(
            f"Masks without a pixel of a class: {summary['masks_without_class']}; their patches "
            "are used as unlabelled"
        )
    if guessed := summary["guessed"]:
        console.print(
            f"{plural(guessed['base_images'], 'photograph')} began as a model's guess: "
            f"{guessed['changed_pixels'] / guessed['pixels']:.1%} of the pixels "
            f"({guessed['changed_pixels']:,}) were corrected since"
        )
        if unchanged := guessed["unchanged"]:
            console.print(
                f"Still as guessed: {len(unchanged)} of them ({first_of(unchanged)}); if nobody "
                "has looked at these, take their masks out of masks/"
            )
    _report_classes(summary, table, mapping)
    how = {
        "file": f"by {summary['split_file']}",
        "base": "by base image",
        "block": "by runs of consecutive frames",
        "folder": "by folder",
        "area": "by blocks of ground",
        "patch": "by single patch",
    }[summary["split_by"]]
    parts = [f"{splits['train']} train", f"{splits['val']} val"]
    parts += [f"{splits['test']} test"] if splits["test"] else []
    console.print(
        f"Split {how}: {', '.join(parts)}; {splits['unlabeled']} unlabelled; "
        f"{splits['exclude']} left out"
    )
    if summary["split_by"] == "patch":
        console.print(
            f"WARNING: {plural(summary['bases_on_both_sides'], 'base image')} on both sides, and "
            "the unlabelled patches come from the same photographs: this is the published protocol "
            "and leaks: scores come out too high. Use --split-by base for scores to trust"
        )
    elif summary["frames_on_both_sides"]:
        console.print(
            f"Neighbours: {plural(summary['frames_on_both_sides'], 'pair')} of consecutive frames "
            "lie on both sides (one held out, one used in training). Where photographs overlap on "
            "the ground, scores come out too high; --split-by block keeps runs together"
        )
    if not summary["labelled"]:
        console.print(
            "WARNING: no labelled patches; salakseg train needs some: put masks of the same names "
            "into masks/ beside images/"
        )
    elif not splits["val"] or not splits["train"]:
        lacking = "validation" if splits["train"] else "training"
        console.print(f"WARNING: no labelled patches for {lacking}; salakseg train needs both")
    if problems.rows:
        console.print(f"Found wrong ({out / 'problems.csv'} has each file):")
        rows = []
        for kind, count in summary["problems"].items():
            _, _, file, detail = min(row for row in problems.rows if row[1] == kind)
            rows.append((kind, count, f"{file}: {detail}"))
        _print_table(("problem", "count", "the first"), rows, numbers=(1,))
    console.print(f"Wrote {out}/ (look at {out / 'preview.png'}). Next: salakseg shard")


def _report_classes(summary: dict[str, Any], table: pd.DataFrame, mapping: ClassMapping) -> None:
    pixels = summary["class_pixels"]
    if not summary["labelled"]:
        return
    totals = {split: sum(counts.values()) for split, counts in pixels.items()}
    rows = []
    for name in mapping.names:
        counts = [pixels[split][name] for split in pixels]
        shares = [f"{pixels[split][name] / max(1, totals[split]):.2%}" for split in pixels]
        holding = table[(table["split"].isin(pixels)) & (table[f"pixels {name}"] > 0)]
        bases = len(holding[["folder", "base_image"]].drop_duplicates())
        rows.append((name, f"{sum(counts) / max(1, sum(totals.values())):.2%}", *shares, bases))
    _print_table(("class", "share", *pixels, "base images"), rows)
    absent = [name for name in mapping.names if not any(pixels[split][name] for split in pixels)]
    if len(absent) == len(mapping.names) - 1:
        console.print("WARNING: the masks hold a single class: there is nothing to tell apart")
    if absent:
        console.print(f"WARNING: no pixel of {', '.join(absent)} in any mask")
    for split in pixels:
        lacking = [n for n in mapping.names if n not in absent and not pixels[split][n]]
        if lacking and summary["splits"][split]:
            console.print(f"WARNING: no pixel of {', '.join(lacking)} in {split}")


def _print_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[int] | None = None
) -> None:
    table = Table()
    for position, name in enumerate(header):
        right = position in numbers if numbers is not None else position > 0
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
