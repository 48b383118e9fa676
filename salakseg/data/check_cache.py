"""What earlier runs of `index` found in files that have not changed since: index/checked.json.gz.

A file counts as unchanged while its size and time of change are those it had when it was opened.
The cache holds for one DATA, one class mapping (masks) and one version of the code that checks;
another one, or a damaged file (gzip has a CRC), is as good as none.
"""

import gzip
import hashlib
import importlib.metadata
import json
import os
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salakseg.classes import ClassMapping
from salakseg.data.image_checks import (
    ImageCheck,
    ImageItem,
    check_images,
    footprints,
    hash_files,
    told_of,
)
from salakseg.data.mask_checks import (
    GuessCheck,
    MaskCheck,
    MaskItem,
    check_masks,
    compare_guesses,
    counted,
)
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from salakseg.files import atomic_path

if TYPE_CHECKING:
    from salakseg.imagery.alignment import Footprint

# Two changes within the clock of the file system (2 s on FAT) leave the same time.
TOO_NEW = 2_000_000_000  # nanoseconds
CODE = (
    *("masks.py", "grey_masks.py", "classes.py", "files.py", "band_set.py"),
    *("data/image_checks.py", "data/mask_checks.py"),
)
FASTEST = 1  # gzip's level


class CheckCache:
    """Checks files, or says what was found when they were last opened.

    Args:
        path: the cache file; need not exist.
        data: the folder that all names are relative to.
        mapping: the classes of the masks.
        use: False opens every file again.
    """

    def __init__(self, path: Path, data: Path, mapping: ClassMapping, use: bool = True) -> None:
        self._path, self._data, self._mapping = path, data, mapping
        self._header = {
            "data": data.absolute().as_posix(),
            "code": _version_of_the_checks(),
            "classes": mapping.as_plain(),
        }
        known = _read(path) if use else {}
        if any(known.get(name) != self._header[name] for name in ("data", "code")):
            known = {}
        if known.get("classes") != self._header["classes"]:
            known |= {"masks": {}, "guesses": {}}
        # Name → [time of change, size and what else the result depends on], result.
        kinds = ("images", "footprints", "masks", "guesses", "hashes")
        self._known: dict[str, dict[str, Any]] = {kind: known.get(kind, {}) for kind in kinds}
        self._news = False
        self._masks_before: dict[str, Any] = {}

    def images(
        self,
        workers: Workers,
        names: Sequence[str],
        beside: Sequence[bool],
        bands: Sequence[int] = (),
    ) -> list[ImageCheck]:
        """As `image_checks.check_images`; `beside`: whether files beside an image may tell
        more of it."""
        items: list[ImageItem] = [
            (name, told_of(self._data / name) if more else 0, *bands)
            for name, more in zip(names, beside, strict=True)
        ]
        found = self._look_up(
            "images", names, items, lambda unknown: check_images(workers, self._data, unknown)
        )
        return [ImageCheck(*check) for check in found]

    def footprints(self, workers: Workers, names: Sequence[str]) -> "list[Footprint]":
        """As `image_checks.footprints`."""
        from salakseg.imagery.alignment import Footprint  # slow to import, and seldom needed

        found = self._look_up(
            "footprints", names, names, lambda unknown: footprints(workers, self._data, unknown)
        )
        return [Footprint(*check) for check in found]

    def masks(self, workers: Workers, masks: Sequence[MaskItem]) -> list[MaskCheck]:
        """As `mask_checks.check_masks`."""
        self._masks_before = self._known["masks"].copy()
        names = [name for name, *_ in masks]
        found = self._look_up(
            "masks",
            names,
            masks,
            lambda unknown: check_masks(workers, self._data, unknown, self._mapping),
        )
        return [MaskCheck(*check) for check in found]

    def changes(
        self, names: Sequence[str], checks: Sequence[MaskCheck], mapping: ClassMapping
    ) -> tuple[int, int]:
        """How many masks were changed since they were last read and hold other classes than then,
        and by how many pixels at least: a pixel less of one class and one more of another is one.

        Args:
            checks: what `masks` gave, counted.
            mapping: with what the numbers of masks stand for.
        """
        masks = corrected = 0
        for name, new in zip(names, checks, strict=True):
            if name not in self._masks_before or new.error:
                continue
            try:
                old = counted(MaskCheck(*self._masks_before[name][1]), mapping)
            except InputError:  # numbers that mean nothing by themselves any more
                continue
            counts = ((old.ignored, *old.pixels), (new.ignored, *new.pixels))
            differences = [abs(a - b) for a, b in zip(*counts, strict=True)]
            masks += any(differences)
            corrected += sum(differences) // 2
        return masks, corrected

    def guesses(
        self, workers: Workers, pairs: Sequence[tuple[str, str]], mapping: ClassMapping
    ) -> list[GuessCheck]:
        """As `mask_checks.compare_guesses`, of masks that `masks` was asked for before."""
        # None, where the mask changed a moment ago, is no state to go by.
        states = [self._known["masks"].get(mask, [None])[0] for _, mask in pairs]
        values = repr(mapping.values)
        found = self._look_up(
            "guesses",
            [guess for guess, _ in pairs],
            [(*pair, values, state) for pair, state in zip(pairs, states, strict=True)],
            lambda unknown: compare_guesses(
                workers, self._data, [(guess, mask) for guess, mask, *_ in unknown], mapping
            ),
        )
        return [GuessCheck(*check) for check in found]

    def hashes(self, workers: Workers, names: Sequence[str]) -> list[str]:
        """As `image_checks.hash_files`."""
        return self._look_up(
            "hashes", names, names, lambda unknown: hash_files(workers, self._data, unknown)
        )

    def save(self, listed: set[str]) -> None:
        """Write the cache file, if there is anything new, without files that are not `listed`."""
        kept = {
            kind: {name: entry for name, entry in known.items() if name in listed}
            for kind, known in self._known.items()
        }
        if self._news or kept != self._known:
            with (
                atomic_path(self._path) as temporary,
                open(temporary, "wb") as file,
                gzip.GzipFile("", "wb", FASTEST, file, mtime=0) as packed,
            ):
                packed.write(json.dumps(self._header | kept, ensure_ascii=False).encode())

    def _look_up(
        self,
        kind: str,
        names: Sequence[str],
        items: Sequence[Any],
        check: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """The result of each of `items`; `check` is given those that are not known."""
        known, root = self._known[kind], os.fspath(self._data)
        results: list[Any] = [None] * len(names)
        unknown: list[tuple[int, list[int]]] = []
        for place, (name, item) in enumerate(zip(names, items, strict=True)):
            try:
                file = os.stat(f"{root}/{name}")  # noqa: PTH116
                state = [file.st_mtime_ns, file.st_size]
            except OSError:
                state = []
            # What is told beside the image; the size of the image; the mask and its state.
            if state and kind in ("images", "masks", "guesses"):
                state += item[1:]
            entry = known.get(name)
            if entry is not None and entry[0] == state:
                results[place] = entry[1]
                continue
            if state and (abs(time.time_ns() - state[0]) < TOO_NEW or state[-1] is None):
                state = []
            unknown.append((place, state))
        checked = check([items[place] for place, _ in unknown])
        for (place, state), result in zip(unknown, checked, strict=True):
            results[place] = result
            self._news |= known.pop(names[place], None) is not None
            # An error may lie outside the file: rights, a network drive.
            if state and not getattr(result, "error", ""):
                known[names[place]] = (state, result)
                self._news = True
        return results


def _read(path: Path) -> dict[str, Any]:
    try:
        with gzip.open(path, "rb") as file:
            content = json.load(file)
    except (OSError, EOFError, ValueError, zlib.error):
        return {}
    return content if isinstance(content, dict) else {}


def _version_of_the_checks() -> str:
    """Changes with every change to the code that decides what is found."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("pillow", "rasterio")]
    version = hashlib.sha256(" ".join(versions).encode())
    root = Path(__file__).parents[1]
    code = (root / name for name in CODE)
    for path in (*code, *sorted(root.glob("imagery/*.py"))):
        version.update(path.read_bytes())
    return version.hexdigest()
