"""Rasters of more than three bands: which band is which, what their values mean, what is there.

In: an open raster and a `BandSet`. Out: its bands in the set's order, each brought to 8 bits by the
set's own scale and never by the image's. And the GeoTIFFs that patches of such a set are.

8 bits, since all that follows (shards, batches, tiles) is bytes, as of colours; and a scale of each
band's own spends them on what the camera has seen.

A pixel is not there where alpha or a mask says so, where a taken band is no number (NaN, infinite),
where all taken bands hold the nodata value, and where one of them does if no true value is like it:
in signed and floating-point data any but 0.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from salakseg.band_set import ALPHA, BandSet, band_names
from salakseg.errors import InputError
from salakseg.imagery.reading import (
    GDAL_ERRORS,
    SAMPLE_SIDE,
    SAMPLES,
    Pixels,
    alpha_of,
    masked_bands,
    open_raster,
    sample_windows,
)

# Of a raster that is one of our patches: its BandSet, as JSON.
TAG = "SALAKSEG_BANDS"
DEFLATE = {"driver": "GTiff", "compress": "deflate", "predictor": 2, "interleave": "pixel"}


@dataclass(frozen=True)
class BandReading:
    """How an open raster is read.

    Attributes:
        raster: the rasterio data set.
        numbers: of its bands, in the order of `band_set`.
        alpha, opaque, masked: as in `reading.Reading`.
        marks: float32 (bands, 1, 1), nodata of each; NaN for none.
        note: what a user must know of it, or "".
    """

    raster: Any
    numbers: tuple[int, ...]
    band_set: BandSet | None
    alpha: int | None
    opaque: int
    masked: tuple[int, ...]
    marks: NDArray[np.float32]
    note: str = ""

    def values(self, window: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The bands' values float32 (bands, H, W), and which pixels are there (H, W).

        Raises:
            `GDAL_ERRORS`: the file is damaged there.
        """
        raster, shape = self.raster, (window.height, window.width)
        if len({raster.dtypes[number - 1] for number in self.numbers}) == 1:
            values = _as_float32(raster.read(list(self.numbers), window=window))
        else:  # of a VRT
            values = np.empty((len(self.numbers), *shape), np.float32)
            for place, number in enumerate(self.numbers):
                values[place] = _as_float32(raster.read(number, window=window))
        valid = np.isfinite(values).all(axis=0)
        marked = values == self.marks
        unsigned = [raster.dtypes[number - 1].startswith("uint") for number in self.numbers]
        telling = ~np.array(unsigned)[:, None, None] & (self.marks != 0)
        valid &= ~(marked.all(axis=0) | (marked & telling).any(axis=0))
        if self.alpha is not None:
            valid &= raster.read(self.alpha, window=window) >= self.opaque
        if self.masked:
            valid &= (raster.read_masks(list(self.masked), window=window) > 0).any(axis=0)
        for place, number in enumerate(self.numbers):
            scale, offset = raster.scales[number - 1], raster.offsets[number - 1]
            if (scale, offset) != (1, 0):
                values[place] = values[place].astype(np.float64) * scale + offset
        return values, valid

    def pixels(self, window: Any) -> Pixels:
        """uint8 (H, W, bands), and which pixels are there; raises as `values`."""
        assert self.band_set is not None
        values, valid = self.values(window)
        return self.band_set.quantised(values), valid

    def sampled(self) -> NDArray[np.float32]:
        """float32 (bands, n): values that are there, of windows all over the image, of a small one
        all of them."""
        parts = [np.zeros((len(self.numbers), 0), np.float32)]
        whole = Window(0, 0, self.raster.width, self.raster.height)
        small = whole.width * whole.height <= (SAMPLES * SAMPLE_SIDE) ** 2
        for window in [whole] if small else sample_windows(self.raster):
            with suppress(*GDAL_ERRORS):
                values, valid = self.values(window)
                parts.append(values[:, valid])
        return np.concatenate(parts, axis=1)


def band_reading_of(
    raster: Any, nodata: float | None, given: tuple[int, ...] | None, band_set: BandSet
) -> BandReading:
    """How to read an open raster as `band_set`; `given` are the numbers of its bands, if said.

    Raises:
        InputError: it cannot be told which of its bands are the set's (names no file).
    """
    own, names = names_of(raster, given)
    numbers, note = band_set.numbers_in(names, given)
    note = "" if own == band_set else note
    return reading_with(raster, nodata, numbers, band_set, note)


def reading_with(
    raster: Any,
    nodata: float | None,
    numbers: tuple[int, ...],
    band_set: BandSet | None = None,
    note: str = "",
) -> BandReading:
    """How to read the bands of these numbers; without a `band_set`, for their values alone."""
    for number in numbers:
        if raster.dtypes[number - 1].startswith("complex"):
            raise InputError(f"its band {number} holds complex values, which are not read")
    colours = [colour.name for colour in raster.colorinterp]
    alpha, opaque = raster.count if colours[-1] == ALPHA else None, 1
    if band_set_of(raster) is None:
        alpha, opaque, _ = alpha_of(raster, colours, numbers, False)
    told = [raster.nodatavals[n - 1] if nodata is None else nodata for n in numbers]
    marks = np.array([np.nan if mark is None else mark for mark in told])
    return BandReading(
        raster,
        numbers,
        band_set,
        alpha,
        opaque,
        masked_bands(raster, numbers),
        _as_float32(marks)[:, None, None],
        note,
    )


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """What float32 cannot hold, as nodata of float64, is infinite in it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def there(path: Path, numbers: tuple[int, ...]) -> NDArray[np.bool_]:
    """bool (H, W): where these bands of a file hold something.

    Raises:
        InputError, `GDAL_ERRORS`: it cannot be read.
    """
    with open_raster(path) as raster:
        whole = Window(0, 0, raster.width, raster.height)
        return reading_with(raster, None, numbers).values(whole)[1]


def names_of(raster: Any, wanted: tuple[int, ...] | None) -> tuple[BandSet | None, list[str]]:
    """The `BandSet` of one of our patches, else None; and a name of each band, "" for none.

    Near infrared that a file calls alpha has none.
    """
    own = band_set_of(raster)
    if own is not None:
        return own, own.names + [ALPHA] * (raster.count - len(own))
    colours = [colour.name for colour in raster.colorinterp]
    names = band_names([text or "" for text in raster.descriptions])
    if not any(names):
        names = band_names([colour.replace(ALPHA, "") for colour in colours])
    alpha, *_ = alpha_of(raster, colours, wanted, False)
    return None, [ALPHA if n == alpha else name for n, name in enumerate(names, 1)]


def band_set_of(raster: Any) -> BandSet | None:
    """What one of our patches says of itself; None of other rasters."""
    with suppress(KeyError, TypeError, ValueError):
        return BandSet.from_plain(json.loads(raster.tags()[TAG]))
    return None


def encoded(pixels: NDArray[np.uint8], valid: NDArray[np.bool_], band_set: BandSet) -> bytes:
    """A GeoTIFF of uint8 (H, W, bands): deflated, the bands named, with the scale and offset that
    give their values; alpha comes last where a pixel is not valid, and 0 is in its bands."""
    bands = np.moveaxis(pixels, 2, 0)
    named = [*band_set.names]
    scales = [(band.high - band.low) / 255 for band in band_set.bands]
    offsets = [band.low for band in band_set.bands]
    if not valid.all():
        bands = np.concatenate([np.where(valid, bands, 0), np.where(valid, 255, 0)[None]])
        bands = bands.astype(np.uint8)
        named, scales, offsets = [*named, ALPHA], [*scales, 1.0], [*offsets, 0.0]
    known = ColorInterp.__members__
    colours = [known.get(name, ColorInterp.undefined) for name in named]
    height, width = valid.shape
    with rasterio.MemoryFile() as file:
        with file.open(
            width=width,
            height=height,
            count=len(bands),
            dtype="uint8",
            photometric="minisblack",
            **DEFLATE,
        ) as raster:
            raster.colorinterp = colours  # first: once there are pixels, alpha is none any more
            raster.descriptions, raster.scales, raster.offsets = named, scales, offsets
            raster.write(bands)
            raster.update_tags(**{TAG: json.dumps(band_set.as_plain())})
        return bytes(file.read())


def decoded_bands(content: bytes) -> NDArray[np.uint8]:
    """What `encoded` wrote: uint8 (bands, H, W), with alpha (bands + 1, H, W).

    Raises:
        `GDAL_ERRORS`: damaged.
    """
    with rasterio.MemoryFile(content) as file, file.open() as raster:
        pixels: NDArray[np.uint8] = raster.read()
        return pixels
