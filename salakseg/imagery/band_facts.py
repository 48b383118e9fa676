"""What rasters tell of their bands → the `BandSet` that they make, with the scale of each band.

A band's scale is measured once, over all images of a set: from what its values keep to, with room
for the light of other flights, in round numbers. 8-bit bands keep their values.
"""

import json
from collections.abc import Mapping
from math import ceil, floor, inf, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from salakseg.band_set import ALPHA, Band, BandSet
from salakseg.errors import InputError
from salakseg.imagery.multiband import names_of, reading_with
from salakseg.imagery.raster import quiet_gdal
from salakseg.imagery.reading import GDAL_ERRORS, open_raster

# So few of a band's values may lie beyond its range at either end: glint, dead pixels.
BEYOND = 0.001
# So few of the images of a set may be odd ones.
ODD = 0.01
# Beyond the range, so much of it at either end becomes 0 to 255 too.
ROOM = 0.25


class BandFacts(NamedTuple):
    """What a raster tells of some of its bands.

    Attributes:
        names: "" where it names one not.
        of: how many bands it has, alpha aside.
        dtype: of their values, "mixed" of a VRT of several, "scaled …" where they have a scale.
        low, high: what the values of each keep to; [] where nothing is there, or `own` tells it.
        own: the `BandSet.as_plain` of one of our patches, as JSON; "" of other rasters.
    """

    names: list[str]
    of: int
    dtype: str
    low: list[float]
    high: list[float]
    own: str = ""


def facts_of(path: Path, nodata: float | None, numbers: tuple[int, ...] | None) -> BandFacts:
    """Of the bands of these numbers; None: of all but alpha.

    Raises:
        InputError: it cannot be read, or has no such band.
    """
    try:
        with quiet_gdal(), open_raster(path) as raster:
            return _facts(raster, nodata, numbers)
    except (*GDAL_ERRORS, InputError) as error:
        raise InputError(f"{path}: {error}") from error


def _facts(raster: Any, nodata: float | None, numbers: tuple[int, ...] | None) -> BandFacts:
    if numbers is not None and max(numbers) > raster.count:
        raise InputError(f"has no band {max(numbers)}, only {raster.count}; see --bands")
    own, names = names_of(raster, numbers)
    numbers = numbers or tuple(n for n, name in enumerate(names, 1) if name != ALPHA)
    types = sorted({raster.dtypes[number - 1] for number in numbers})
    dtype = types[0] if len(types) == 1 else "mixed"
    if any((raster.scales[n - 1], raster.offsets[n - 1]) != (1, 0) for n in numbers):
        dtype = f"scaled {dtype}"
    low, high = np.zeros((2, 0))
    samples = low[None]
    if own is None:
        samples = reading_with(raster, nodata, numbers).sampled().astype(np.float64)
    if samples.size:
        low = np.quantile(samples, BEYOND, axis=1, method="lower")
        high = np.quantile(samples, 1 - BEYOND, axis=1, method="higher")
    return BandFacts(
        [names[n - 1] for n in numbers],
        len(names) - names.count(ALPHA),
        dtype,
        low.tolist(),
        high.tolist(),
        "" if own is None else json.dumps(own.as_plain()),
    )


def made_of(
    facts: Mapping[str, BandFacts], numbers: tuple[int, ...], before: BandSet | None = None
) -> BandSet:
    """The set that images make; or `before`, where that holds for all of them.

    Args:
        facts: by the image's name, one or more, of the bands of these numbers.

    Raises:
        InputError: two images that cannot be of one set.
    """
    require_alike(facts)
    one = next(iter(facts.values()))
    names = [name or f"band {number}" for name, number in zip(one.names, numbers, strict=True)]
    ranges = [other for other in facts.values() if other.low]
    low, high = [0.0] * len(names), [1.0] * len(names)
    if ranges:  # of many images, not what the oddest one has
        lows, highs = [other.low for other in ranges], [other.high for other in ranges]
        low = np.quantile(lows, ODD, axis=0, method="lower").tolist()
        high = np.quantile(highs, 1 - ODD, axis=0, method="higher").tolist()
    limit = inf
    if one.dtype.startswith(("uint", "int")):
        limit = float(np.iinfo(one.dtype).max)
    if before is not None and before.names == names and before.count == one.of:
        within = zip(before.bands, low, high, strict=True)
        if all(band.low <= least and most <= band.high for band, least, most in within):
            return before
    scales = [(0.0, 255.0)] * len(names)
    if one.dtype != "uint8":
        scales = [scale_of(*ends, limit) for ends in zip(low, high, strict=True)]
    parts = zip(names, numbers, scales, strict=True)
    return BandSet(tuple(Band(name, number, *scale) for name, number, scale in parts), one.of)


def require_alike(facts: Mapping[str, BandFacts]) -> None:
    """Raise `InputError` where two images, by name, cannot be of one set."""
    first, one = next(iter(facts.items()))
    for name, other in facts.items():
        for what, ours, theirs in (
            ("bands", _words(one.names), _words(other.names)),
            ("number of bands", str(one.of), str(other.of)),
            ("type of values", one.dtype, other.dtype),
        ):
            if ours != theirs:
                raise InputError(
                    f"{first} and {name} differ in their {what}: {ours}, {theirs}; all images of "
                    "a set are alike, so keep those of another camera or export apart"
                )


def scale_of(low: float, high: float, limit: float = inf) -> tuple[float, float]:
    """What becomes 0 and 255 of a band whose values are from `low` to `high`: with `ROOM`, in round
    numbers, up to `limit`; from 0 where no value is below, unless all are far from it, as heights
    above the sea are."""
    room = ROOM * (high - low) or 0.5
    first = 0.0 if 0 <= low <= high - low + room else low - room
    last = high + room
    step = 10.0 ** (floor(log10(last - first)) - 1)
    return round(floor(first / step) * step, 10), min(round(ceil(last / step) * step, 10), limit)


def _words(names: list[str]) -> str:
    return "/".join(name or "?" for name in names)
