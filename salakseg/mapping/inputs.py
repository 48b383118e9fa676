"""What the user named → the images to map: files, or patches put together to their base images."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import CRSError

from salakseg.console import console
from salakseg.data.folders import PATCH_NAME, find_folders
from salakseg.data.layout import LAYOUT, read_layout
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.raster import PHOTO_SUFFIXES, ImageSource, Pixels, open_image, quiet_gdal
from salakseg.imagery.windows import paste

RASTER_SUFFIXES = (*IMAGE_SUFFIXES, ".vrt")
PLACE_COLUMNS = ("base_image", "x", "y", "width", "height", "image_width", "image_height")
# Decoded patches that are kept while a base image is read: a hundred megabytes of 256 × 256.
CACHED_PATCHES = 512
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
        layout: the first row of these patches in `layout.csv`, where there is one.
    """

    path: Path
    name: str
    patches: tuple[Patch, ...] = ()
    layout: dict[str, str] | None = None

    @property
    def is_photo(self) -> bool:
        """Whether it is a PNG or JPEG file, whose map is a PNG."""
        return not self.patches and self.path.suffix.lower() in PHOTO_SUFFIXES

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes and times, and of the patches' places."""
        digest = sha256()
        for patch in self.patches or (Patch(self.path, 0, 0, 0, 0),):
            status = patch.path.stat()
            name = str(patch.path.absolute())
            what = [name, status.st_size, status.st_mtime_ns, patch.x, patch.y]
            digest.update(repr(what).encode())
        return digest.hexdigest()


def find_inputs(arguments: Sequence[Path]) -> list[Input]:
    """The images that are meant, each once.

    A file stands for itself, whatever its name. A folder stands for the images in it, or where it
    has none itself for those in every `images/` below it. Anything else is a pattern (`*`, `?`,
    `[…]`) for image files, since not every shell expands them. In a folder where all images are
    patches (`BASE_patch_ROW_COLUMN`, or `layout.csv` beside `images/`) each base image is one.

    Raises:
        InputError: an argument stands for no image, or a damaged `layout.csv`.
    """
    found: dict[tuple[Path, str], Input] = {}
    for argument in arguments:
        if argument.is_dir():
            inside = _in_folder(argument)
            missing = "no images in this folder or in images/ below it"
        elif argument.exists():
            inside = [Input(argument, argument.stem)]
        else:
            matches = glob.glob(str(argument))  # noqa: PTH207 (Path.glob takes no absolute ones)
            images = sorted(path for path in map(Path, matches) if _is_image(path.name))
            inside = [Input(path, path.stem) for path in images if path.is_file()]
            missing = "no such file" if not glob.has_magic(str(argument)) else "fits no image"
        if not inside:
            raise InputError(f"{argument}: {missing}; images are {', '.join(RASTER_SUFFIXES)}")
        for image in inside:
            found.setdefault((image.path, image.name), image)
    if not found:
        raise InputError("no images given: name files, folders or patterns such as photos/*.jpg")
    return list(found.values())


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(RASTER_SUFFIXES)


def _in_folder(folder: Path) -> list[Input]:
    direct = sorted(path.name for path in folder.iterdir() if path.is_file())
    direct = list(filter(_is_image, direct))
    if direct:
        return _images_or_patches(folder, direct, "")
    found = []
    for below in find_folders(folder):
        names = sorted(filter(_is_image, below.image_files))
        prefix = "" if below.name == "." else f"{below.name}/"
        found += _images_or_patches(folder / below.name / below.images, names, prefix)
    return found


def _images_or_patches(folder: Path, names: list[str], prefix: str) -> list[Input]:
    file = folder.parent / LAYOUT
    layout: dict[str, dict[str, str]] = {}
    if folder.name.lower() == "images" and file.exists():
        layout = read_layout(file, PLACE_COLUMNS)
    matches = {name: PATCH_NAME.fullmatch(Path(name).stem) for name in names}
    if not all(matches[name] or Path(name).stem in layout for name in names):
        return [Input(folder / name, prefix + Path(name).stem) for name in names]
    patches: dict[str, list[Patch]] = {}
    first: dict[str, dict[str, str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in names:
        row, match, path = layout.get(Path(name).stem), matches[name], folder / name
        if row is not None:
            base = row["base_image"]
            patch = Patch(path, *(int(row[name]) for name in ("x", "y", "width", "height")))
            first.setdefault(base, row)
        else:
            assert match is not None
            base = match[1]
            width, height = sizes[base] if base in sizes else _size(path)
            sizes[base] = width, height
            patch = Patch(path, int(match[3]) * width, int(match[2]) * height, width, height)
        patches.setdefault(base, []).append(patch)
    return [
        Input(folder / base, prefix + base, tuple(patches[base]), first.get(base))
        for base in patches
    ]


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a patch, of the file's header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise InputError(f"{path}: the image cannot be read ({error})") from error


@contextmanager
def open_input(
    image: Input,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
) -> Iterator[ImageSource]:
    """Open it for windowed reading, as `imagery.raster.open_image` does.

    Where no patch lies nothing is valid; a later patch lies over an earlier one.

    Raises:
        InputError: as `open_image`; a patch is not as large as its place.
    """
    if not image.patches:
        with open_image(image.path, nodata, bands, skip_unreadable) as source:
            yield source
        return
    crs, transform = _place(image)
    lefts, tops = (np.array([getattr(patch, side) for patch in image.patches]) for side in "xy")
    rights = lefts + [patch.width for patch in image.patches]
    bottoms = tops + [patch.height for patch in image.patches]
    width, height = int(rights.max()), int(bottoms.max())
    if image.layout is not None:
        width, height = int(image.layout["image_width"]), int(image.layout["image_height"])

    @lru_cache(CACHED_PATCHES)
    def pixels_of(number: int) -> Pixels | None:
        patch = image.patches[number]
        try:
            with open_image(patch.path, nodata, bands) as source:
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
        yield ImageSource(image.path, height, width, crs, transform, read)


def _place(image: Input) -> tuple[Any, Any]:
    """CRS and transform of a base image, by its layout; None where not known."""
    layout = image.layout or {}
    try:
        crs = CRS.from_user_input(layout["crs"]) if layout.get("crs") else None
        numbers = [float(text) for text in layout.get("transform", "").split()]
    except (CRSError, ValueError) as error:
        raise InputError(f"{image.path.parent.parent / LAYOUT}: {error}") from error
    return crs, Affine(*numbers) if len(numbers) == 6 else None


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


def checked_bands(bands: Sequence[int] | str | None) -> tuple[int, ...] | None:
    """Band numbers as numbers, from "1,2,3" too."""
    try:
        numbers = bands.split(",") if isinstance(bands, str) else bands
        return None if numbers is None else tuple(int(number) for number in numbers)
    except ValueError as error:
        raise InputError(f"--bands {bands}: must be band numbers, as in 1,2,3") from error


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
    border = np.array([image[0, 0] for image, _ in samples])
    valid = np.array([valid[0, 0] for _, valid in samples])
    for value, name in ((0, "black"), (255, "white")):
        share = ((border == value).all(axis=1) & valid).mean()
        if share >= FLAT_BORDER_SHARE:
            console.print(
                f"{source.path}: {share:.0%} of its border is plain {name} and not marked as "
                f"nodata; if nothing was photographed there, add --nodata {value}"
            )
