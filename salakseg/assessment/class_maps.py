"""The maps that are assessed, as one population: found, opened, measured class by class.

They are the class rasters of `predict`, `NAME_classes.tif` or `.png`, or any raster of class
indices that has the classes' names in tags `CLASS_0`, `CLASS_1`, …
"""

import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.console import console, progress
from salakseg.errors import InputError
from salakseg.imagery.place import place_of
from salakseg.imagery.raster import PHOTO_SUFFIXES, ImageSource, Pixels, quiet_gdal
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.imagery.remote import ImagePath, local, remote_images
from salakseg.mapping.areas import Ground, ReadLabels, count_labels, ground_of
from salakseg.mapping.outputs import classes_of

ENDING = "_classes"
SUFFIXES = (".tif", ".png")
# Maps whose rectangles share more than this part of the smaller one are said to overlap.
OVERLAP = 0.01


@dataclass(frozen=True)
class ClassMap:
    """A class raster.

    Attributes:
        path: the file.
        name: of the image that it is of.
        mapping: its classes.
        source: its size and place; it reads no pixels.
        tags: those of the file.
    """

    path: Path
    name: str
    mapping: ClassMapping
    source: ImageSource
    tags: dict[str, str]

    @property
    def image(self) -> ImagePath | None:
        """The image that it is of, by its tags; whether it is still there is another matter."""
        if "IMAGE" not in self.tags:
            return None
        remote = remote_images(self.tags["IMAGE"])
        return remote[0] if remote else self.path.parent / self.tags["IMAGE"]

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` made it with."""
        try:
            found = json.loads(self.tags.get("OPTIONS", "{}"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @contextmanager
    def labels(self) -> Iterator[ReadLabels]:
        """Open it: (row, column, height, width) → uint8 labels, 255 for all that is no class."""
        with quiet_gdal(), open_raster(self.path) as raster:

            def read(row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
                try:
                    labels = raster.read(1, window=Window(column, row, width, height))
                except GDAL_ERRORS as error:
                    raise InputError(f"{self.path}: the map cannot be read ({error})") from error
                labels[labels >= self.mapping.num_classes] = IGNORE_INDEX
                return labels

            yield read

    def places(
        self, rows: NDArray[np.floating | np.integer], columns: NDArray[np.floating | np.integer]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of places in pixels; as QGIS shows it, upwards from 0, where it has no place."""
        at = self.source.transform or Affine.scale(1, -1)
        return (
            at.a * columns + at.b * rows + at.c,
            at.d * columns + at.e * rows + at.f,
        )

    def ground(self, gsd: float | None) -> Ground:
        """How large its pixels are: as `predict` knew it, or by `gsd`."""
        if gsd is None:
            gsd = self.options.get("gsd")
        ground = ground_of(self.source, gsd, is_photo=False)
        image = self.image
        if ground.areas is None and image is not None and image.suffix.lower() in PHOTO_SUFFIXES:
            size = self.source.height, self.source.width
            place = self.source.crs, self.source.transform
            if image.exists():
                with local(image) as copy:
                    photo = ImageSource(copy, *size, *place, _no_pixels)
                    ground = ground_of(photo, gsd, is_photo=True)
        return ground


@dataclass(frozen=True)
class Measured:
    """A map's classes: pixels int64 (K,), m² float64 (K,) or None where not known; how that is
    known; SHA-256 of its labels, row by row."""

    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    basis: str
    sha256: str


@dataclass(frozen=True)
class Population:
    """The maps, how large their pixels are, and what each holds."""

    maps: list[ClassMap]
    grounds: list[Ground]
    measured: list[Measured]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """int64 (K,)."""
        total: NDArray[np.int64] = np.sum([one.pixels for one in self.measured], axis=0)
        return total

    @property
    def square_metres(self) -> NDArray[np.float64] | None:
        """float64 (K,), or None where not known."""
        known = [one.square_metres for one in self.measured if one.square_metres is not None]
        return np.sum(known, axis=0) if known else None

    @property
    def weights(self) -> NDArray[np.float64]:
        """float64 (K,): the classes' shares of the ground, 1 together."""
        amounts = self.pixels if self.square_metres is None else self.square_metres
        return amounts / amounts.sum()


def find_class_maps(given: Sequence[Path]) -> list[ClassMap]:
    """The class maps that are meant, each once, of the same classes and in one CRS.

    A file stands for itself, a folder for all `*_classes.tif` and `*_classes.png` in and below it,
    anything else is a pattern.

    Raises:
        InputError: nothing there, no class map, or maps that are no one population.
    """
    paths: dict[Path, None] = {}
    for one in given:
        if one.is_dir():
            found = [path for path in sorted(one.rglob(f"*{ENDING}.*")) if _is_named(path)]
            missing = f"holds no map ({', '.join(f'*{ENDING}{end}' for end in SUFFIXES)})"
        elif one.exists():
            found, missing = [one], ""
        else:
            named = sorted(map(Path, glob.glob(str(one))))  # noqa: PTH207
            found = [path for path in named if _is_named(path)]
            missing = "fits no map" if glob.has_magic(str(one)) else "no such map"
        if not found:
            raise InputError(f"{one}: {missing}; salakseg predict makes maps")
        paths |= dict.fromkeys(found)
    maps = [_read(path) for path in paths]
    if not maps:
        raise InputError("no maps given: name those that salakseg predict made, or their folder")
    _require_one_population(maps)
    return maps


def _is_named(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.stem.endswith(ENDING)


def _read(path: Path) -> ClassMap:
    try:
        with quiet_gdal(), open_raster(path) as raster:
            tags, dtype, place = dict(raster.tags()), raster.dtypes[0], place_of(raster)
            size = raster.height, raster.width
            mapping = classes_of(raster)
    except GDAL_ERRORS as error:
        raise InputError(f"{path}: the map cannot be read ({error})") from error
    if mapping.num_classes < 2 or dtype != "uint8" or path.stem.endswith("_errors"):
        raise InputError(
            f"{path}: is no class map of salakseg predict, NAME{ENDING}.tif: it holds no names of "
            "classes"
        )
    source = ImageSource(path, *size, place.crs, place.transform, _no_pixels)
    return ClassMap(path, path.stem.removesuffix(ENDING), mapping, source, tags)


def _no_pixels(*_: int) -> Pixels:
    raise NotImplementedError


def _require_one_population(maps: list[ClassMap]) -> None:
    first = maps[0]
    for other in maps[1:]:
        if other.mapping.names != first.mapping.names:
            raise InputError(
                f"{first.path} and {other.path}: have different classes; assess them apart"
            )
        if other.source.crs != first.source.crs:
            raise InputError(
                f"{first.path} and {other.path}: are in different coordinate systems; assess them "
                "apart, or bring them to one with gdalwarp"
            )
    for number, one in enumerate(maps):
        for other in maps[number + 1 :]:
            if one.source.crs is not None and _shared(one, other) > OVERLAP:
                console.print(
                    f"{one.path} and {other.path} overlap: ground that both show counts twice"
                )


def _shared(one: ClassMap, other: ClassMap) -> float:
    """What the rectangles have in common, as a share of the smaller one."""
    boxes = []
    for each in (one, other):
        columns = np.array([0, each.source.width, 0, each.source.width])
        x, y = each.places(np.array([0, 0, each.source.height, each.source.height]), columns)
        boxes.append((x.min(), y.min(), x.max(), y.max()))
    (a, b, c, d), (e, f, g, h) = boxes
    width, height = min(c, g) - max(a, e), min(d, h) - max(b, f)
    if width <= 0 or height <= 0:
        return 0
    return float(width * height) / min((c - a) * (d - b), (g - e) * (h - f))


def measured(maps: list[ClassMap], gsd: float | None) -> Population:
    """Read the maps once.

    Raises:
        InputError: nothing in them, or the pixels' size is known of some only.
    """
    grounds = [one.ground(gsd) for one in maps]
    known = [ground.areas is not None for ground in grounds]
    if any(known) and not all(known):
        first = maps[known.index(False)]
        raise InputError(
            f"{first.path}: how large its pixels are is not known, of other maps it is; assess "
            "them apart, or say --gsd"
        )
    found = []
    with progress("Measuring the maps", len(maps)) as bar:
        for one, ground in zip(maps, grounds, strict=True):
            found.append(_measure(one, ground))
            bar.advance()
    population = Population(maps, grounds, found)
    if not population.pixels.any():
        raise InputError(f"{maps[0].path}: nothing is mapped in it")
    return population


def _measure(one: ClassMap, ground: Ground) -> Measured:
    digest = sha256()
    with one.labels() as read:

        def watched(*window: int) -> NDArray[np.uint8]:
            labels = read(*window)
            digest.update(labels.tobytes())
            return labels

        window = 0, 0, one.source.height, one.source.width
        pixels, metres = count_labels(watched, window, ground)
    classes = one.mapping.num_classes
    return Measured(
        pixels[:classes],
        None if metres is None else metres[:classes],
        ground.basis,
        digest.hexdigest(),
    )
