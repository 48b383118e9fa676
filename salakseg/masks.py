"""Mask files → what they store, before it is known what that means.

The one place that knows what a mask file is. TIFF goes through GDAL, and so does PNG of 16 bits,
which Pillow cuts to 8; every other format through Pillow. After that one rule holds: a mask stores
colours (three bands), or numbers (one band), which a palette may give colours. A pixel holds
nothing where the file says so: alpha 0, a transparent colour or palette entry, nodata, not a
number, GDAL's mask. Masks are never turned: a mask fits the upright photograph, whatever
orientation tag it has.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salakseg.errors import InputError
from salakseg.files import is_cut_off_jpeg

STRIP = 1024  # rows read at a time
# What Pillow may take to decode a file, which it does as a whole.
DECODED_BYTES = 4 << 30
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LOSSY_FORMATS = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF")
BLACK, WHITE = 0x000000, 0xFFFFFF
GREY = 0x010101  # a level of grey times this is the packed colour
NO_CLASS = 255
# Numbers outside of these bounds are taken for the bound.
LEAST, MOST = -2, 65536

Stored = tuple[NDArray[Any], NDArray[np.bool_] | None]


@dataclass(frozen=True)
class StoredMask:
    """An open mask file.

    Attributes:
        width, height: in pixels, as stored.
        kind: RGB, RGBA, palette, grey or 1-bit.
        read: (top, bottom) → what these rows store, (h, W); and bool (h, W), True where a pixel
            holds something, None where all do. Colours are uint32, packed as blue << 16 | green <<
            8 | red. Numbers are uint8, or int32 from `LEAST` to `MOST`; of a 1-bit mask 0 (black)
            and 1 (white). Raises `InputError` where the file is damaged.
        palette: uint32 (N,), the colours of the numbers 0 … N-1; None without a palette.
        lossy: compressed in a way that smears, such as JPEG.
        turned: has an orientation tag by which viewers turn it; not known of TIFF.
        nothing: the one number that the file says holds nothing; None: none, or several.
    """

    width: int
    height: int
    kind: str
    read: Callable[[int, int], Stored]
    palette: NDArray[np.uint32] | None = None
    lossy: bool = False
    turned: bool = False
    nothing: float | None = None

    @property
    def has_colors(self) -> bool:
        """Whether it stores colours, not numbers."""
        return self.kind in ("RGB", "RGBA")

    @property
    def colors_kind(self) -> str:
        """In words, where its colours are read."""
        return "JPEG colours (nearest)" if self.lossy else f"{self.kind} colours"

    def strips(self) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.bool_] | None]]:
        """All of it from the top: which rows, and what `read` gives for them."""
        for top in range(0, self.height, STRIP):
            rows = slice(top, min(top + STRIP, self.height))
            yield rows, *self.read(rows.start, rows.stop)


@contextmanager
def open_mask(path: Path | str) -> Iterator[StoredMask]:
    """Open a mask; only its header is read before `read` is called.

    Raises:
        InputError: missing or damaged; a kind of image that holds neither colours nor numbers.
    """
    with _reading(path):
        file = open(path, "rb")  # noqa: SIM115
    with file:
        with _reading(path):
            head = file.read(25)
            file.seek(0)
            bits = head[24] if head.startswith(PNG_START) and len(head) == 25 else 8
            by_gdal = bits > 8 or head.startswith(TIFF_STARTS)
            image = None if by_gdal else Image.open(file)
        if image is not None:
            with image:
                with _reading(path):
                    stored = _of_image(path, image, bits)
                yield stored
            return
    import rasterio  # slow to import, and few masks are TIFF
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # Else GDAL lists the whole folder of each file that it opens.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            with _reading(path):
                raster = rasterio.open(path)
            with raster:
                with _reading(path):
                    stored = _of_raster(path, raster)
                yield stored


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # On damaged bytes a decoder may raise anything.
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # what GDAL said first
            cause = cause.__cause__
        reason = str(cause).strip() or type(cause).__name__
        if isinstance(cause, UnidentifiedImageError):  # it was given no name
            reason = f"cannot identify image file {str(path)!r}"
        raise InputError(f"{path}: the mask cannot be read ({reason})") from error


def _holds_no_classes(path: Path | str, what: str) -> InputError:
    return InputError(
        f"{path}: {what} hold no class colours or numbers; save the mask as 8-bit RGB or 8-bit "
        "grey PNG"
    )


def packed(colors: NDArray[Any]) -> NDArray[np.uint32]:
    """Colours (…, 3) as one number each, as `StoredMask.read` gives them."""
    red, green, blue = (colors[..., band].astype(np.uint32) for band in range(3))
    return red | green << np.uint32(8) | blue << np.uint32(16)


def unpacked(colors: Any) -> NDArray[np.uint8]:
    """Packed colours as red, green and blue: uint8 (…, 3)."""
    bytes_of = np.ascontiguousarray(colors, "<u4").view(np.uint8)
    return bytes_of.reshape(*np.shape(colors), 4)[..., :3]


def as_image(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, of: StoredMask
) -> tuple[Image.Image, dict[str, int]]:
    """A part of a mask, as `of.read` gave it, as an image that stores the same, and what to tell
    `Image.save` besides; numbers that no PNG holds become 65535.

    A pixel that holds nothing is transparent: of colours by alpha, of numbers by having one that no
    other pixel has, which is 255 where that is free, since other programs leave it out too.
    """
    if valid is not None and valid.all():
        valid = None
    if of.has_colors:
        bands = unpacked(values)
        if valid is not None:
            bands = np.dstack([bands, np.where(valid, 255, 0).astype(np.uint8)])
        return Image.fromarray(bands), {}
    if of.kind == "1-bit":
        if valid is None:
            return Image.fromarray(values > 0), {}
        # A palette of black and white is read as 1-bit; its third entry is transparent.
        image = Image.fromarray(np.where(valid, values > 0, 2).astype(np.uint8))
        image.putpalette(unpacked([BLACK, WHITE, BLACK]).tobytes())
        return image, {"transparency": 2}
    options = {}
    values = values.astype(np.int64)
    values = np.where((values >= 0) & (values < MOST), values, MOST - 1)
    if valid is not None:
        free = np.setdiff1d(np.arange(MOST), values[valid])
        preferred = NO_CLASS if of.palette is None and NO_CLASS in free else int(free[0])
        options["transparency"] = preferred
        values = np.where(valid, values, options["transparency"])
    values = values.astype(np.uint8 if values.max(initial=0) <= 255 else np.uint16)
    image = Image.fromarray(np.ascontiguousarray(values))
    if of.palette is not None and values.dtype == np.uint8:
        entries = np.pad(of.palette, (0, max(0, int(values.max()) + 1 - len(of.palette))), "edge")
        image.putpalette(unpacked(entries[:256]).tobytes())
    return image, options


def _of_image(path: Path | str, image: Image.Image, bits: int) -> StoredMask:
    if image.format in ("JPEG", "MPO") and is_cut_off_jpeg(path):
        raise InputError(f"{path}: the mask cannot be read (the file is cut off)")
    mode, clear = image.mode, image.info.get("transparency")
    if mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise _holds_no_classes(path, f"images of the kind {mode!r}")
    if image.width * image.height * (4 if mode in ("RGB", "RGBA") else 1) > DECODED_BYTES:
        raise InputError(
            f"{path}: {image.width}×{image.height} pixels are too many to decode; save the mask as "
            "GeoTIFF"
        )
    # Pillow stretches grey of 2 and 4 bits to 0 … 255.
    step = 255 // (2**bits - 1) if mode == "L" and bits in (2, 4) else 1
    palette = _palette_of_image(image) if mode == "P" else None
    hidden = np.zeros(256, bool)  # by palette entry
    if isinstance(clear, bytes):
        hidden[: len(clear)] = np.frombuffer(clear, np.uint8) == 0
    elif mode == "P" and clear is not None:
        hidden[clear] = True

    def read(top: int, bottom: int) -> Stored:
        with _reading(path):
            image.load()
            part = image
            if (top, bottom) != (0, image.height):
                part = image.crop((0, top, image.width, bottom))
            if mode == "RGB":  # four bytes a pixel, as Pillow has them
                shape = part.height, part.width, 4
                pixels = np.frombuffer(part.tobytes("raw", "RGBX"), np.uint8).reshape(shape)
            else:
                pixels = np.asarray(part.convert("L") if mode == "1" else part)
        valid: NDArray[np.bool_] | None = None
        if mode in ("RGB", "RGBA"):
            values: NDArray[Any] = pixels.view("<u4")[..., 0] & 0xFFFFFF
            if mode == "RGBA":
                valid = pixels[..., 3] > 0
            elif isinstance(clear, tuple):
                valid = values != packed(np.array(clear))
        elif mode == "P":
            values = pixels
            if hidden.any():
                valid = ~hidden[values]
        elif mode == "LA":
            values, valid = np.ascontiguousarray(pixels[..., 0]), pixels[..., 1] > 0
        else:
            values = (pixels > 0).astype(np.uint8) if mode == "1" else pixels
            if step > 1:
                values = values // step
            if clear is not None:
                # Pillow has 1 as 255 here as well.
                valid = values != ((clear > 0) if mode == "1" else clear)
        return values, valid

    kind = {"1": "1-bit", "L": "grey", "LA": "grey", "P": "palette"}.get(mode, mode)
    # Only where there is any: asking a PNG for it decodes the whole picture.
    orientation = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
    lossy = image.format in LOSSY_FORMATS
    nothing = clear if mode == "L" else None
    stored = StoredMask(*image.size, kind, read, palette, lossy, orientation != 1, nothing)
    return _with_plain_levels(stored)


def _palette_of_image(image: Image.Image) -> NDArray[np.uint32]:
    """The colours of a palette image; asked itself, it would decode all of its pixels."""
    assert image.palette is not None
    small = Image.new("P", (1, 1))
    small.putpalette(image.palette.palette, image.palette.rawmode or image.palette.mode)
    return packed(np.array(small.getpalette(), np.uint8).reshape(-1, 3))


def _with_plain_levels(stored: StoredMask) -> StoredMask:
    """A palette of black and white alone, in any order, is what 1-bit grey is; one whose entries
    are the greys of their own numbers is none."""
    if stored.palette is None:
        return stored
    entries = np.arange(len(stored.palette), dtype=np.uint32)
    if len(entries) > 2 and (stored.palette == entries * np.uint32(GREY)).all():
        return replace(stored, kind="grey", palette=None)
    if set(stored.palette.tolist()) != {BLACK, WHITE}:
        return stored
    levels = (stored.palette == WHITE).astype(np.uint8)

    def read(top: int, bottom: int) -> Stored:
        values, valid = stored.read(top, bottom)
        return levels[np.minimum(values, len(levels) - 1)], valid

    return replace(stored, kind="1-bit", read=read, palette=None)


def _of_raster(path: Path | str, raster: Any) -> StoredMask:
    from rasterio.enums import MaskFlags
    from rasterio.windows import Window

    names = [color.name for color in raster.colorinterp]
    tags, dtype = raster.tags(ns="IMAGE_STRUCTURE"), np.dtype(raster.dtypes[0])
    space = tags.get("SOURCE_COLOR_SPACE")
    if space in ("CMYK", "CIELAB"):
        raise _holds_no_classes(path, f"{space} images")
    if dtype.kind not in "iuf":
        raise _holds_no_classes(path, f"{dtype} values")
    alpha = names.index("alpha") + 1 if "alpha" in names else None
    bands = [band for band in raster.indexes if band != alpha]
    if {"red", "green", "blue"} <= set(names):
        bands = [names.index(name) + 1 for name in ("red", "green", "blue")]
    elif len(bands) not in (1, 3):
        raise _holds_no_classes(path, f"{len(bands)} bands of {dtype}")
    # An alpha band goes before nodata: rasterio would compare alpha with that value too.
    masked = alpha is None and MaskFlags.per_dataset in raster.mask_flag_enums[0]
    marks = [raster.nodatavals[band - 1] for band in bands]
    marked = alpha is None and not masked and None not in marks
    palette = _palette_of_raster(raster) if names[bands[0] - 1] == "palette" else None

    def read(top: int, bottom: int) -> Stored:
        window = Window(0, top, raster.width, bottom - top)
        with _reading(path):
            values = raster.read(bands, window=window)
            valid = None
            if alpha is not None:
                valid = raster.read(alpha, window=window) > 0
            elif masked:
                valid = raster.read_masks(bands[0], window=window) > 0
        if marked:
            valid = (values != np.array(marks)[:, None, None]).any(axis=0)
        if dtype.kind == "f":
            finite = np.isfinite(values).all(axis=0)
            valid = finite if valid is None else valid & finite
            values = np.where(valid, values, 0)
            if (values != np.floor(values)).any():
                raise _holds_no_classes(path, "numbers that are not whole")
        if dtype != np.uint8:
            values = np.clip(values.astype(np.float64), LEAST, MOST).astype(np.int32)
        if len(bands) == 1:
            return values[0], valid
        if dtype != np.uint8:
            # Of 16 bits the upper 8 are what other programs show.
            values = np.where(values > 255, values >> 8, values) & 255
        return packed(np.moveaxis(values, 0, 2)), valid

    if len(bands) == 3:
        kind = "RGB" if alpha is None else "RGBA"
    else:
        kind = "grey" if palette is None else "palette"
    lossy = "JPEG" in tags.get("COMPRESSION", "") or (
        tags.get("COMPRESSION_REVERSIBILITY", "") == "LOSSY"
    )
    nothing = marks[0] if marked and len(bands) == 1 else None
    stored = StoredMask(raster.width, raster.height, kind, read, palette, lossy, nothing=nothing)
    return _with_plain_levels(stored)


def _palette_of_raster(raster: Any) -> NDArray[np.uint32] | None:
    """The colours of a palette raster, if it has its colour table."""
    try:
        table = raster.colormap(1)
    except ValueError:
        return None
    colors = np.zeros((max(table) + 1, 3), np.uint8)
    colors[list(table)] = [color[:3] for color in table.values()]
    return packed(colors)
