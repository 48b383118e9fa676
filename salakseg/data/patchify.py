"""Full photos and masks → patch folders in the Salak layout.

In: a folder with `images/` and, where there are masks, `masks/` beside it, at any depth. Out: the
same folders under another root, holding patches `BASE_patch_RRR_CCC.png`, and beside each `images/`
a `layout.csv` that says where in which full image each patch lies. Pixels are only ever cut, never
resampled; every pixel of a photo is in a patch, except where a whole patch is nodata.

`.patchify.json` at the root of the output records which photos are done, so that a run that was
stopped goes on where it was, and patches of different photos or sizes are never mixed.
"""

import csv
import io
import json
import multiprocessing
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from salakseg.classes import (
    IGNORE_INDEX,
    ClassMapping,
    grey_step,
    read_class_mapping,
    read_mask,
)
from salakseg.console import console, progress
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, require_disk_space, require_folder, write_text
from salakseg.imagery.area import ground_pixel_size
from salakseg.imagery.photo import (
    IMAGE_SUFFIXES,
    TIFF_SUFFIXES,
    exif_orientation,
    read_photo,
    rgb8_of,
)

LAYOUT_COLUMNS = (
    "patch",
    "base_image",
    "row",
    "column",
    "x",
    "y",
    "width",
    "height",
    "image_width",
    "image_height",
    "pixel_size",
    "crs",
    "transform",
    "source",
)
RECORD = ".patchify.json"
RECORD_FORMAT = "salakseg-patchify-1"
SMALLEST_SIZE = 32
# A mask drawn on a picture that was scaled in between is often a pixel or two off.
SIZE_TOLERANCE = 2
# What a patch of photograph and mask takes as PNG, at most, for the check of the disk's space.
BYTES_PER_PIXEL = 2.5
SECONDS_BETWEEN_SAVES = 20.0


@dataclass(frozen=True)
class Photo:
    """A photograph to cut: its folder (posix, relative to DATA), file, and mask or None."""

    folder: str
    path: Path
    mask: Path | None

    @property
    def source(self) -> str:
        """The photograph's posix path relative to DATA."""
        return str(PurePosixPath(self.folder, "images", self.path.name))

    def fingerprint(self) -> list[int]:
        """Size and time of change of photo and mask: other numbers mean that they changed."""
        stats = [path.stat() for path in (self.path, self.mask) if path is not None]
        return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]


@dataclass
class Cut:
    """What cutting one photograph gave: its rows of layout.csv, and what there is to tell."""

    rows: list[tuple[str | int, ...]] = field(default_factory=list)
    nodata: int = 0
    flat: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Strips:
    """An image read by strips of rows, so that a large one never is in memory as a whole.

    Attributes:
        read: (top, bottom) → the rows between, (h, W) or (h, W, bands).
        valid: (top, bottom) → (h, W), 0 where the file says nodata; None where it has no such word.
        palette: colours of a palette image, one after the other.
        crs, transform, pixel_size: as in layout.csv; empty where not known.
    """

    width: int
    height: int
    read: Callable[[int, int], NDArray[Any]]
    valid: Callable[[int, int], NDArray[Any]] | None = None
    palette: list[int] | None = None
    crs: str = ""
    transform: str = ""
    pixel_size: str = ""
    note: str = ""


def patchify(
    data: Path, *, out: Path, size: int = 256, num_workers: int | None = None
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
        Counts: photos, cut (in this run), patches, masked (patches with a mask), nodata (patches
        left out in this run because the file says that they hold nothing).

    Raises:
        InputError: nothing to cut, photos and masks that do not fit, unreadable files.
        WorkError: the disk is too small, a worker process died.
    """
    require_folder(data, "give the folder that holds images/ (and masks/ beside it)")
    if size < SMALLEST_SIZE:
        raise InputError(f"--size {size}: a patch has at least {SMALLEST_SIZE} pixels a side")
    if (where := out.resolve()).is_relative_to(data.resolve()) or data.resolve().is_relative_to(
        where
    ):
        raise InputError(
            f"--out {out}: lies inside {data} or around it, where patches would be taken for "
            "photos; give another folder"
        )
    photos = _find_photos(data)
    record = _read_record(out, data, size, photos)
    mapping = _mapping_for_jpeg(data, photos)
    texts = _read_layouts(out, photos)
    todo = [photo for photo in photos if not _is_done(photo, out, record, texts)]
    console.print(
        f"{data}: {len(photos)} photos, {sum(photo.mask is not None for photo in photos)} with a "
        "mask"
        + (f"; {len(photos) - len(todo)} are done already" if len(todo) < len(photos) else "")
    )
    needed = sum(_check_sizes(photo) for photo in todo)
    require_disk_space(out, int(needed * BYTES_PER_PIXEL), f"cutting {len(todo)} photos")
    if (data / "class_mapping.csv").is_file():
        with atomic_path(out / "class_mapping.csv") as temporary:
            shutil.copyfile(data / "class_mapping.csv", temporary)

    cuts: dict[str, Cut] = {}
    saved = time.monotonic()
    try:
        with progress("Cutting photos", len(todo)) as bar:
            for photo, cut in _cut_all(todo, out, size, mapping, num_workers):
                cuts[photo.source] = cut
                texts[photo.source] = _csv_lines(cut.rows)
                record["photos"][photo.source] = photo.fingerprint()
                bar.advance()
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    _save(out, photos, texts, record)
                    saved = time.monotonic()
    finally:
        if cuts:
            _save(out, photos, texts, record)
    return _tell(out, size, photos, texts, cuts)


def patch_places(length: int, size: int) -> list[int]:
    """Where patches begin along a side of `length` pixels: every pixel covered, the last inwards."""
    count = -(-length // size)
    return [max(0, min(index * size, length - size)) for index in range(count)]


# ------------------------------------------------------------------ what there is to cut


def _find_photos(data: Path) -> list[Photo]:
    """Every photo under DATA in the order of its posix path, paired with its mask."""
    folders = sorted(
        Path(parent).relative_to(data)
        for parent, names, _ in os.walk(data)
        if "images" in names and Path(parent).name not in ("images", "masks")
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
        photos += [Photo(folder.as_posix(), path, masks.get(stem)) for stem, path in images.items()]
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


def _mapping_for_jpeg(data: Path, photos: Sequence[Photo]) -> ClassMapping | None:
    jpeg = next(
        (p.mask for p in photos if p.mask and p.mask.suffix.lower() in (".jpg", ".jpeg")), None
    )
    if jpeg is None:
        return None
    path = data / "class_mapping.csv"
    if not path.is_file():
        raise InputError(
            f"{jpeg}: a JPEG mask, whose colours are smeared; put class_mapping.csv in {data}, so "
            "that each pixel can be given the nearest class"
        )
    return read_class_mapping(path)


def _check_sizes(photo: Photo) -> int:
    """Raise `InputError` unless photo and mask fit; return the photo's number of pixels."""
    orientation = exif_orientation(photo.path)
    stored = _stored_size(photo.path)
    width, height = stored[::-1] if orientation >= 5 else stored
    if photo.mask is not None:
        mask = _stored_size(photo.mask)
        if max(abs(mask[0] - width), abs(mask[1] - height)) > SIZE_TOLERANCE:
            turned = orientation >= 5 and mask == stored
            raise InputError(
                f"{photo.mask} is {mask[0]}×{mask[1]} pixels, its photo {photo.path} "
                f"{width}×{height}"
                + (
                    " once turned upright as its EXIF data say; turn the mask as well"
                    if turned
                    else "; give it the mask that belongs to it, or move the mask away"
                )
            )
    return width * height


def _stored_size(path: Path) -> tuple[int, int]:
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            with _open_raster(path) as raster:
                return raster.width, raster.height
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the image cannot be read ({error})") from error


# ------------------------------------------------------------------ cutting one photo


def _cut(photo: Photo, out: Path, size: int, mapping: ClassMapping | None) -> Cut:
    """Write the patches of one photo; runs in a worker process."""
    cut = Cut()
    target = out / photo.folder
    base = photo.path.stem
    with _open_photo(photo.path) as image, _open_mask(photo.mask, mapping) as mask:
        width, height = image.width, image.height
        if mask is not None:
            if mask.note:
                cut.notes.append(mask.note)
            if (mask.width, mask.height) != (width, height):
                cut.notes.append(
                    f"{photo.source} is {width}×{height}, its mask {mask.width}×{mask.height}: "
                    "both cropped to the part they share"
                )
                width, height = min(width, mask.width), min(height, mask.height)
        for row, y in enumerate(patch_places(height, size)):
            bottom = min(y + size, height)
            pixels = image.read(y, bottom)
            valid = None if image.valid is None else image.valid(y, bottom)
            labels = None if mask is None else mask.read(y, bottom)
            for column, x in enumerate(patch_places(width, size)):
                right = min(x + size, width)
                if valid is not None and not valid[:, x:right].any():
                    cut.nodata += 1
                    continue
                name = f"{base}_patch_{row:03d}_{column:03d}"
                patch = pixels[:, x:right]
                cut.flat += bool((patch == patch[0, 0]).all())
                _write_png(target / "images" / f"{name}.png", patch)
                if mask is not None and labels is not None:
                    _write_png(target / "masks" / f"{name}.png", labels[:, x:right], mask.palette)
                cut.rows.append(
                    (name, base, row, column, x, y, right - x, bottom - y)
                    + (image.width, image.height)
                    + (image.pixel_size, image.crs, image.transform, photo.source)
                )
    return cut


@contextmanager
def _open_raster(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as raster:
                yield raster
        except RasterioError as error:
            raise InputError(f"{path}: the image cannot be read ({error})") from error


@contextmanager
def _open_photo(path: Path) -> Iterator[Strips]:
    if path.suffix.lower() not in TIFF_SUFFIXES or exif_orientation(path) != 1:
        pixels = read_photo(path)
        yield Strips(pixels.shape[1], pixels.shape[0], lambda top, bottom: pixels[top:bottom])
        return
    with _open_raster(path) as raster:

        def read(top: int, bottom: int) -> NDArray[np.uint8]:
            try:
                return rgb8_of(raster, Window(0, top, raster.width, bottom - top))
            except InputError as error:
                raise InputError(f"{path}: {error}") from error

        crs = transform = ""
        if raster.crs and not raster.transform.is_identity:
            epsg = raster.crs.to_epsg()
            crs = f"EPSG:{epsg}" if epsg else raster.crs.to_wkt()
            transform = " ".join(repr(value) for value in tuple(raster.transform)[:6])
        metres = ground_pixel_size(raster.crs, raster.transform, raster.width, raster.height)
        yield Strips(
            raster.width,
            raster.height,
            read,
            # 0 only where all bands are nodata: a bright or dark value in one band is none.
            valid=lambda top, bottom: raster.dataset_mask(
                window=Window(0, top, raster.width, bottom - top)
            ),
            crs=crs,
            transform=transform,
            pixel_size=f"{metres:.6g}" if crs and metres else "",
        )


@contextmanager
def _open_mask(path: Path | None, mapping: ClassMapping | None) -> Iterator[Strips | None]:
    """A mask's values such that `read_mask` of a part of them, as PNG, reads what it reads here.

    Values and palettes stay as they are, with three exceptions: grey of less than 8 bits is written
    with 8; integers that are no 16-bit ones become 65535, which no mapping holds; a JPEG's colours
    would be without excuse once they are in a PNG, so its pixels become the colours of the classes
    that `read_mask` finds, transparent where it finds none.
    """
    if path is None:
        yield None
    elif path.suffix.lower() in TIFF_SUFFIXES:
        with _open_raster(path) as raster:
            kind = (raster.count, raster.dtypes[0])
            integers = raster.count == 1 and np.issubdtype(raster.dtypes[0], np.integer)
            if not integers and kind not in ((3, "uint8"), (4, "uint8")):
                raise _no_mask(path, f"{raster.count} bands of {raster.dtypes[0]}")
            palette = None
            if raster.count == 1 and raster.colorinterp[0].name == "palette":
                colors = raster.colormap(1)
                palette = [
                    colors.get(value, (0, 0, 0))[band] for value in range(256) for band in range(3)
                ]

            def read(top: int, bottom: int) -> NDArray[Any]:
                window = Window(0, top, raster.width, bottom - top)
                bands = np.moveaxis(raster.read(window=window), 0, 2)
                return _as_png_values(bands[..., 0] if integers else bands)

            yield Strips(raster.width, raster.height, read, palette=palette)
    else:
        values, palette, note = _decode_mask(path, mapping)
        yield Strips(
            values.shape[1],
            values.shape[0],
            lambda top, bottom: values[top:bottom],
            palette=palette,
            note=note,
        )


def _decode_mask(
    path: Path, mapping: ClassMapping | None
) -> tuple[NDArray[Any], list[int] | None, str]:
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the mask cannot be read ({error})") from error
    if image.format == "JPEG" and mapping is not None:
        reading = read_mask(path, mapping)
        known = np.where(reading.labels == IGNORE_INDEX, 0, 255).astype(np.uint8)
        return (
            np.dstack([mapping.palette[reading.labels], known]),
            None,
            f"{path}: a JPEG mask; {reading.smeared} smeared pixels were given the nearest class, "
            f"{sum(reading.unknown.values())} too far from any have none",
        )
    if image.mode in ("RGB", "RGBA", "1"):
        return np.asarray(image), None, ""
    if image.mode == "P":
        return np.asarray(image), image.getpalette(), ""
    if image.mode == "L":
        return np.asarray(image) // grey_step(image, path), None, ""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _as_png_values(np.asarray(image)), None, ""
    raise _no_mask(path, f"an image of the kind {image.mode!r}")


def _as_png_values(values: NDArray[Any]) -> NDArray[Any]:
    """Integers as uint8 or uint16."""
    if values.dtype == np.uint8:
        return values
    return np.where((values >= 0) & (values <= 65535), values, 65535).astype(np.uint16)


def _no_mask(path: Path, kind: str) -> InputError:
    return InputError(
        f"{path}: {kind} holds no class colours or row numbers; save the mask as 8-bit RGB or "
        "8-bit grey PNG"
    )


def _write_png(path: Path, pixels: NDArray[Any], palette: list[int] | None = None) -> None:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette)
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")


# ------------------------------------------------------------------ all photos, on all cores


def _cut_all(
    todo: Sequence[Photo],
    out: Path,
    size: int,
    mapping: ClassMapping | None,
    num_workers: int | None,
) -> Iterator[tuple[Photo, Cut]]:
    workers = min(len(todo), os.cpu_count() or 1 if num_workers is None else num_workers)
    if workers <= 1:
        for photo in todo:
            yield photo, _cut(photo, out, size, mapping)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent
    )
    try:
        futures: dict[Future[Cut], Photo] = {
            pool.submit(_cut, photo, out, size, mapping): photo for photo in todo
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise WorkError(
            "a worker process died (out of memory?); run it again, it goes on where it was, with "
            "fewer --num-workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# ------------------------------------------------------------------ what is done


def _read_record(out: Path, data: Path, size: int, photos: Sequence[Photo]) -> dict[str, Any]:
    """What an earlier run into `out` did; `InputError` where its patches may not stay."""
    path = out / RECORD
    here = str(data.resolve())
    if not path.is_file():
        if next(
            (
                out / photo.folder / "images"
                for photo in photos
                if (out / photo.folder / "images").exists()
            ),
            None,
        ):
            raise InputError(
                f"--out {out}: holds images/ that this command did not write; give a new folder"
            )
        return {"format": RECORD_FORMAT, "data": here, "size": size, "photos": {}}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != RECORD_FORMAT:
            raise ValueError(record["format"])
        done = record["photos"]
        other_size, other_data = record["size"], record["data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged; delete {out} and run again") from error
    if other_size != size:
        raise InputError(
            f"--out {out}: holds patches of {other_size} pixels, --size is {size}; give another "
            "folder, or delete that one"
        )
    ours = {photo.source: photo.fingerprint() for photo in photos}
    if gone := sorted(done.keys() - ours.keys()):
        raise InputError(
            f"--out {out}: holds patches of {gone[0]} (and {len(gone) - 1} more) that {data} does "
            "not; give another folder, or delete that one"
        )
    changed = [source for source in done if done[source] != ours[source]]
    if changed and other_data != here:
        raise InputError(
            f"--out {out}: holds patches cut from {other_data}, whose {changed[0]} is another; "
            "give another folder, or delete that one"
        )
    if changed:
        console.print(f"{len(changed)} photos or masks have changed since and are cut again")
    record["data"] = here
    return record
