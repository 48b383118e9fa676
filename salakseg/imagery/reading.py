"""How an open raster is read: which bands, what they mean, and which of its pixels are there.

The rules are those of `imagery.bands` and `imagery.nodata`; this is where GDAL's words for them
(colour interpretation, mask flags, nodata values, colour tables) are understood.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from salakseg.errors import InputError
from salakseg.imagery.bands import colour_bands, require_known_scale, to_rgb8, white_level_of
from salakseg.imagery.nodata import COLLAR, TRANSPARENT, is_alpha, near_solid, opaque_from
from salakseg.imagery.remote import ImagePath, RemoteImage

# A photograph has no place on Earth, and need not be told so. For all of the process: images are
# opened in threads, and `warnings.catch_warnings` is not for those.
warnings.simplefilter("ignore", NotGeoreferencedWarning)
# Most of what goes wrong in GDAL; some of it rasterio hands on as it is, or cannot decode.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, CRSError, UnicodeDecodeError, OSError)

Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]

# PNG and JPEG: whatever of them is called alpha is that.
PHOTO_DRIVERS = ("PNG", "JPEG")
LOSSY = ("JPEG", "WEBP", "JXL")
# What alpha is and how bright white is, is seen in so many windows a side, of so many pixels a
# side, spread over the image. At full resolution: a map must not depend on overviews.
SAMPLES, SAMPLE_SIDE = 8, 64


@dataclass(frozen=True)
class Reading:
    """How an open raster is read.

    Attributes:
        raster: the rasterio data set.
        bands: numbers of those that are taken: one, or red, green and blue.
        others: of those that may hold nodata: all of that type but alpha.
        alpha, opaque: the band of alpha or None, and its least value where a pixel is there.
        masked: bands whose masks say where a pixel is there: in any of them.
        marks: nodata of `others`, (bands, 1, 1), or None.
        lossy: what was nodata may be nearly so.
        colours: uint8 (values, 4), RGBA, of a palette; or None.
        notes: what a user must know of it.
    """

    raster: Any
    bands: tuple[int, ...]
    others: tuple[int, ...]
    alpha: int | None = None
    opaque: int = 1
    masked: tuple[int, ...] = ()
    marks: NDArray[Any] | None = None
    lossy: bool = False
    colours: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = field(default=())

    def stored(self, window: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The taken bands as they are stored (bands, H, W), and which pixels are there (H, W).

        Raises:
            `GDAL_ERRORS`: the file is damaged there.
        """
        seen = _grown(window, self.raster) if self.lossy and self.marks is not None else window
        bands = self.bands if self.marks is None else self.others
        alpha = () if self.alpha is None else (self.alpha,)
        taken = [*bands, *alpha]
        values = None
        if self.marks is None:
            # The bands of a pixel side by side, as most files and `pixels` have them.
            shape = seen.height, seen.width, len(taken)
            values = np.moveaxis(np.empty(shape, self.raster.dtypes[bands[0] - 1]), 2, 0)
        values = self.raster.read(taken, window=seen, out=values)
        valid = np.ones(values.shape[1:], bool)
        if alpha:
            valid &= values[-1] >= self.opaque
            values = values[:-1]
        if self.masked:
            masks = self.raster.read_masks(list(self.masked), window=seen)
            valid &= (masks > 0).any(axis=0)
        if self.marks is not None:
            valid &= ~is_nodata(values, self.marks, self.lossy)
            values = values[[self.others.index(band) for band in self.bands]]
        top, left = window.row_off - seen.row_off, window.col_off - seen.col_off
        inside = np.s_[top : top + window.height, left : left + window.width]
        return values[:, *inside], valid[inside]

    def pixels(self, window: Any, white_level: int | None) -> Pixels:
        """8-bit RGB (H, W, 3), and which pixels are there; raises as `stored`."""
        values, valid = self.stored(window)
        if self.colours is None:
            return to_rgb8(np.moveaxis(values, 0, 2), white_level), valid
        colours = self.colours[np.minimum(values[0], len(self.colours) - 1)]
        return np.ascontiguousarray(colours[..., :3]), valid & (colours[..., 3] > 0)


def open_raster(path: ImagePath) -> Any:
    """`rasterio.open`; raises one of `GDAL_ERRORS`."""
    if isinstance(path, RemoteImage):
        return path.raster()
    if path.suffix.lower() == ".vrt":
        # GDAL quotes a damaged one, and rasterio writes a traceback where it cannot decode that.
        path.read_text(encoding="utf-8")
    return rasterio.open(path)


def reading_of(raster: Any, nodata: float | None, wanted: tuple[int, ...] | None) -> Reading:
    """How to read an open rasterio data set, with what `open_image` was asked for.

    Raises:
        InputError: values that have no known scale, or are no colours (names no file).
    """
    names = [colour.name for colour in raster.colorinterp]
    for band in wanted or raster.indexes[:1]:
        try:
            require_known_scale(raster.dtypes[band - 1])
        except InputError as error:
            more = "; more than three bands may be of any type: --bands" * (raster.count > 3)
            raise InputError(f"{error}{more}") from error
    lossy = _is_lossy(raster)
    alpha, opaque, notes = alpha_of(raster, names, wanted, lossy)
    bands = wanted or colour_bands(names, alpha)
    dtype = raster.dtypes[bands[0] - 1]
    if any(raster.dtypes[band - 1] != dtype for band in bands):
        raise InputError(f"its bands {_listed(bands)} hold values of different types; see --bands")
    others = tuple(
        band for band in raster.indexes if band != alpha and raster.dtypes[band - 1] == dtype
    )
    if wanted is None and bands not in ((1,), (1, 2, 3)):
        notes += (f"its bands {_listed(bands)} are taken for red, green and blue",)
    elif wanted is None and len(others) > 3 and "red" not in names:
        notes += (
            f"does not say which of its {len(others)} bands are red, green and blue: the first "
            "three are taken; --bands takes others",
        )
    return Reading(
        raster,
        bands,
        others,
        alpha,
        opaque,
        masked_bands(raster, bands),
        marks_of([raster.nodatavals[b - 1] if nodata is None else nodata for b in others], dtype),
        lossy,
        _palette(raster, bands[0]) if names[bands[0] - 1] == "palette" else None,
        notes,
    )


def level_of(reading: Reading, given: int | None) -> tuple[int | None, str]:
    """The value of full brightness, None for ordinary 8 bits; and what to tell of it, or "".

    Args:
        given: for 16 bits; None: by the values.
    """
    band = reading.bands[0]
    bits = np.iinfo(reading.raster.dtypes[band - 1]).bits
    used = int(reading.raster.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", bits))
    if reading.colours is not None or used == bits == 8:
        return None, ""
    if bits == 8:
        return 2**used - 1, ""
    own = 2**used - 1
    if used == bits:
        parts = [values[:, valid].ravel() for values, valid in _sampled(reading)]
        own = white_level_of(np.concatenate([*parts, np.zeros(0, np.uint16)]))
    level = given or own
    note = f"16-bit values, of which {level} is full brightness"
    if given is None:
        note += ": the least usual level that they keep to; --white-level sets another"
    elif own != given:
        note += f", as asked for or in training; by themselves they keep to {own}"
    return level, note


def marks_of(values: Sequence[float | None], dtype: str) -> NDArray[Any] | None:
    """Nodata of each band, (bands, 1, 1); None where no pixel can be nodata in all of them."""
    top = np.iinfo(dtype).max
    if any(value is None or not float(value).is_integer() for value in values):
        return None
    if not all(0 <= value <= top for value in values if value is not None):
        return None
    return np.array(values, dtype)[:, None, None]


def is_nodata(values: NDArray[Any], marks: NDArray[Any], lossy: bool) -> NDArray[np.bool_]:
    """Where (bands, H, W) are nodata in all bands; `lossy`: or were, before compression."""
    exact: NDArray[np.bool_] = (values == marks).all(axis=0)
    return exact | near_solid(values, marks) if lossy else exact


def _is_lossy(raster: Any) -> bool:
    """Whether compression changed its 8-bit values, so far as it, or a VRT's first part, says."""
    if raster.driver == "VRT":
        with suppress(*GDAL_ERRORS, IndexError), open_raster(Path(raster.files[1])) as part:
            return part.driver != "VRT" and _is_lossy(part)
        return False
    tags = raster.tags(ns="IMAGE_STRUCTURE")
    loss = tags.get("COMPRESSION_REVERSIBILITY", "")
    named = any(name in tags.get("COMPRESSION", "") for name in LOSSY)
    return raster.dtypes[0] == "uint8" and (loss == "LOSSY" or (named and not loss))


def alpha_of(
    raster: Any, names: list[str], wanted: tuple[int, ...] | None, lossy: bool
) -> tuple[int | None, int, tuple[str, ...]]:
    """The band of alpha, or None; its least value where a pixel is there; what to tell of it."""
    if "alpha" not in names or raster.count == 1:
        return None, 1, ()
    alpha = names.index("alpha") + 1
    if alpha in (wanted or ()) or raster.driver in PHOTO_DRIVERS:
        return None if alpha in (wanted or ()) else alpha, 1, ()
    bands = tuple(band for band in raster.indexes if band != alpha)
    parts = [
        values.reshape(raster.count, -1)
        for values, _ in _sampled(Reading(raster, (*bands, alpha), ()))
    ]
    if not parts:
        return alpha, 1, ()
    *colours, values = np.concatenate(parts, axis=1)
    # Of 16 bits all may be in use or not, and some write 0 and 1.
    full = max(1, int(np.nan_to_num(values).max()))
    if raster.dtypes[alpha - 1] == "uint8" and full >= TRANSPARENT:
        full = 255
    if is_alpha(values, np.array(colours), full):
        return alpha, opaque_from(values, full, lossy), ()
    return (
        None,
        1,
        (
            f"calls its band {alpha} alpha, but hardly any of that is opaque: taken for another "
            "channel, such as near infrared, and not for transparency",
        ),
    )


def masked_bands(raster: Any, bands: tuple[int, ...]) -> tuple[int, ...]:
    """The bands whose masks are masks of their own, not made of alpha or one band's nodata."""
    flags = set(raster.mask_flag_enums[bands[0] - 1])
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return bands[:1]
    return () if flags else bands


def _palette(raster: Any, band: int) -> NDArray[np.uint8]:
    """uint8 (values, 4): the colours of a palette, RGBA."""
    try:
        colours = raster.colormap(band)
    except ValueError as error:
        raise InputError(
            "a palette image without its colour table: its values are no colours; export it again, "
            "as RGB"
        ) from error
    table = np.zeros((max(colours) + 1, 4), np.uint8)
    table[list(colours)] = list(colours.values())
    return table


def _sampled(reading: Reading) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """`stored` of windows all over an image; those that cannot be read are left out."""
    for window in sample_windows(reading.raster):
        with suppress(*GDAL_ERRORS):
            yield reading.stored(window)


def sample_windows(raster: Any) -> list[Any]:
    """Windows all over an image: see `SAMPLES`."""

    def spread(length: int) -> list[int]:
        last = max(0, length - SAMPLE_SIDE)
        return sorted(set(np.linspace(0, last, SAMPLES).astype(int).tolist()))

    height, width = (min(SAMPLE_SIDE, length) for length in raster.shape)
    return [
        Window(column, row, width, height)
        for row in spread(raster.height)
        for column in spread(raster.width)
    ]


def _grown(window: Any, raster: Any) -> Any:
    """A window with what `near_solid` needs to see around it."""
    top, left = max(0, window.row_off - COLLAR), max(0, window.col_off - COLLAR)
    bottom = min(raster.height, window.row_off + window.height + COLLAR)
    right = min(raster.width, window.col_off + window.width + COLLAR)
    return Window(left, top, right - left, bottom - top)


def _listed(bands: tuple[int, ...]) -> str:
    return ", ".join(map(str, bands))
