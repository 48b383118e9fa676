"""Full photos and masks → patch folders in the Salak layout.

In: a folder with `images/` and, where there are masks, `masks/` beside it, at any depth; and
`guess/`, where a mask began as a model's guess (`suggest --export`), cut as the mask is. Out: the
same folders under another root, holding patches `BASE_patch_RRR_CCC.png`, and beside each `images/`
a `layout.csv` that says where in which full image each patch lies. Pixels are only ever cut, never
resampled; every pixel of a photo is in a patch, except where a whole patch is nodata.

`.patchify.json` at the root of the output records which photos are done, so that a run that was
stopped goes on where it was, and patches of different photos or sizes are never mixed.
"""

import csv
import io
import json
import os
import re
import shutil
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from salakseg.classes import (
    IGNORE_INDEX,
    ClassMapping,
    read_class_mapping,
    read_mask,
    sizes_agree,
)
from salakseg.console import console, progress
from salakseg.data.layout import LAYOUT, LAYOUT_COLUMNS, read_layout
from salakseg.data.workers import worker_processes
from salakseg.errors import InputError
from salakseg.files import atomic_path, require_disk_space, require_folder, write_text
from salakseg.imagery.area import ground_pixel_size
from salakseg.imagery.photo import IMAGE_SUFFIXES, TIFF_SUFFIXES
from salakseg.imagery.raster import ImageSource, image_size, open_image
from salakseg.masks import StoredMask, as_image, open_mask, packed

PATCH_FILE = re.compile(r"(?:\.partial-\d+-)?(.*)_patch_\d+_\d+\.png")
RECORD = ".patchify.json"
RECORD_FORMAT = "salakseg-patchify-1"
SMALLEST_SIZE = 32
# What a patch of photograph and mask takes as PNG, at most, for the check of the disk's space.
BYTES_PER_PIXEL = 2.5
# Of zlib: on aerial photos 3 is both smaller and three times faster than Pillow's 6.
PNG_LEVEL = 3
SECONDS_BETWEEN_SAVES = 10.0
NOTES_SHOWN = 3


@dataclass(frozen=True)
class Photo:
    """A photograph to cut: its folder (posix, relative to DATA), file, and mask or None.

    `guess` is what the mask was before a person corrected it; None where that is not known.
    """

    folder: str
    path: Path
    mask: Path | None
    guess: Path | None = None

    @property
    def source(self) -> str:
        """The photograph's posix path relative to DATA."""
        return str(PurePosixPath(self.folder, "images", self.path.name))

    def fingerprint(self) -> list[int]:
        """Size and time of change of photo, mask, guess: other numbers mean that they changed."""
        paths = (self.path, self.mask, self.guess)
        stats = [path.stat() for path in paths if path is not None]
        return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


@dataclass
class Cut:
    """What cutting one photograph gave: its rows of layout.csv, and what there is to tell.

    `notes` has a sentence that many photos may share → what it is of this one.
    """

    rows: list[Sequence[Any]] = field(default_factory=list)
    nodata: int = 0
    notes: dict[str, str] = field(default_factory=dict)


def patchify(
    data: Path | str, *, out: Path | str, size: int = 256, num_workers: int | None = None
) -> dict[str, int]:
    """Cut full photos (JPG, PNG, TIFF, of any size) and their masks into patches.

    The last row and column of patches are moved inwards to end at the image's edge. An image
    smaller than a patch in a direction gives one patch as small in it. DATA/class_mapping.csv goes
    along. Run again, it goes on with what is missing.

    Args:
        data: holds images/ (and masks/ with the same names), itself or in folders below it.
        out: where the patch folders go; not inside `data`, nor around it.
        size: side of the patches in pixels.
        num_workers: processes; None: one a core; 0 or 1: none beside this one.

    Returns:
        Counts: photos, cut (photos cut in this run), patches, masked (patches with a mask), nodata
        (patches left out in this run because the file says that they hold nothing).

    Raises:
        InputError: nothing to cut, photos and masks that do not fit, unreadable files, an `out`
            with other things in it.
        WorkError: the disk is too small, a worker process died.
    """
    data, out = Path(data), Path(out)
    require_folder(data, "give the folder that holds images/ (and masks/ beside it)")
    if size < SMALLEST_SIZE:
        raise InputError(f"--size {size}: a patch has at least {SMALLEST_SIZE} pixels a side")
    here, there = data.resolve(), out.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise InputError(
            f"--out {out}: lies inside {data} or around it, where patches would be taken for "
            "photos; give another folder"
        )
    photos = _find_photos(data)
    mapping = _mapping_of(data, photos)
    record = _read_record(out, data, size, photos)
    rows = _read_layouts(out, photos)
    present = _patches_present(out, photos)
    todo = [photo for photo in photos if not _is_done(photo, record, rows, present)]
    console.print(
        f"{data}: {len(photos)} photos, {sum(photo.mask is not None for photo in photos)} with a "
        f"mask, {len(photos) - len(todo)} done already"
    )
    needed = sum(_check_sizes(photo) for photo in todo) * BYTES_PER_PIXEL
    require_disk_space(out, int(needed), f"cutting {len(todo)} photos")
    if (data / "class_mapping.csv").is_file():
        with atomic_path(out / "class_mapping.csv") as temporary:
            shutil.copyfile(data / "class_mapping.csv", temporary)
    for photo in todo:
        record["photos"].pop(photo.source, None)
        rows.pop(photo.source, None)
    _save(out, photos, rows, record)
    # A photo that was changed for a smaller one must leave no patches of the former.
    for photo in todo:
        for patch in present[photo.folder, photo.path.stem]:
            patch.unlink(missing_ok=True)

    # Taken before: a file that changes while it is cut must count as changed.
    fingerprints = {photo.source: photo.fingerprint() for photo in todo}
    cuts: dict[str, Cut] = {}
    job = partial(_cut, out=out, size=size, mapping=mapping)
    saved = time.monotonic()
    try:
        with (
            progress("Cutting photos", len(todo)) as bar,
            worker_processes(num_workers) as workers,
        ):
            for photo, cut in workers.as_completed(job, todo, "cutting photos"):
                cuts[photo.source] = cut
                rows[photo.source] = cut.rows
                record["photos"][photo.source] = fingerprints[photo.source]
                bar.advance()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    _save(out, photos, rows, record)
                    saved = time.monotonic()
    finally:
        _save(out, photos, rows, record)
    return _tell(out, size, photos, rows, cuts)


def patch_places(length: int, size: int) -> list[int]:
    """Where patches begin along a side of `length` pixels: all covered, the last one inwards."""
    count = -(-length // size)
    return [max(0, min(index * size, length - size)) for index in range(count)]


# ------------------------------------------------------------------ what there is to cut


def _find_photos(data: Path) -> list[Photo]:
    """Every photo under DATA in the order of its posix path, paired with its mask."""
    folders = sorted(
        Path(parent).relative_to(data) for parent, names, _ in os.walk(data) if "images" in names
    )
    photos: list[Photo] = []
    for folder in folders:
        images = _by_stem(data / folder / "images")
        masks = _by_stem(data / folder / "masks") if (data / folder / "masks").is_dir() else {}
        if alone := sorted(masks.keys() - images.keys()):
            raise InputError(
                f"{masks[alone[0]]}: a mask without a photo of that name in "
                f"{data / folder / 'images'} ({len(alone)} such masks); name it as its photo, or "
                "move it away"
            )
        guesses = _by_stem(data / folder / "guess") if (data / folder / "guess").is_dir() else {}
        photos += [
            Photo(
                folder.as_posix(),
                path,
                masks.get(stem),
                guesses.get(stem) if stem in masks else None,
            )
            for stem, path in images.items()
        ]
    if not photos:
        raise InputError(
            f"{data}: no photos ({', '.join(IMAGE_SUFFIXES)}) in any images/ folder in it; put the "
            f"photos in {data / 'images'} and their masks, if any, in {data / 'masks'}"
        )
    return photos


def _by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem, sorted. Hidden files (macOS's `._`) are none."""
    found: dict[str, Path] = {}
    # Windows and macOS do not tell A.png from a.png, and patches are named after the stem.
    seen: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if other := seen.get(path.stem.casefold()):
            raise InputError(
                f"{other} and {path.name}: two files of one name, their patches would be too; "
                "rename one or move it away"
            )
        found[path.stem] = seen[path.stem.casefold()] = path
    return found


def _mapping_of(data: Path, photos: Sequence[Photo]) -> ClassMapping | None:
    """DATA's class mapping, which JPEG masks cannot do without."""
    path = data / "class_mapping.csv"
    if path.is_file():
        return read_class_mapping(path)
    for photo in photos:
        if photo.mask is not None and photo.mask.suffix.lower() in (".jpg", ".jpeg"):
            raise _needs_mapping(photo.mask)
    return None


def _needs_mapping(mask: Path) -> InputError:
    return InputError(
        f"{mask}: a JPEG mask, whose colours are smeared; put class_mapping.csv into the folder "
        "that you give, so that each pixel can be given the nearest class"
    )


def _check_sizes(photo: Photo) -> int:
    """Raise `InputError` unless photo, mask and guess fit; return the photo's number of pixels."""
    height, width = image_size(photo.path)
    stored = _stored_size(photo.path)
    for kind, path in (("mask", photo.mask), ("guess", photo.guess)):
        if path is None:
            continue
        size = _stored_size(path)
        if not sizes_agree(size, (width, height)):
            turned = stored != (width, height) and size == stored
            raise InputError(
                f"{path} is {size[0]}×{size[1]} pixels, its photo {photo.path} {width}×{height}"
                + (
                    f" once turned upright as its EXIF data say; turn the {kind} as well"
                    if turned
                    else f"; give it the {kind} that belongs to it, or move the {kind} away"
                )
            )
    return width * height


def _stored_size(path: Path) -> tuple[int, int]:
    with _reading(path):
        if path.suffix.lower() in TIFF_SUFFIXES:
            with _open_raster(path) as raster:
                return raster.width, raster.height
        with Image.open(path) as image:
            return image.size


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (RasterioError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _open_raster(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


# ------------------------------------------------------------------ cutting one photo


def _cut(photo: Photo, out: Path, size: int, mapping: ClassMapping | None) -> Cut:
    """Write the patches of one photo; runs in a worker process."""
    cut = Cut()
    target, base = out / photo.folder, photo.path.stem
    flat = 0
    with (
        open_image(photo.path) as image,
        _open_mask(photo.mask, mapping, cut.notes) as mask,
        _open_mask(photo.guess, mapping, {}) as guess,
    ):
        width, height = image.width, image.height
        place = _place_of(image)
        for note in image.notes:
            cut.notes[f"Photos whose file {note}"] = f"{width}×{height}"
        if mask is not None:
            width, height = min(width, mask.width), min(height, mask.height)
            if (mask.width, mask.height) != (image.width, image.height):
                cut.notes["Photo and mask differ in size, cropped to the part they share"] = (
                    f"photo {image.width}×{image.height}, mask {mask.width}×{mask.height}"
                )
            if image.turned:
                cut.notes[
                    "Photos turned upright as their EXIF data say; their masks were not turned"
                ] = "the mask must fit the upright photo"
        for row, y in enumerate(patch_places(height, size)):
            bottom = min(y + size, height)
            pixels, valid = image.read(y, 0, bottom - y, width)
            labels = [
                (kind, stored, *stored.read(y, bottom))
                for kind, stored in (("masks", mask), ("guess", guess))
                if stored is not None
            ]
            for column, x in enumerate(patch_places(width, size)):
                right = min(x + size, width)
                if not valid[:, x:right].any():
                    cut.nodata += 1
                    continue
                name = f"{base}_patch_{row:03d}_{column:03d}"
                patch = pixels[:, x:right]
                flat += bool((patch == patch[0, 0]).all())
                _write_png(target / "images" / f"{name}.png", Image.fromarray(patch))
                for kind, stored, values, filled in labels:
                    here = None if filled is None else filled[:, x:right]
                    picture, options = as_image(values[:, x:right], here, stored)
                    _write_png(target / kind / f"{name}.png", picture, **options)
                where = (row, column, x, y, right - x, bottom - y, image.width, image.height)
                cut.rows.append((name, base, *where, *place, photo.source))
        if cut.nodata:
            cut.notes["Patches that are nodata all over, left out"] = f"{cut.nodata} patches"
        if flat and photo.path.suffix.lower() in TIFF_SUFFIXES:
            cut.notes[
                "Patches of one flat colour, kept; where that is a margin, tag it as nodata "
                "(rio edit-info --nodata 0 FILE) and run again"
            ] = f"{flat} patches"
    return cut


def _place_of(image: ImageSource) -> tuple[str, str, str]:
    """Pixel size, crs and transform of an open image, as in layout.csv."""
    if image.crs is None or image.transform is None:
        return "", "", ""
    epsg = image.crs.to_epsg()
    metres = ground_pixel_size(image.crs, image.transform, image.width, image.height)
    return (
        f"{metres:.6g}" if metres else "",
        f"EPSG:{epsg}" if epsg else image.crs.to_wkt(),
        " ".join(repr(float(number)) for number in image.transform[:6]),
    )


@contextmanager
def _open_mask(
    path: Path | None, mapping: ClassMapping | None, notes: dict[str, str]
) -> Iterator[StoredMask | None]:
    """A mask, to be cut and written as PNG so that `read_mask` finds the same classes.

    Of a JPEG the smeared colours could not be told from wrong ones in a PNG, so its pixels become
    the colours of the classes that `read_mask` finds, transparent where it finds none; `notes` says
    so.
    """
    if path is None:
        yield None
        return
    with open_mask(path) as stored:
        if not stored.lossy:
            yield stored
            return
    if mapping is None:
        raise _needs_mapping(path)
    reading = read_mask(path, mapping)
    colors, valid = packed(mapping.palette[reading.labels]), reading.labels != IGNORE_INDEX
    notes["JPEG masks, their smeared colours given to the nearest class"] = (
        f"{reading.smeared} pixels smeared, {sum(reading.unknown.values())} too far from any class"
    )
    height, width = reading.labels.shape
    yield StoredMask(
        width, height, "RGBA", lambda top, bottom: (colors[top:bottom], valid[top:bottom])
    )


def _write_png(path: Path, image: Image.Image, **options: Any) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG", compress_level=PNG_LEVEL, **options)


# ------------------------------------------------------------------ what is done


def _read_record(out: Path, data: Path, size: int, photos: Sequence[Photo]) -> dict[str, Any]:
    """What an earlier run into `out` did; `InputError` where its patches may not stay."""
    path, here = out / RECORD, str(data.resolve())
    give_another = "give another folder, or delete that one"
    if not path.is_file():
        folders = [out / photo.folder / "images" for photo in photos]
        if foreign := next((folder for folder in folders if folder.exists()), None):
            raise InputError(
                f"--out {out}: {foreign} was not written by this command; {give_another}"
            )
        return {"format": RECORD_FORMAT, "data": here, "size": size, "photos": {}}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != RECORD_FORMAT:
            raise ValueError(record["format"])
        done, other_size, other_data = dict(record["photos"]), record["size"], record["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {give_another}") from error
    if other_size != size:
        raise InputError(
            f"--out {out}: holds patches of {other_size} pixels, --size is {size}; {give_another}"
        )
    now = {photo.source: photo.fingerprint() for photo in photos}
    if gone := sorted(done.keys() - now.keys()):
        raise InputError(
            f"--out {out}: holds patches of {len(gone)} photos that are not in {data} "
            f"({gone[0]}); {give_another}"
        )
    changed = [source for source in done if done[source] != now[source]]
    if changed and other_data != here:
        raise InputError(
            f"--out {out}: holds patches of {other_data}, whose {changed[0]} is another photo than "
            f"that of {data}; {give_another}"
        )
    if changed:
        console.print(f"{len(changed)} photos, masks or guesses have changed and are cut again")
    return record | {"data": here}


def _read_layouts(out: Path, photos: Sequence[Photo]) -> dict[str, list[Sequence[Any]]]:
    """Rows of the layout files of an earlier run, by source."""
    rows: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for folder in {photo.folder for photo in photos}:
        path = out / folder / LAYOUT
        if path.is_file():
            for row in read_layout(path, LAYOUT_COLUMNS).values():
                rows[row["source"]].append([row[name] for name in LAYOUT_COLUMNS])
    return rows


def _patches_present(out: Path, photos: Sequence[Photo]) -> dict[tuple[str, str], list[Path]]:
    """Every patch under `out`, and what a killed run left of one, by folder and base image."""
    present: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder in {photo.folder for photo in photos}:
        for parent in (out / folder / kind for kind in ("images", "masks", "guess")):
            for path in parent.iterdir() if parent.is_dir() else ():
                if match := PATCH_FILE.fullmatch(path.name):
                    present[folder, match[1]].append(path)
    return present


def _is_done(
    photo: Photo,
    record: dict[str, Any],
    rows: dict[str, list[Sequence[Any]]],
    present: dict[tuple[str, str], list[Path]],
) -> bool:
    """Whether the photo is unchanged since it was cut and all its patches are there."""
    if record["photos"].get(photo.source) != photo.fingerprint():
        return False
    names = {f"{row[0]}.png" for row in rows.get(photo.source, ())}
    expected = {("images", name) for name in names}
    if photo.mask is not None:
        expected |= {("masks", name) for name in names}
    if photo.guess is not None:
        expected |= {("guess", name) for name in names}
    found = {(path.parent.name, path.name) for path in present[photo.folder, photo.path.stem]}
    return expected == found


def _save(
    out: Path,
    photos: Sequence[Photo],
    rows: dict[str, list[Sequence[Any]]],
    record: dict[str, Any],
) -> None:
    """Write the layout files, then the record: what it calls done must be in them."""
    by_folder: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for photo in photos:
        by_folder[photo.folder] += rows.get(photo.source, ())
    for folder, lines in by_folder.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(LAYOUT_COLUMNS)
        writer.writerows(lines)
        write_text(out / folder / LAYOUT, text.getvalue())
    write_text(out / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _tell(
    out: Path,
    size: int,
    photos: Sequence[Photo],
    rows: dict[str, list[Sequence[Any]]],
    cuts: dict[str, Cut],
) -> dict[str, int]:
    counts = {
        "photos": len(photos),
        "cut": len(cuts),
        "patches": sum(len(rows[photo.source]) for photo in photos),
        "masked": sum(len(rows[photo.source]) for photo in photos if photo.mask is not None),
        "nodata": sum(cut.nodata for cut in cuts.values()),
    }
    notes: dict[str, list[str]] = defaultdict(list)
    for source in sorted(cuts):
        for note, detail in cuts[source].notes.items():
            notes[note].append(f"{source} ({detail})")
    for note, details in notes.items():
        more = f", and {len(details) - NOTES_SHOWN} more" if len(details) > NOTES_SHOWN else ""
        console.print(f"{note}: {', '.join(details[:NOTES_SHOWN])}{more}")
    console.print(
        f"{out}: {counts['patches']} patches of {size} pixels from {counts['photos']} photos, "
        f"{counts['masked']} with a mask"
    )
    console.print(f"Next: salakseg index {out}")
    return counts
