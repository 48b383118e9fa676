"""What is not there is not there: one rule for nodata, alpha, padding and margins.

Whoever reads an image gets its pixels together with which of them are valid. A pixel that is not
has no class, is not learnt from, not mapped and not counted; a network sees in its place the mean
colour of the others, in training as in mapping, so that no edge is made up.

A pixel of an image is valid unless one of these says that it is not:

| what the file has | not valid |
|---|---|
| alpha (PNG, transparent colour or palette entry, GeoTIFF) | where it is 0 |
| alpha that was compressed with loss, so that 0 is no longer 0 nor 255 255 | below half |
| "alpha" that `--bands` names, or that is opaque in less than half of what is not 0 | nowhere |
| a mask in the file or beside it (`.msk`) | where it is 0 |
| a nodata value, or `--nodata` | where *all* bands, alpha aside, hold it: sunlit sand is 255 too |
| that, in a file compressed with loss | also around solid nodata, if within `TOLERANCE` of it |

A file's value that no pixel can hold (-9999 in 8 bits, NaN) marks nothing; as `--nodata` it is
refused. Of more than three bands, which may be of any type, `imagery.multiband` says more.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError
from salakseg.imagery.bands import FULL_16_BITS

# Of 255: below it a band that is called alpha is transparent, from the other on it is opaque.
TRANSPARENT, OPAQUE = 20, 236
# What compression makes of solid nodata (a 0 comes back as 1 at some qualities of JPEG), and of
# nodata beside something else, as GDAL's nearblack has it.
SMEARED, TOLERANCE = 2, 15
# JPEG codes squares of 8 pixels, 16 with its colours at half the resolution: a square of nodata
# is solid if it is as large as the one, and what its edge was smeared to lies within the other.
SOLID, REACH = 8, 16
# What `near_solid` needs to see around a window.
COLLAR = REACH + 2 * SOLID - 2


def require_nodata(nodata: float | None, several: bool = False) -> None:
    """Raise `InputError` unless `--nodata` is a value of 8 or 16 bits, or not given.

    Args:
        several: more than three bands are read, which may hold any number.
    """
    if several and nodata is not None and np.isfinite(nodata):
        return
    if nodata is not None and not (0 <= nodata <= FULL_16_BITS and float(nodata).is_integer()):
        raise InputError(
            f"--nodata {nodata:g}: no pixel can hold it; must be a whole number, 0 to "
            f"{FULL_16_BITS}"
        )


def filled(image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The tile or patch (H, W, 3), its pixels that are not valid in the mean colour of the others;
    where none is valid, as it is."""
    if valid.all() or not valid.any():
        return image
    image = image.copy()
    image[~valid] = image[valid].mean(axis=0).round()
    return image


def is_alpha(alpha: NDArray[Any], colours: NDArray[Any], full: int) -> bool:
    """Whether a band that a file calls alpha is that, by a sample of its pixels.

    GDAL calls the fourth band of any 8-bit file alpha unless it is told otherwise, near infrared
    too. Alpha is 0 and full and hardly anything between; infrared is between.

    Args:
        alpha: (n,), the band.
        colours: (bands, n), the others.
        full: the value of what is opaque.
    """
    there = alpha >= full * TRANSPARENT / 255
    if not there.any():  # an empty tile, or the infrared of water, which has colours
        return bool((colours == colours[:, :1]).all())
    return bool((alpha[there] >= full * OPAQUE / 255).mean() >= 0.5)


def opaque_from(alpha: NDArray[Any], full: int, lossy: bool) -> int:
    """The least value of alpha at which a pixel is there, by a sample of the band (n,)."""
    # Soft edges hold all values alike; what compression left behind is near 0 (and may have been
    # copied into a file without loss).
    faint = ((alpha > 0) & (alpha < TRANSPARENT)).sum()
    between = ((alpha >= TRANSPARENT) & (alpha < OPAQUE)).sum()
    return full // 2 + 1 if lossy or faint > between else 1


def near_solid(values: NDArray[np.uint8], marks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where lossy compression left nodata, and what it smeared of that: bool (H, W).

    Args:
        values: (bands, H, W).
        marks: uint8 (bands, 1, 1), what each band holds where there is nothing.
    """
    off = (np.maximum(values, marks) - np.minimum(values, marks)).max(axis=0)
    solid = off <= SMEARED
    for axis in (0, 1):
        solid = _run(solid, SOLID, axis, np.logical_and)
    if not solid.any():
        return solid
    # From each corner of a solid square, REACH pixels beyond all of its sides.
    before = REACH + SOLID - 1
    reached = np.pad(solid, ((before, 0), (before, 0)))
    for axis in (0, 1):
        reached = _run(reached, before + 1 + REACH, axis, np.logical_or)
    return reached[: off.shape[0], : off.shape[1]] & (off <= TOLERANCE)


def _run(mask: NDArray[np.bool_], length: int, axis: int, combine: Any) -> NDArray[np.bool_]:
    """`combine` of so many pixels from each on along an axis, where beyond the end all is False."""
    done = 1
    while done < length:
        step = min(done, length - done)
        later = np.zeros_like(mask)
        later.swapaxes(0, axis)[:-step] = mask.swapaxes(0, axis)[step:]
        mask = combine(mask, later)
        done += step
    return mask
