"""Full photos and masks → patch folders in the Salak layout.

In: a folder with `images/` and, where there are masks, `masks/` beside it, at any depth; and
`guess/`, where a mask began as a model's guess (`suggest --export`), cut as the mask is. Out: the
same folders under another root, holding patches `BASE_patch_RRR_CCC.png`, and beside each `images/`
a `layout.csv` that says where in which full image each patch lies. Pixels are only ever cut, never
resampled; every pixel of a photo is in a patch, except where a whole patch is nodata.

A run that was stopped goes on where it was (`patchify_record`). The patches are the same bytes
whatever the number of processes, which share out large rasters by rows of patches.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from salakseg.console import console, progress
from salakseg.data.folders import files_by_stem, files_of, find_folders, note_unread, why_nothing
from salakseg.data.labels import LabelOptions, with_labels
from salakseg.data.patchify_check import Checked, CutOptions, PhotoToCut
from salakseg.data.patchify_cut import Cut, Part, cut, patch_places
from salakseg.data.patchify_plan import plan_of, say_scale
from salakseg.data.patchify_record import (
    Record,
    labels_before,
    patches_present,
    read_record,
)
from salakseg.data.patchify_report import tell
from salakseg.data.problems import Problems, plural
from salakseg.data.workers import Workers, require_workers, worker_processes
from salakseg.errors import InputError
from salakseg.files import atomic_path, require_disk_space, require_folder, write_text
from salakseg.imagery.area import require_gsd
from salakseg.imagery.bands import checked_bands, require_white_level
from salakseg.imagery.nodata import require_nodata

SMALLEST_SIZE = 32
# What a patch of photograph and mask takes as PNG, at most, for the check of the disk's space.
BYTES_PER_PIXEL = 2.5
SECONDS_BETWEEN_SAVES = 10.0
# Opening a raster costs as much as reading some of it, so parts are not smaller, in pixels, and no
# more than give each process a few; a mask that is decoded as a whole is so by each part of it.
SMALLEST_PART = 4_000_000
PARTS_A_WORKER = 4
MOST_PARTS_OF_A_WHOLE_MASK = 4


def patchify(
    data: Path | str,
    *,
    out: Path | str,
    size: int = 256,
    bands: Sequence[int] | str | None = None,
    nodata: float | None = None,
    white_level: int | None = None,
    gsd: float | None = None,
    labels: Path | str | None = None,
    label_field: str | None = None,
    label_layer: str | None = None,
    outside: str | None = None,
    aoi: Path | str | None = None,
    num_workers: int | None = None,
) -> dict[str, int]:
    """Cut full photos (JPG, PNG, TIFF, of any size) and their masks into patches.

    The last row and column of patches are moved inwards to end at the image's edge. An image
    smaller than a patch in a direction gives one patch as small in it. Where an image is not there
    (nodata, transparent), its patch is transparent and the mask's has no class. Photos of 16 bits
    are all made as bright by one white level. DATA/class_mapping.csv goes along. Run again, it goes
    on with what is missing, by the options of the first run where they are not given.

    Args:
        data: holds images/ (and masks/ with the same names), itself or in folders below it.
        out: where the patch folders go; not inside `data`, nor around it.
        size: side of the patches in pixels.
        bands: numbers, from 1, of the one, three or more bands to take; None: those that the file
            calls red, green and blue, else the first three. Patches of more than three are
            GeoTIFFs, their bands brought to 8 bits by one scale for all photos.
        nodata: a pixel is nodata where all its bands have this value; None: as the file says.
        white_level: the 16-bit value that becomes 255; None: the least usual one that all 16-bit
            photos keep to.
        gsd: metres on the ground a pixel, of photos without CRS; None: by a drone's metadata.
        labels: what people drew, a file or a folder of files, in place of masks: polygons on the
            ground (GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML), or Labelme, COCO, CVAT for
            images, Label Studio, Supervisely. Of overlapping shapes the later one holds. None: as
            in the last run.
        label_field: column that names the class; None: the only one of text, or class, label, name.
        label_layer: None: the only one with polygons.
        outside: class of what no shape holds; None: none.
        aoi: polygons on the ground; outside of them nothing has a class.
        num_workers: processes; None: one a core; 0 or 1: none beside this one.

    Returns:
        Counts: photos, cut (photos cut in this run), patches, masked (patches with a mask), nodata
        (patches left out in this run because the file says that they hold nothing).

    Raises:
        InputError: nothing to cut, photos and masks that do not fit or lie on other ground,
            unreadable files, an `out` with other things in it or cut with other options.
        WorkError: the disk is too small, a worker process died.
    """
    data, out = Path(data), Path(out)
    options = CutOptions(size, checked_bands(bands), nodata, gsd, white_level)
    require_folder(data, "give the folder that holds images/ (and masks/ beside it)")
    if size < SMALLEST_SIZE:
        raise InputError(f"--size {size}: a patch has at least {SMALLEST_SIZE} pixels a side")
    require_workers(num_workers)
    require_gsd(gsd)
    require_nodata(nodata, several=options.several is not None)
    require_white_level(white_level)
    if white_level is not None and options.several is not None:
        raise InputError(
            f"--white-level {white_level}: more than three bands have a scale of their own each"
        )
    here, there = data.resolve(), out.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise InputError(
            f"--out {out}: lies inside {data} or around it, where patches would be taken for "
            "photos; give another folder"
        )
    photos = find_photos(data)
    told = _labels_told(out, labels, label_field, label_layer, outside, aoi)
    mapping = None
    if told is not None:
        photos, mapping = with_labels(data, out, photos, told)
    # A guess that nobody has made labels of is none.
    photos = [photo if photo.has_mask else replace(photo, guess=None) for photo in photos]
    record = read_record(out, data, options, photos, told.as_plain() if told else None)
    present = patches_present(out, photos)
    with worker_processes(num_workers) as workers:
        plan = plan_of(workers, data, photos, record, present)
        eight_bits = plan.band_set is None
        eight_bits &= all(one.white_level is None for one in plan.checked.values())
        if nodata is not None and nodata > 255 and plan.checked and eight_bits:
            raise InputError(f"--nodata {nodata:g}: the photos' values are 8-bit, 0 to 255")
        masked = sum(photo.has_mask for photo in photos)
        console.print(
            f"{data}: {plural(len(photos), 'photo')}, {masked} with a mask, "
            f"{len(photos) - len(plan.todo)} done already"
        )
        say_scale(plan, record.options)
        pixels = sum(one.width * one.height for one in plan.checked.values())
        needed = pixels * BYTES_PER_PIXEL
        if plan.band_set is not None:
            needed *= len(plan.band_set) / 3
        require_disk_space(out, int(needed), f"cutting {plural(len(plan.todo), 'photo')}")
        if (data / "class_mapping.csv").is_file():
            with atomic_path(out / "class_mapping.csv") as temporary:
                shutil.copyfile(data / "class_mapping.csv", temporary)
        elif mapping is not None:
            write_text(out / "class_mapping.csv", mapping)
        for photo in plan.todo:
            record.forget(photo, present[photo.folder, photo.base_image])
        record.save(photos)
        # Taken before: a file that changes while it is cut must count as changed.
        cut_by = {photo.source: plan.cut_by(photo) for photo in plan.todo}
        parts = [
            Part(photo, first, end, cut_by[photo.source]["white_level"])
            for photo in plan.todo
            for first, end in _parts(plan.checked[photo.source], size, pixels, workers)
        ]
        job = partial(
            cut, out=out, options=record.options, mapping=plan.mapping, band_set=plan.band_set
        )
        cuts = _cut_all(workers, job, parts, record, photos, cut_by)
    return tell(out, photos, record, cuts)


def _labels_told(
    out: Path,
    labels: Path | str | None,
    label_field: str | None,
    label_layer: str | None,
    outside: str | None,
    aoi: Path | str | None,
) -> LabelOptions | None:
    """The labels that this run was told of, else those of the last one."""
    options = {"label-field": label_field, "label-layer": label_layer}
    options |= {"outside": outside, "aoi": None if aoi is None else str(aoi)}
    if labels is not None:
        return LabelOptions(str(labels), *options.values())
    if alone := next((name for name, value in options.items() if value is not None), None):
        raise InputError(f"--{alone}: is of labels; give --labels FILE_OR_FOLDER too")
    before = labels_before(out)
    if before is not None:
        said = [before.labels]
        for name, value in asdict(before).items():
            if name != "labels" and value is not None:
                said.append(f"--{name.replace('_', '-')} {value}")
        console.print(f"{out}: as in the last run, with --labels {' '.join(said)}")
    return before


def find_photos(data: Path) -> list[PhotoToCut]:
    """Every photo under DATA in the order of its posix path, paired with its mask and guess.

    Folders and files are found by the rule of `index`, so that both see the same.

    Raises:
        InputError: nothing to cut, a mask without a photo, two files of one name.
    """
    problems, photos = Problems(), list[PhotoToCut]()
    folders = find_folders(data)
    lonely: list[str] = []
    for folder in folders:
        where = "" if folder.name == "." else f"{folder.name}/"
        images = files_of(f"{where}{folder.images}", folder.image_files, "photo", problems)
        masks = files_of(f"{where}{folder.masks}", folder.mask_files, "mask", problems)
        guesses, _ = files_by_stem(folder.guess_files)
        note_unread(folder, problems)
        for name, usual in ((folder.images, "images"), (folder.masks, "masks")):
            if name not in ("", usual):
                problems.handled("folder", f"{where}{name}", f"taken for {usual}/, as it is cut to")
        lonely += [path for stem, path in masks.items() if stem not in images]
        # Windows and macOS do not tell A.png from a.png, and patches are named after the stem.
        seen: dict[str, str] = {}
        for stem, path in images.items():
            other = seen.setdefault(stem.casefold(), path)
            if other != path:
                problems.fatal(
                    "two photos of one name",
                    path,
                    f"on Windows and macOS it is that of {other}, and so would their patches be; "
                    "rename one or move it away",
                )
            mask = masks.get(stem)
            mask_path = None if mask is None else data / mask
            guess_path = None
            if stem in guesses:
                guess_path = data / folder.name / "guess" / guesses[stem][0]
            photos.append(PhotoToCut(folder.name, path, data / path, mask_path, guess_path))
    for severity, kind, file, detail in problems.rows:
        if severity == "fatal":
            raise InputError(f"{data / file}: {kind}: {detail}")
        console.print(f"{data / file}: {kind}: {detail}")
    if lonely:
        raise InputError(
            f"{data / lonely[0]}: a mask without a photo of that name in images/ beside its folder "
            f"({plural(len(lonely), 'such mask')}); name it as its photo, or move it away"
        )
    if not photos:
        raise InputError(why_nothing(data, folders))
    return photos


def _parts(checked: Checked, size: int, pixels: int, workers: Workers) -> list[tuple[int, int]]:
    """First and end row of patches of each part of a photo.

    Args:
        pixels: of all photos together.
    """
    # A mask may be two pixels shorter than its photo, and so have a row of patches less.
    rows = len(patch_places(checked.height, size))
    share = max(SMALLEST_PART, pixels // (PARTS_A_WORKER * workers.count))
    count = min(rows, -(-checked.width * checked.height // share))
    if checked.mask_whole:
        count = min(count, MOST_PARTS_OF_A_WHOLE_MASK)
    if checked.whole or workers.count == 1:
        count = 1
    bounds = [rows * part // count for part in range(count + 1)]
    return list(pairwise(bounds))


def _cut_all(
    workers: Workers,
    job: Any,
    parts: list[Part],
    record: Record,
    photos: Sequence[PhotoToCut],
    cut_by: dict[str, dict[str, Any]],
) -> dict[str, Cut]:
    """By source, of the photos of which all parts are cut; whatever ends it, these are saved."""
    cuts: dict[str, Cut] = {}
    begun: dict[str, Cut] = {}
    left = Counter(part.photo.source for part in parts)
    saved = time.monotonic()
    try:
        with progress("Cutting photos", len(parts)) as bar:
            for part, done in workers.as_completed(job, parts, "cutting photos"):
                source = part.photo.source
                begun[source] = begun[source].joined(done) if source in begun else done
                left[source] -= 1
                if not left[source]:
                    cuts[source] = begun.pop(source)
                    record.add(part.photo, cuts[source].rows, **cut_by[source])
                bar.advance()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    record.save(photos)
                    saved = time.monotonic()
    finally:
        record.save(photos)
    return cuts
