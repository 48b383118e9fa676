"""Which bands of an image are its colours, and what value is full brightness: all → 8-bit RGB.

One band is repeated three times; of two (grey and alpha) the first one is taken; of more those that
the file calls red, green and blue, and where it does not, the first three.

8-bit values stay as they are. Of 16-bit ones a *white level* (the word is DNG's) becomes 255 and
what is brighter too, 0 stays 0. More than three bands are another matter: `imagery.multiband`.
Cameras and satellites seldom fill 16 bits, so the level is said
(`--white-level`), or the training set's, or the least of `WHITE_LEVELS` that the values keep to.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError

# 8 bits in 16 (as ArcGIS makes them), 10, 12, reflectance in ten-thousandths, 14 and 16 bits.
WHITE_LEVELS = (255, 1023, 4095, 10_000, 16_383, 65_535)
FULL_16_BITS = 65_535
# A level stands though a thousandth of the values are brighter, and others by a hundredth of it:
# interpolation overshoots, and ArcGIS marks 8-bit nodata in 16 bits by 256.
BRIGHTER, OVERSHOOT = 0.001, 1.01


def checked_bands(bands: Sequence[int] | str | None) -> tuple[int, ...] | None:
    """The band numbers, from 1, of `--bands`, from "1,2,3" too: one, three, or more, all different.

    Raises:
        InputError: they are none.
    """
    if bands is None:
        return None
    try:
        numbers = tuple(map(int, bands.split(",") if isinstance(bands, str) else bands))
    except ValueError as error:
        raise InputError(f"--bands {bands}: must be band numbers, as in 1,2,3") from error
    several = len(numbers) > 3 and len(set(numbers)) == len(numbers)
    if (len(numbers) not in (1, 3) and not several) or min(numbers) < 1:
        raise InputError(
            f"--bands {','.join(map(str, numbers))}: must be one or three band numbers, as in "
            "1,2,3, or more different ones"
        )
    return numbers


def require_white_level(level: int | None) -> None:
    """Raise `InputError` unless `--white-level` is one, or not given."""
    if level is not None and not 0 < level <= FULL_16_BITS:
        raise InputError(f"--white-level {level}: must be a 16-bit value, 1 to {FULL_16_BITS}")


def to_rgb8(pixels: NDArray[Any], white_level: int | None = None) -> NDArray[np.uint8]:
    """(H, W) or (H, W, bands), uint8 or uint16 → uint8 (H, W, 3): one band or the first three.

    Args:
        white_level: what becomes 255; None: the largest value of the data type.

    Raises:
        InputError: another data type: there is no scale that could be known.
    """
    require_known_scale(str(pixels.dtype))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    level = white_level or np.iinfo(pixels.dtype).max
    if pixels.dtype == np.uint8 and level == 255:
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    values = pixels.astype(np.uint32)
    return np.minimum((values * 255 + level // 2) // level, 255).astype(np.uint8)


def require_known_scale(dtype: str) -> None:
    """Raise `InputError` unless it is an 8-bit or 16-bit unsigned type, by its name in rasterio."""
    if dtype in ("uint8", "uint16"):
        return
    scaled = "gdal_translate -ot UInt16 -scale 0 MAX 0 10000 IN OUT, MAX the value of white"
    raise InputError(
        f"its values are {dtype}; only 8-bit and 16-bit unsigned images are read"
        + ("" if dtype.startswith("complex") else f": {scaled}")
    )


def white_level_of(values: NDArray[Any]) -> int:
    """The least usual level that 16-bit values (n,) of pixels that are there keep to."""
    if not values.size:
        return FULL_16_BITS
    bright = np.quantile(values, 1 - BRIGHTER, method="lower")
    return next(level for level in WHITE_LEVELS if bright <= level * OVERSHOOT)


def colour_bands(names: Sequence[str], alpha: int | None) -> tuple[int, ...]:
    """Numbers, from 1, of the one or three bands to take, by the file's names of all of them."""
    colours = [names.index(name) + 1 for name in ("red", "green", "blue") if name in names]
    others = [band for band in range(1, len(names) + 1) if band != alpha]
    if len(colours) == 3:
        return tuple(colours)
    return tuple(others[:3] if len(others) >= 3 else others[:1])
