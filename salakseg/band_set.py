"""The bands of a set of patches and of a model: their names, and which values become 0 and 255.

Everywhere in the program a picture is 8-bit red, green and blue, and its `BandSet` is None; or it
has more bands, and a `BandSet` says of each what it is and how its values became 8 bits: linearly,
from `low` (0) to `high` (255), by the same two numbers in training and in every map. Values are
those that a file means: stored ones times its scale plus its offset, where it has these.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.errors import InputError

ALPHA = "alpha"
COLOURS = ("red", "green", "blue")
# Programs' words for one band; the values are GDAL's.
WORDS = {
    "red": ("r",),
    "green": ("g",),
    "blue": ("b",),
    "rededge": ("re", "edge"),
    "nir": ("n", "nearinfrared", "nearir", "infrared"),
    "lwir": ("thermal", "thermalinfrared", "longwaveinfrared"),
    "pan": ("panchromatic", "panchro"),
}
NAMES = {word: name for name, words in WORDS.items() for word in (name, *words)}
# What says nothing of a band.
EMPTY = ("", "gray", "grey", "undefined", "layer", "palette", "unknown")
WAVELENGTH = re.compile(r"\(?\d+(\.\d+)?\s*nm\)?")
NUMBERED = re.compile(r"^(band|layer|channel)?\s*\d*\s*[:)(]*\s*")


@dataclass(frozen=True)
class Band:
    """One band: its name; its number, from 1, in the images of the set; what becomes 0 and 255."""

    name: str
    number: int
    low: float
    high: float


@dataclass(frozen=True)
class BandSet:
    """The bands of a set, in order.

    Attributes:
        bands: two or more.
        count: how many the images of the set have, alpha aside.
        mean, std: of each band over the training patches, of values from 0 to 1; () before they are
            measured. They are no part of what the bands are.
    """

    bands: tuple[Band, ...]
    count: int
    mean: tuple[float, ...] = field(default=(), compare=False, repr=False)
    std: tuple[float, ...] = field(default=(), compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.bands)

    @property
    def names(self) -> list[str]:
        """One each."""
        return [band.name for band in self.bands]

    @property
    def mark(self) -> int:
        """Another number for another set."""
        parts = [(b.name, b.number, float(b.low), float(b.high)) for b in self.bands]
        return zlib.crc32(repr((parts, self.count)).encode())

    @property
    def colours(self) -> tuple[int, int, int] | None:
        """Where red, green and blue are among the bands, from 0; None where one is not."""
        found = [self.names.index(name) for name in COLOURS if name in self.names]
        return (found[0], found[1], found[2]) if len(found) == 3 else None

    @property
    def shown(self) -> list[int]:
        """The three bands that a person sees, from 0: red, green, blue, or the first."""
        return list(self.colours or (0, 1, 2))

    def picture(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (h, w, bands) → what people see, uint8 (h, w, 3)."""
        return np.ascontiguousarray(pixels[..., self.shown])

    def quantised(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """float32 (bands, h, w) → uint8 (h, w, bands); what is no number becomes 0."""
        low, range_ = (
            np.array(side, np.float32)[:, None, None]
            for side in zip(*((b.low, b.high - b.low) for b in self.bands), strict=True)
        )
        with np.errstate(over="ignore"):  # of values far beyond any range, as 1e38
            scaled = (values - low) * (np.float32(255) / range_)
        np.nan_to_num(scaled, copy=False, nan=0)
        np.clip(scaled, 0, 255, out=scaled)
        return np.ascontiguousarray(np.moveaxis((scaled + np.float32(0.5)).astype(np.uint8), 0, 2))

    def numbers_in(
        self, names: Sequence[str], given: tuple[int, ...] | None
    ) -> tuple[tuple[int, ...], str]:
        """The numbers of these bands in an image, and what to tell of the choice, or "".

        Args:
            names: of the image's bands, "" where one has none; `ALPHA` is no band.
            given: what the user says that they are.

        Raises:
            InputError: it cannot be told (names no file).
        """
        if given is not None:
            if len(given) != len(self):
                raise InputError(
                    f"--bands {_listed(given)}: must be {len(self)} band numbers, for "
                    + ", ".join(self.names)
                )
            return given, ""
        found, how = dict[str, int](), "by their names"
        bands = [name for name in names if name != ALPHA]
        for band in self.bands:
            if band.name in names:
                found[band.name] = names.index(band.name) + 1
            # Without names, images of as many bands are taken to be made as those of training.
            elif len(bands) == self.count and not (any(bands) and _is_known(band.name)):
                found[band.name], how = band.number, "by their numbers, as in training"
        numbers = tuple(found.get(name, 0) for name in self.names)
        if 0 in numbers or len(set(numbers)) < len(numbers):
            lacking = [
                n for n in self.names if numbers.count(found.get(n, 0)) > 1 or n not in found
            ]
            there = ", ".join(n or f"band {i}" for i, n in enumerate(names, 1) if n != ALPHA)
            raise InputError(
                f"does not say which of its bands is {', '.join(lacking)} (it has {there}; in "
                f"training there were {self.count}); --bands takes the numbers of "
                + ", ".join(self.names)
            )
        if how == "by their names" and numbers == tuple(band.number for band in self.bands):
            return numbers, ""
        return numbers, f"its bands {_listed(numbers)} are taken for {', '.join(self.names)}, {how}"

    def as_plain(self) -> dict[str, Any]:
        """Plain values, for files."""
        plain = {"bands": [asdict(band) for band in self.bands], "count": self.count}
        return plain | ({"mean": list(self.mean), "std": list(self.std)} if self.mean else {})

    @classmethod
    def from_plain(cls, plain: Any) -> "BandSet":
        """The way back.

        Raises:
            KeyError, TypeError, ValueError: not what `as_plain` gave.
        """
        bands = tuple(
            Band(str(b["name"]), int(b["number"]), float(b["low"]), float(b["high"]))
            for b in plain["bands"]
        )
        if not bands or any(not band.high > band.low for band in bands):
            raise ValueError("no bands")
        measured = (tuple(map(float, plain.get(name, ()))) for name in ("mean", "std"))
        return cls(bands, int(plain["count"]), *measured)

    def described(self) -> str:
        """In words, for people."""
        return ", ".join(f"{b.name} {b.low:g} to {b.high:g}" for b in self.bands)


def band_names(texts: Sequence[str]) -> list[str]:
    """What programs wrote of an image's bands → a name each, "" where nothing names one.

    `Band 5: NIR 840 nm`, `Near_Infrared` and `nir` are one name. Of two that would be called alike,
    as two blues of a camera, each keeps all that was written.
    """
    whole = [" ".join(re.sub(r"[_\-]+", " ", text.lower()).split()) for text in texts]
    names = []
    for text in whole:
        bare = WAVELENGTH.sub("", NUMBERED.sub("", text)).strip(" :()")
        bare = NAMES.get(re.sub(r"[^a-z]", "", bare), bare)
        names.append("" if bare in EMPTY else bare)
    named = [
        text if name and names.count(name) > 1 else name
        for name, text in zip(names, whole, strict=True)
    ]
    return [name if named.count(name) == 1 else "" for name in named]


def _is_known(name: str) -> bool:
    return not re.fullmatch(r"band \d+", name)


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
