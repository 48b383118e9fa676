"""What the user named → the images to map: files, or patches put together to their base images."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np

from salakseg.console import console
from salakseg.data.folders import find_folders
from salakseg.data.image_doctor import LARGEST_PATCH
from salakseg.data.layout import LAYOUT, georeference, read_layout
from salakseg.data.patch_names import PATCH_NAME, PatchName, understood
from salakseg.data.problems import SHOWN
from salakseg.errors import InputError
from salakseg.imagery.nodata import SMEARED
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.place import place_of
from salakseg.imagery.raster import (
    PHOTO_SUFFIXES,
    ImageSource,
    Pixels,
    has_place,
    image_size,
    open_image,
    quiet_gdal,
)
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.imagery.windows import paste
from salakseg.mapping.outputs import is_map

RASTER_SUFFIXES = (*IMAGE_SUFFIXES, ".vrt")
PLACE_COLUMNS = ("base_image", "x", "y", "width", "height", "image_width", "image_height")
# Pixels of decoded patches that are kept while a base image is read: a hundred megabytes.
CACHED_PIXELS = 512 * 256**2
# Patches that tell what holds for all of an image.
SAMPLED_PATCHES = 16
# Patches that have a place of their own fit on one grid of pixels if they are no further off.
GRID_TOLERANCE = 0.1
# Patches of an image begin nearer to its corner, in pixels. Larger numbers are coordinates: names
# tell neither their unit nor which way is up.
COORDINATES = 100_000
FLAT_BORDER_SHARE = 0.25
BORDER_SAMPLES = 64


@dataclass(frozen=True)
class Patch:
    """A patch: its file, and its place and size in the base image, in pixels."""

    path: Path
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Input:
    """An image to map.

    Attributes:
        path: the file; for patches a path that no file has, `FOLDER/images/BASE`.
        name: of its maps, relative to the folder for maps, before `_classes.tif`.
        patches: the patches that it is put together from, none for a file.
        layout: the first row of these patches in `layout.csv`, where there is one, or what such a
            row would say of patches that have a place of their own.
    """

    path: Path
    name: str
    patches: tuple[Patch, ...] = ()
    layout: dict[str, str] | None = None

    @cached_property
    def is_photo(self) -> bool:
        """Whether it is a PNG or JPEG file without a place, whose map is a PNG."""
        in_a_file = not self.patches and self.path.suffix.lower() in PHOTO_SUFFIXES
        return in_a_file and not has_place(self.path)

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes and times, and of the patches' places."""
        digest = sha256()
        files = [Patch(self.path, 0, 0, 0, 0), *(Patch(path, 0, 0, 0, 0) for path in self._parts())]
        for patch in self.patches or files:
            status = patch.path.stat()
            name = str(patch.path.absolute())
            what = [name, status.st_size, status.st_mtime_ns, patch.x, patch.y]
            digest.update(repr(what).encode())
        return digest.hexdigest()

    def _parts(self) -> list[Path]:
        """The files that a VRT is made of, so far as they are there."""
        if self.path.suffix.lower() != ".vrt":
            return []
        with quiet_gdal():
            try:
                with open_raster(self.path) as raster:
                    parts = map(Path, raster.files)
            except GDAL_ERRORS:
                return []
        # Not what viewers write beside it: statistics, overviews.
        return [
            part
            for part in parts
            if part != self.path and part.suffix not in (".xml", ".ovr") and part.exists()
        ]


def find_inputs(arguments: Sequence[Path]) -> list[Input]:
    """The images that are meant, each once.

    A file stands for itself, whatever its name. A folder stands for the images in it, or where it
    has none itself for those in every `images/` below it. Anything else is a pattern (`*`, `?`,
    `[…]`) for image files, since not every shell expands them. In a folder where all images are
    patches (`BASE_patch_ROW_COLUMN`, or `layout.csv` beside `images/`) each base image is one.
    Maps that `predict` made are no images, and are named.

    Raises:
        InputError: an argument stands for no image, or a damaged `layout.csv`.
    """
    maps: list[Path] = []
    found: dict[tuple[Path, str], Input] = {}
    for argument in arguments:
        if argument.is_dir():
            inside = _in_folder(argument, maps)
            missing = "no images in this folder or in images/ below it"
        elif argument.exists():
            inside = [Input(path, path.stem) for path in _no_maps([argument], maps)]
            missing = ""
        else:
            matches = glob.glob(str(argument))  # noqa: PTH207 (Path.glob takes no absolute ones)
            images = sorted(path for path in map(Path, matches) if _is_image(path.name))
            images = _no_maps([path for path in images if path.is_file()], maps)
            inside = [Input(path, path.stem) for path in images]
            missing = "no such file" if not glob.has_magic(str(argument)) else "fits no image"
        if not inside and argument not in maps:
            raise InputError(f"{argument}: {missing}; images are {', '.join(RASTER_SUFFIXES)}")
        for image in inside:
            found.setdefault((image.path, image.name), image)
    if not found:
        raise InputError(
            f"{maps[0]}: a map that predict made, and no image"
            if maps
            else "no images given: name files, folders or patterns such as photos/*.jpg"
        )
    if maps:
        names = ", ".join(dict.fromkeys(path.name for path in maps[:SHOWN]))
        console.print(
            f"Maps that predict made are no images, and left out: {names}"
            + (f" and {len(maps) - SHOWN} more" if len(maps) > SHOWN else "")
        )
    return list(found.values())


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(RASTER_SUFFIXES)


def _no_maps(paths: list[Path], maps: list[Path]) -> list[Path]:
    """Those that `predict` did not make; the others go to `maps`."""
    images: list[Path] = []
    for path in paths:
        (maps if not PATCH_NAME.fullmatch(path.stem) and is_map(path) else images).append(path)
    return images


def _in_folder(folder: Path, maps: list[Path]) -> list[Input]:
    direct = sorted(path for path in folder.iterdir() if _is_image(path.name) and path.is_file())
    if direct:
        return _images_or_patches(folder, _no_maps(direct, maps), "")
    found = []
    for below in find_folders(folder):
        here = folder / below.name / below.images
        names = sorted(filter(_is_image, below.image_files))
        prefix = "" if below.name == "." else f"{below.name}/"
        found += _images_or_patches(here, _no_maps([here / name for name in names], maps), prefix)
    return found


def _images_or_patches(folder: Path, paths: list[Path], prefix: str) -> list[Input]:
    file = folder.parent / LAYOUT
    layout: dict[str, dict[str, str]] = {}
    if folder.name.lower() == "images" and file.exists():
        layout = read_layout(file, PLACE_COLUMNS)
    names = understood(path.stem for path in paths)
    single = [Input(path, prefix + path.stem) for path in paths]
    if not all(path.stem in layout or path.stem in names for path in paths):
        return single
    placed: dict[str, list[Patch]] = {}
    named: dict[str, list[Path]] = {}
    first: dict[str, dict[str, str]] = {}
    for path in paths:
        row = layout.get(path.stem)
        if row is not None:
            where = (int(row[name]) for name in ("x", "y", "width", "height"))
            placed.setdefault(row["base_image"], []).append(Patch(path, *where))
            first.setdefault(row["base_image"], row)
        else:
            named.setdefault(names[path.stem].base_image, []).append(path)
    for base, patches in named.items():
        name = names[patches[0].stem]
        own = _on_one_grid(patches) if base not in placed else None
        height, width = image_size(patches[0])
        if PATCH_NAME.fullmatch(patches[0].stem) is None:
            # Rows and columns may be those of a field trial, and tiles be too large for patches.
            if (own is None and name.x is None) or max(height, width) > LARGEST_PATCH:
                return single
            if own is None and _by_coordinates([names[path.stem] for path in patches]):
                console.print(
                    f"{folder}: the numbers in names such as {patches[0].name} are coordinates, "
                    "not pixels; its images are mapped one by one"
                )
                return single
            console.print(f"{folder}: by their names, {len(patches)} images are patches of {base}")
        if own is not None:
            placed[base], first[base] = own
        else:
            placed.setdefault(base, []).extend(
                _by_name(path, names[path.stem], height, width) for path in patches
            )
    return [
        Input(folder / base, prefix + base, tuple(patches), first.get(base))
        for base, patches in placed.items()
    ]


def _by_coordinates(names: Sequence[PatchName]) -> bool:
    """Whether x and y cannot be pixels."""
    return max(min(name.x or 0 for name in names), min(name.y or 0 for name in names)) > COORDINATES


def _by_name(path: Path, name: PatchName, height: int, width: int) -> Patch:
    """A patch where its name puts it: by pixels, or by rows and columns of patches of that size."""
    if name.x is not None and name.y is not None:
        height, width = image_size(path)
        return Patch(path, name.x, name.y, width, height)
    return Patch(path, (name.column or 0) * width, (name.row or 0) * height, width, height)


def _on_one_grid(paths: list[Path]) -> tuple[list[Patch], dict[str, str]] | None:
    """Patches that say themselves where they lie, and a row of a layout for all of them.

    None where they do not, or do not lie on one grid of pixels.
    """
    crs = grid = None
    corners, sizes = [], []
    with quiet_gdal():
        for path in paths:
            try:
                with open_raster(path) as raster:
                    place, size = place_of(raster), (raster.width, raster.height)
            except GDAL_ERRORS:
                return None
            if place.transform is None or not place.transform.determinant:
                return None
            matrix = np.reshape(place.transform, (3, 3))
            if grid is None:
                crs, grid = place.crs, matrix
            # On the grid of the first one it is the identity, moved by whole pixels.
            on_first = np.linalg.inv(grid) @ matrix
            corner = on_first[:2, 2].round()
            off = np.abs(on_first[:2, 2] - corner).max()
            off = max(off, np.abs(on_first[:2, :2] - np.eye(2)).max() * max(size))
            if place.crs != crs or off > GRID_TOLERANCE:
                console.print(
                    f"{path}: lies elsewhere than on the grid of pixels of {paths[0].name}; the "
                    "patches are put together by their names, and the map has no place"
                )
                return None
            corners.append(corner)
            sizes.append(size)
    first = np.min(corners, axis=0)
    patches = [
        Patch(path, int(x), int(y), width, height)
        for path, (x, y), (width, height) in zip(paths, corners - first, sizes, strict=True)
    ]
    assert grid is not None
    origin = grid @ [[1, 0, first[0]], [0, 1, first[1]], [0, 0, 1]]
    row = {
        "crs": "" if crs is None else crs.to_wkt(),
        "transform": " ".join(map(repr, origin.ravel()[:6].tolist())),
        "image_width": str(max(patch.x + patch.width for patch in patches)),
        "image_height": str(max(patch.y + patch.height for patch in patches)),
    }
    return patches, row


@contextmanager
def open_input(
    image: Input,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
    white_level: int | None = None,
) -> Iterator[ImageSource]:
    """Open it for windowed reading, as `imagery.raster.open_image` does.

    Where no patch lies nothing is valid; a later patch lies over an earlier one.

    Raises:
        InputError: as `open_image`; a patch is not as large as its place.
    """
    if not image.patches:
        with open_image(image.path, nodata, bands, skip_unreadable, white_level) as source:
            yield source
        return
    crs, transform = georeference(image.layout or {}, image.path.parent.parent / LAYOUT)
    level, notes = _of_all(image.patches, nodata, bands, white_level)
    lefts, tops = (np.array([getattr(patch, side) for patch in image.patches]) for side in "xy")
    rights = lefts + [patch.width for patch in image.patches]
    bottoms = tops + [patch.height for patch in image.patches]
    width, height = int(rights.max()), int(bottoms.max())
    if image.layout is not None:
        width, height = int(image.layout["image_width"]), int(image.layout["image_height"])

    largest = max(patch.width * patch.height for patch in image.patches)

    @lru_cache(max(1, CACHED_PIXELS // max(1, largest)))
    def pixels_of(number: int) -> Pixels | None:
        patch = image.patches[number]
        try:
            with open_image(patch.path, nodata, bands, white_level=level) as source:
                if (source.width, source.height) != (patch.width, patch.height):
                    raise InputError(
                        f"{patch.path}: {source.width} × {source.height} pixels, its place in "
                        f"{image.path.name} has {patch.width} × {patch.height}"
                    )
                return source.read(0, 0, patch.height, patch.width)
        except InputError as error:
            if not skip_unreadable:
                raise
            console.print(f"Left out: {error}")
            return None

    def read(row: int, column: int, window_height: int, window_width: int) -> Pixels:
        pixels = np.zeros((window_height, window_width, 3), np.uint8)
        valid = np.zeros((window_height, window_width), bool)
        inside = (lefts < column + window_width) & (rights > column)
        inside &= (tops < row + window_height) & (bottoms > row)
        for number in np.flatnonzero(inside).tolist():
            patch = pixels_of(number)
            if patch is None:
                continue
            top, left = int(tops[number]) - row, int(lefts[number]) - column
            paste(pixels, patch[0], top, left)
            paste(valid, patch[1], top, left)
        return pixels, valid

    with quiet_gdal():
        yield ImageSource(image.path, height, width, crs, transform, read, level, notes=notes)


def _of_all(
    patches: Sequence[Patch],
    nodata: float | None,
    bands: tuple[int, ...] | None,
    white_level: int | None,
) -> tuple[int | None, tuple[str, ...]]:
    """The white level of patches, one for all, and what to tell of them, by some of them."""
    level, notes = white_level, tuple[str, ...]()
    for patch in patches[:: max(1, len(patches) // SAMPLED_PATCHES)]:
        # What cannot be read is told where it is needed.
        with suppress(InputError), open_image(patch.path, nodata, bands, False, white_level) as one:
            if not notes or (one.white_level or 0) > (level or 0):
                level, notes = one.white_level, one.notes
            if white_level is not None or one.white_level is None:
                break
    return level, notes


def require_different_names(inputs: list[Input]) -> None:
    """Raise `InputError` where two images would have maps of one name."""
    by_name: dict[str, Path] = {}
    for image in inputs:
        # Some file systems take upper and lower case for the same.
        other = by_name.setdefault(image.name.casefold(), image.path)
        if other != image.path:
            raise InputError(
                f"{other} and {image.path}: their maps would have the same names; "
                "map them apart, each with its own --out"
            )


def suggest_nodata(source: ImageSource) -> None:
    """Say so where much of the border is plain black or white and nothing calls it nodata."""
    last_row, last_column = source.height - 1, source.width - 1
    rows = np.linspace(0, last_row, BORDER_SAMPLES).astype(int).tolist()
    columns = np.linspace(0, last_column, BORDER_SAMPLES).astype(int).tolist()
    # Pixel by pixel: a whole row or column of a large file would be slow to decode. One side after
    # the other: neighbours are in one block, which GDAL then decodes once.
    places = [(row, column) for column in (0, last_column) for row in rows]
    places += [(row, column) for row in (0, last_row) for column in columns]
    samples = [source.read(row, column, 1, 1) for row, column in places]
    border = np.array([image[0, 0] for image, _ in samples], np.int16)
    valid = np.array([valid[0, 0] for _, valid in samples])
    for value, name in ((0, "black"), (255, "white")):
        share = ((np.abs(border - value) <= SMEARED).all(axis=1) & valid).mean()
        if share >= FLAT_BORDER_SHARE:
            console.print(
                f"{source.path}: {share:.0%} of its border is plain {name} and not marked as "
                f"nodata; if nothing was photographed there, add --nodata "
                + (str(value) if source.white_level is None or not value else "with its value")
            )
