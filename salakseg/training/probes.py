"""Which labelled patches G is not trained on, to measure who can judge images."""

from typing import Any

import numpy as np

from salakseg.data.random_numbers import draw_bits
from salakseg.data.shards import Shards

Rows = np.ndarray[Any, np.dtype[np.int64]]

# Of the labelled patches this share is kept from G; too few (below 8) measure nothing, more than 64
# are not needed.
PROBE_SHARE, FEWEST_PROBES, MOST_PROBES = 0.05, 8, 64
# Where that share is so many photographs, they are kept whole, and these are enough.
FEWEST_PHOTOS, ENOUGH_PHOTOS = 2, 4


def probe_rows(shards: Shards, seed: int) -> tuple[Rows, Rows]:
    """Labelled patches that G is not trained on, and those of them that measure who can judge
    images: of photographs that G does not see at all, where there are enough of them."""
    samples = shards.split("train")
    most = int(len(samples) * PROBE_SHARE)
    wanted = min(MOST_PROBES, most)
    if wanted < FEWEST_PROBES:
        return np.array([], np.int64), np.array([], np.int64)
    order = np.argsort(draw_bits(seed, "probe", 0, len(samples)), kind="stable")
    photos = np.asarray(samples.groupby(["folder", "base_image"]).ngroup(), np.int64)
    kept = _photos_to_keep(photos, shards.class_pixels(samples), most, wanted, seed)
    if not kept:
        rows = np.sort(order[:wanted])
        return rows, rows
    inside = np.isin(photos, kept)
    return np.flatnonzero(inside), np.sort(order[inside[order]][:wanted])


def _photos_to_keep(
    photos: Rows, class_pixels: Rows, most: int, wanted: int, seed: int
) -> list[int]:
    """Photographs to keep from G, of `most` patches together; [] where there are too few.

    None without which G would see less than half of a class.
    """
    patches = np.bincount(photos)
    pixels = np.zeros((len(patches), class_pixels.shape[1]), np.int64)
    np.add.at(pixels, photos, class_pixels)
    left, total = pixels.sum(0), 0
    enough = left / 2
    kept: list[int] = []
    for photo in np.argsort(draw_bits(seed, "probe photographs", 0, len(patches)), kind="stable"):
        if total + patches[photo] > most or (left - pixels[photo] < enough).any():
            continue
        kept.append(int(photo))
        total, left = total + patches[photo], left - pixels[photo]
        if len(kept) >= ENOUGH_PHOTOS and total >= wanted:
            break
    return kept if len(kept) >= FEWEST_PHOTOS and total >= FEWEST_PROBES else []
