"""One photograph, mask and guess → patches, PNG files; runs in worker processes.

The image's are GeoTIFFs where it has more than three bands (`imagery.multiband`).

Where a photo is not there (`imagery.nodata`), its patch is transparent and black, and the mask's
has no class: one rule for nodata, alpha and masks of every kind. A patch that is there all over is
plain RGB.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.band_set import BandSet
from salakseg.classes import IGNORE_INDEX, ClassMapping, read_mask
from salakseg.data.labels_draw import Tally
from salakseg.data.layout import LayoutRow, georeference_words
from salakseg.data.patchify_check import CutOptions, PhotoToCut, needs_mapping
from salakseg.files import atomic_path
from salakseg.imagery.area import ground_pixel_size
from salakseg.imagery.multiband import encoded
from salakseg.imagery.photo import ground_sampling
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.masks import StoredMask, as_image, open_mask, packed

# Of zlib: on aerial photos 3 is both smaller and three times faster than Pillow's 6.
PNG_LEVEL = 3


class Part(NamedTuple):
    """The patch rows from `first` up to `end` of a photo whose mapping and options are known.

    `white_level` is the set's, None for a photo of 8 bits.
    """

    photo: PhotoToCut
    first: int
    end: int
    white_level: int | None


@dataclass
class Cut:
    """What cutting a photograph, or a part of it, gave: its rows of layout.csv, and what to tell.

    Attributes:
        nodata, partial, flat: how many patches hold nothing and were left out, are there in part,
            and are of one colour.
        sized_by: how the pixel size is known: gsd, metadata, place, or "" where it is not.
        why: in words, how it is known or why not.
        notes: a sentence that many photos may share → what it is of this one.
        drawn: what of its labels was drawn.
    """

    rows: list[LayoutRow] = field(default_factory=list)
    nodata: int = 0
    partial: int = 0
    flat: int = 0
    sized_by: str = ""
    why: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    drawn: Tally = field(default_factory=Tally)

    def joined(self, other: "Cut") -> "Cut":
        """With another part of the same photograph."""
        return replace(
            self,
            rows=sorted([*self.rows, *other.rows], key=lambda row: (row.row, row.column)),
            nodata=self.nodata + other.nodata,
            partial=self.partial + other.partial,
            flat=self.flat + other.flat,
            drawn=self.drawn + other.drawn,
        )


def patch_places(length: int, size: int) -> list[int]:
    """Where patches begin along a side of `length` pixels: all covered, the last one inwards."""
    count = -(-length // size)
    return [max(0, min(index * size, length - size)) for index in range(count)]


def cut(
    part: Part,
    out: Path,
    options: CutOptions,
    mapping: ClassMapping | None,
    band_set: BandSet | None,
) -> Cut:
    """Write the patches of a part of a photo, not flushed to disk."""
    photo, level, size, done = part.photo, part.white_level, options.size, Cut()
    target, base = out / photo.folder, photo.base_image
    with (
        open_image(
            photo.path, options.nodata, options.bands, white_level=level, band_set=band_set
        ) as image,
        _open_mask(photo.mask, mapping, done.notes) as stored_mask,
        _open_mask(photo.guess, mapping, {}) as guess,
    ):
        width, height = image.width, image.height
        mask = stored_mask
        if photo.drawing is not None:
            mask = photo.drawing.as_mask(size, done.drawn)
        place = _place_of(image, options.gsd, done)
        for note in image.notes:
            if level is None or "full brightness" not in note:  # said of all of them
                done.notes[f"Photos ({note})"] = ""
        for stored in filter(None, (mask, guess)):
            width, height = min(width, stored.width), min(height, stored.height)
        if mask is not None:
            if (mask.width, mask.height) != (image.width, image.height):
                done.notes["Photo and mask differ in size, cropped to the part they share"] = (
                    f"photo {image.width}×{image.height}, mask {mask.width}×{mask.height}"
                )
            if image.turned and photo.drawing is None:
                done.notes[
                    "Photos turned upright as their EXIF data say; their masks were not turned"
                ] = "the mask must fit the upright photo"
        for row, y in enumerate(patch_places(height, size)[: part.end]):
            if row < part.first:
                continue
            bottom = min(y + size, height)
            pixels, valid = image.read(y, 0, bottom - y, width)
            labels = [
                (kind, stored, *stored.read(y, bottom))
                for kind, stored in (("masks", mask), ("guess", guess))
                if stored is not None
            ]
            for column, x in enumerate(patch_places(width, size)):
                right = min(x + size, width)
                there = valid[:, x:right]
                if not there.any():
                    done.nodata += 1
                    continue
                name = f"{base}_patch_{row:03d}_{column:03d}"
                picture, whole = pixels[:, x:right], bool(there.all())
                done.partial += not whole
                done.flat += whole and bool((picture == picture[0, 0]).all())
                file = target / "images" / f"{name}{options.image_suffix}"
                if band_set is None:
                    _write_png(file, _with_alpha(picture, there))
                else:
                    with atomic_path(file, flushed=False) as temporary:
                        temporary.write_bytes(encoded(picture, there, band_set))
                for kind, stored, values, filled in labels:
                    here = there if filled is None else there & filled[:, x:right]
                    mask_patch, how = as_image(values[:, x:right], here, stored)
                    _write_png(target / kind / f"{name}.png", mask_patch, **how)
                where = (row, column, x, y, right - x, bottom - y, image.width, image.height)
                done.rows.append(LayoutRow(name, base, *where, *place, photo.source, level or ""))
    return done


def written(
    photo: PhotoToCut, rows: Sequence[LayoutRow], out: Path, image_suffix: str
) -> list[Path]:
    """The files of a photo's patches."""
    parts = (("images", True), ("masks", photo.has_mask), ("guess", photo.guess is not None))
    kinds = [kind for kind, there in parts if there]
    suffix = dict.fromkeys(kinds, ".png") | {"images": image_suffix}
    here = out / photo.folder
    return [here / kind / f"{row.patch}{suffix[kind]}" for row in rows for kind in kinds]


def _with_alpha(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> Image.Image:
    if valid.all():
        return Image.fromarray(pixels)
    bands = np.dstack([pixels, np.full(valid.shape, 255, np.uint8)])
    return Image.fromarray(np.where(valid[..., None], bands, np.uint8(0)))


def _place_of(image: ImageSource, gsd: float | None, done: Cut) -> tuple[str, str, str]:
    """Pixel size, crs and transform of an open image, as in layout.csv; `done` gets how the pixel
    size is known."""
    metres = ground_pixel_size(image.crs, image.transform, image.width, image.height)
    if metres is not None:
        done.sized_by = "place"
    elif gsd is not None:
        metres, done.sized_by = gsd, "gsd"
    elif image.transform is None and not image.gcps[0]:
        metres, done.why = ground_sampling(image.file, image.width, image.height)
        done.sized_by = "metadata" if metres else ""
    else:
        done.why = "it has no CRS, or none in which a pixel's size is known"
    size = f"{metres:.6g}" if metres else ""
    return size, *georeference_words(image.crs, image.transform)


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
        raise needs_mapping(path)
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
    with atomic_path(path, flushed=False) as temporary:
        image.save(temporary, "PNG", compress_level=PNG_LEVEL, **options)
