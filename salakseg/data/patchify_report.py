"""What `patchify` has cut → what it says of it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from salakseg.console import console
from salakseg.data.labels_draw import Tally
from salakseg.data.patchify_check import PhotoToCut
from salakseg.data.patchify_cut import Cut
from salakseg.data.patchify_record import Record
from salakseg.data.problems import SHOWN, plural
from salakseg.imagery.photo import TIFF_SUFFIXES
from salakseg.mask_meaning import NO_CLASS


def tell(
    out: Path, photos: Sequence[PhotoToCut], record: Record, cuts: dict[str, Cut]
) -> dict[str, int]:
    """Print what was cut and what is odd; the counts that `patchify` returns."""
    counts = {
        "photos": len(photos),
        "cut": len(cuts),
        "patches": sum(len(record.rows[photo.source]) for photo in photos),
        "masked": sum(len(record.rows[photo.source]) for photo in photos if photo.has_mask),
        "nodata": sum(done.nodata for done in cuts.values()),
    }
    notes: dict[str, list[str]] = defaultdict(list)
    for source, done in sorted(cuts.items()):
        for note, detail in (done.notes | _of_patches(source, done)).items():
            notes[note].append(f"{source} ({detail})" if detail else source)
    for note, details in notes.items():
        more = f", and {len(details) - SHOWN} more" if len(details) > SHOWN else ""
        console.print(f"{note}: {', '.join(details[:SHOWN])}{more}")
    _tell_labels(photos, cuts)
    _tell_pixel_sizes(cuts, record.options.gsd)
    console.print(
        f"{out}: {plural(counts['patches'], 'patch', 'patches')} of {record.options.size} pixels "
        f"from {plural(counts['photos'], 'photo')}, {counts['masked']} with a mask"
    )
    console.print(f"Next: salakseg index {out}")
    return counts


def _of_patches(source: str, done: Cut) -> dict[str, str]:
    """What there is to tell of a photo's patches, as `Cut.notes`."""
    notes = {}
    if done.nodata:
        notes["Patches that are nodata all over, left out"] = plural(
            done.nodata, "patch", "patches"
        )
    if done.partial:
        notes["Patches that are nodata in part: transparent there, and without a class"] = plural(
            done.partial, "patch", "patches"
        )
    if done.flat and source.lower().endswith(TIFF_SUFFIXES):
        notes[
            "Patches of one flat colour, kept; where that is a margin, cut again into another "
            "folder with --nodata and its value"
        ] = plural(done.flat, "patch", "patches")
    return notes


def _tell_labels(photos: Sequence[PhotoToCut], cuts: dict[str, Cut]) -> None:
    """Share of each class in what was drawn, and where one class was drawn over another."""
    cut = {photo.source: photo.drawing for photo in photos if photo.source in cuts}
    drawings = {source: one for source, one in cut.items() if one is not None}
    if not drawings:
        return
    drawn = sum((cuts[source].drawn for source in drawings), Tally())
    rows = next(iter(drawings.values())).rows
    total = drawn.pixels.total() or 1
    shares = [
        f"{rows[row][0]} {pixels / total:.1%}"
        for row, pixels in sorted(drawn.pixels.items())
        if row < len(rows)
    ]
    console.print(
        f"Labels drawn on {plural(len(drawings), 'photo')}: {', '.join(shares) or 'none'}; "
        f"{drawn.pixels[NO_CLASS] / total:.1%} without a class"
    )
    if drawn.overlapping:
        console.print(
            "Shapes of several classes lie over one another in "
            f"{plural(drawn.overlapping, 'pixel')}: the later one holds"
        )


def _tell_pixel_sizes(cuts: dict[str, Cut], gsd: float | None) -> None:
    """A line for each way in which pixel sizes are known or not, but for places."""
    sources: dict[str, list[str]] = defaultdict(list)
    for source, done in sorted(cuts.items()):
        if done.rows:
            sources[done.sized_by].append(source)
    if found := sources["metadata"]:
        metres = sorted(float(cuts[source].rows[0].pixel_size) for source in found)
        console.print(
            f"Pixel size of {plural(len(found), 'photo')} by their metadata, approximate: "
            f"{metres[0]:.3g} m" + (f" to {metres[-1]:.3g} m" if metres[-1] > metres[0] else "")
        )
    if sources["gsd"]:
        console.print(f"Pixel size of {plural(len(sources['gsd']), 'photo')} by --gsd: {gsd:g} m")
    elif gsd is not None and sources["place"]:
        console.print(f"--gsd {gsd:g} is not needed: the photos' own place tells their pixel size")
    if unknown := sources[""]:
        console.print(
            f"Pixel size of {plural(len(unknown), 'photo')} not known ({unknown[0]}: "
            f"{cuts[unknown[0]].why}); --gsd METRES says it"
        )
