"""Patches of more than three bands → their `BandSet`, and mean and deviation of each band.

Patches that `patchify` cut say themselves what they hold; those of other programs are taken by the
numbers of their bands, and the scale is measured over all of them. Worker processes import this:
nothing of pandas.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.band_set import BandSet
from salakseg.data.workers import Workers
from salakseg.errors import InputError

# Patches that are looked at for mean and deviation, spread over all of training.
SAMPLE = 512
FILES_A_CHUNK = 16
# A flat band says nothing: it is not blown up.
LEAST_STD = 1 / 255


def band_set_of_patches(
    data: Path, told: Mapping[str, Sequence[Any]], numbers: tuple[int, ...]
) -> BandSet | None:
    """The set that patches make; None: all are RGB.

    Args:
        told: name → `ImageCheck.bands` of each patch that can be used.
        numbers: of the bands to take, where the user says them; else ().

    Raises:
        InputError: they are not of one set, or none has these bands.
    """
    others = [name for name, bands in told.items() if not bands]
    if len(others) == len(told):
        if numbers:
            raise InputError(
                f"--bands {','.join(map(str, numbers))}: no patch has a band {max(numbers)}, as "
                f"{data / others[0]}; without it, red, green and blue are taken"
            )
        return None
    from salakseg.imagery.band_facts import BandFacts, made_of, require_alike  # slow to import

    facts = {name: BandFacts(*one) for name, one in told.items() if one}
    first, one = next(iter(facts.items()))
    if others:
        raise InputError(
            f"{data / others[0]}: has red, green and blue alone, {first} {len(one.names)} bands; "
            "all patches of a set have the same, so keep these apart or cut all with one --bands"
        )
    if not any(of.own for of in facts.values()):
        return made_of(facts, numbers)
    if numbers:
        ours = next(name for name, of in facts.items() if of.own)
        raise InputError(
            f"--bands {','.join(map(str, numbers))}: patchify has chosen the bands of {ours}"
        )
    require_alike(facts)
    if other := next((name for name, of in facts.items() if of.own != one.own), None):
        raise InputError(
            f"{data / first} and {other} were cut with other bands or scales: cut all photographs "
            "together with salakseg patchify"
        )
    return BandSet.from_plain(json.loads(one.own))


def measured(workers: Workers, data: Path, images: Sequence[str], band_set: BandSet) -> BandSet:
    """With mean and deviation of each band over a sample of these patches."""
    some = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).round().astype(int))
    job = partial(_sums, os.fspath(data), band_set)
    found = workers.map(job, [images[i] for i in some], FILES_A_CHUNK, "Measuring bands")
    count, total, squares = np.sum(found or [np.zeros((3, len(band_set)))], axis=0)
    mean = total / np.maximum(count, 1)
    std = np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, LEAST_STD**2))
    return replace(band_set, mean=tuple(mean.round(6).tolist()), std=tuple(std.round(6).tolist()))


def _sums(root: str, band_set: BandSet, images: Sequence[str]) -> list[NDArray[np.float64]]:
    """Of each image float64 (3, bands): pixels that are there, their sum and sum of squares."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_sums_of(Path(root, name), band_set) for name in images]


def _sums_of(image: Path, band_set: BandSet) -> NDArray[np.float64]:
    from salakseg.imagery.raster import open_image  # slow to import

    with open_image(image, band_set=band_set) as source:
        pixels, valid = source.read(0, 0, source.height, source.width)
    values = pixels[valid] / 255
    count = np.full(len(band_set), float(len(values)))
    return np.stack([count, values.sum(0), (values**2).sum(0)])
