"""File names → which photograph a patch was cut from, and where in it.

`BASE_patch_ROW_COLUMN` is this program's way to name patches; others are understood where they
leave no doubt: `BASE_x256_y0`, `BASE_r1_c0` (`row`, `col`), and `BASE_0_256` where the numbers are
steps of one length from 0. Which of the two bare numbers goes down and which across, no name tells.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from math import gcd
from typing import NamedTuple

PATCH_NAME = re.compile(r"(.+)_patch_(\d{1,9})_(\d{1,9})", re.DOTALL)
X_Y = re.compile(r"(.+?)[_-]x[_-]?(\d{1,9})[_-]?y[_-]?(\d{1,9})", re.DOTALL | re.IGNORECASE)
Y_X = re.compile(r"(.+?)[_-]y[_-]?(\d{1,9})[_-]?x[_-]?(\d{1,9})", re.DOTALL | re.IGNORECASE)
ROW_COLUMN = re.compile(
    r"(.+?)[_-]r(?:ow)?[_-]?(\d{1,9})[_-]?c(?:ol(?:umn)?)?[_-]?(\d{1,9})", re.DOTALL | re.IGNORECASE
)
TWO_NUMBERS = re.compile(r"(.+)[_-](\d{1,9})[_-](\d{1,9})", re.DOTALL)
# Numbers with no smaller step than this are pixels, not rows, columns, dates or frames.
LEAST_STEP = 16


class PatchName(NamedTuple):
    """What a name says; None where it does not."""

    base_image: str
    row: int | None = None
    column: int | None = None
    x: int | None = None
    y: int | None = None


def composed(name: str) -> str:
    """A name in composed Unicode (NFC): macOS and some archives write é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def understood(stems: Iterable[str]) -> dict[str, PatchName]:
    """The names (without extension, all of one folder) that say what they are patches of."""
    found: dict[str, PatchName] = {}
    across: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    bare: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for stem in stems:
        if match := PATCH_NAME.fullmatch(stem) or ROW_COLUMN.fullmatch(stem):
            found[stem] = PatchName(match[1], int(match[2]), int(match[3]))
        elif match := X_Y.fullmatch(stem):
            across[match[1]][stem] = int(match[2]), int(match[3])
        elif match := Y_X.fullmatch(stem):
            across[match[1]][stem] = int(match[3]), int(match[2])
        elif match := TWO_NUMBERS.fullmatch(stem):
            bare[match[1]][stem] = int(match[2]), int(match[3])
    for base, places in across.items():
        pixels = _step(places) >= LEAST_STEP
        for stem, (x, y) in places.items():
            found[stem] = PatchName(base, x=x, y=y) if pixels else PatchName(base, y, x)
    for base, places in bare.items():
        from_0 = all(0 in numbers for numbers in zip(*places.values(), strict=True))
        if from_0 and len(set(places.values())) > 1 and _step(places) >= LEAST_STEP:
            found |= dict.fromkeys(places, PatchName(base))
    return found


def _step(places: dict[str, tuple[int, int]]) -> int:
    return gcd(*(number for pair in places.values() for number in pair))
