"""What the user named → the images to map: files, or patches put together to their base images."""

import glob
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from salakseg.band_set import BandSet
from salakseg.console import console
from salakseg.data.folders import find_folders
from salakseg.data.patch_names import PATCH_NAME
from salakseg.data.problems import SHOWN
from salakseg.errors import InputError
from salakseg.imagery.nodata import SMEARED
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.raster import PHOTO_SUFFIXES, ImageSource, has_place, open_image, quiet_gdal
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.imagery.remote import ImagePath, RemoteImage, ask_for, remote_images
from salakseg.mapping.outputs import is_map
from salakseg.mapping.patch_mosaic import Mosaic, Patch, open_mosaic, put_together

RASTER_SUFFIXES = (*IMAGE_SUFFIXES, ".vrt")
FLAT_BORDER_SHARE = 0.25
BORDER_SAMPLES = 64
# Values are of another unit if so much of each band is at an end of its scale, in so many windows a
# side of so many pixels.
OFF_SCALE, LOOKS, LOOK_SIDE = 0.9, 4, 64
BYTES = (0.0, 255.0)
# What a name in a bucket may have, and a file of Windows may not.
NO_FILE_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


@dataclass(frozen=True)
class Input:
    """An image to map.

    Attributes:
        path: the file or what stands for it, or its mosaic's path.
        name: of its maps, relative to the folder for maps, before `_classes.tif`.
        mosaic: the patches that it is put together from, None for a file.
    """

    path: ImagePath
    name: str
    mosaic: Mosaic | None = None

    @cached_property
    def is_photo(self) -> bool:
        """Whether it is a PNG or JPEG file without a place, whose map is a PNG."""
        in_a_file = self.mosaic is None and self.path.suffix.lower() in PHOTO_SUFFIXES
        return in_a_file and not has_place(self.path)

    @property
    def bytes(self) -> int:
        """Of its files, by which images are taken for small or large."""
        if isinstance(self.path, RemoteImage):
            return self.path.size
        parts = self.mosaic.patches if self.mosaic is not None else None
        paths = [self.path, *self._parts()] if parts is None else [part.path for part in parts]
        return sum(path.stat().st_size for path in paths)

    def path_from(self, folder: Path) -> str:
        """The path from a folder, where there is a way, with `/`."""
        if isinstance(self.path, RemoteImage):
            return str(self.path)
        try:
            return Path(os.path.relpath(self.path, folder)).as_posix()
        except ValueError:  # another drive of Windows
            return self.path.absolute().as_posix()

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes and times, and of the patches' places."""
        if isinstance(self.path, RemoteImage):
            return sha256(repr([str(self.path), *self.path.version]).encode()).hexdigest()
        digest = sha256()
        files = [Patch(self.path, 0, 0, 0, 0), *(Patch(path, 0, 0, 0, 0) for path in self._parts())]
        for patch in files if self.mosaic is None else self.mosaic.patches:
            status = patch.path.stat()
            name = str(patch.path.absolute())
            what = [name, status.st_size, status.st_mtime_ns, patch.x, patch.y]
            digest.update(repr(what).encode())
        return digest.hexdigest()

    def _parts(self) -> list[Path]:
        """The files that a VRT is made of, so far as they are there."""
        if isinstance(self.path, RemoteImage) or self.path.suffix.lower() != ".vrt":
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


def find_inputs(arguments: Sequence[Path | str]) -> list[Input]:
    """The images that are meant, each once.

    Text is a path, or names what is none (see `remote_images`): a URL, or a place in a zip. A file
    stands for itself, whatever its name. A folder stands for the images in it, or where it
    has none itself for those in every `images/` below it. Anything else is a pattern (`*`, `?`,
    `[…]`) for image files, since not every shell expands them. In a folder where all images are
    patches (`BASE_patch_ROW_COLUMN`, or `layout.csv` beside `images/`) each base image is one.
    Maps that `predict` made are no images, and are named.

    Raises:
        InputError: an argument stands for no image, or a damaged `layout.csv`.
        WorkError: a URL does not answer.
    """
    maps: list[Path] = []
    found: dict[tuple[ImagePath, str], Input] = {}
    for given in arguments:
        argument = Path(given)
        images = remote_images(given, IMAGE_SUFFIXES) if isinstance(given, str) else None
        if images is not None:
            inside = [Input(image, NO_FILE_NAME.sub("_", image.stem)) for image in images]
            missing = ""
        elif argument.is_dir():
            inside = _in_folder(argument, maps)
            missing = "no images in this folder or in images/ below it"
        elif argument.exists():
            inside = [Input(path, path.stem) for path in _no_maps([argument], maps)]
            missing = ""
        else:
            matches = glob.glob(str(argument))  # noqa: PTH207 (Path.glob takes no absolute ones)
            paths = sorted(path for path in map(Path, matches) if _is_image(path.name))
            paths = _no_maps([path for path in paths if path.is_file()], maps)
            inside = [Input(path, path.stem) for path in paths]
            missing = "no such file" if not glob.has_magic(str(argument)) else "fits no image"
        if not inside and argument not in maps:
            raise InputError(f"{argument}: {missing}; images are {', '.join(RASTER_SUFFIXES)}")
        for image in inside:
            found.setdefault((image.path, image.name), image)
    ask_for([image.path for image in found.values()])
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
    mosaics = put_together(folder, paths)
    if mosaics is None:
        return [Input(path, prefix + path.stem) for path in paths]
    return [Input(one.path, prefix + base, one) for base, one in mosaics.items()]


def open_input(
    image: Input,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
    white_level: int | None = None,
    band_set: BandSet | None = None,
) -> AbstractContextManager[ImageSource]:
    """Open it for windowed reading; raises as `open_image` and `open_mosaic` do."""
    options = nodata, bands, skip_unreadable, white_level, band_set
    if image.mosaic is not None:
        return open_mosaic(image.mosaic, *options)
    return open_image(image.path, *options)


def require_different_names(inputs: list[Input]) -> None:
    """Raise `InputError` where two images would have maps of one name."""
    by_name: dict[str, ImagePath] = {}
    for image in inputs:
        # Some file systems take upper and lower case for the same.
        other = by_name.setdefault(image.name.casefold(), image.path)
        if other != image.path:
            raise InputError(
                f"{other} and {image.path}: their maps would have the same names; "
                "map them apart, each with its own --out"
            )


def require_on_scale(source: ImageSource) -> None:
    """Raise `InputError` where the values of an image of more than three bands are of another unit
    than those of training: then nearly all of them lie beyond every band's scale."""
    bands = () if source.band_set is None else source.band_set.bands
    scaled = [place for place, band in enumerate(bands) if (band.low, band.high) != BYTES]
    if source.band_set is None or not scaled:
        return
    height, width = min(LOOK_SIDE, source.height), min(LOOK_SIDE, source.width)
    parts = []
    for row in np.linspace(0, source.height - height, LOOKS).astype(int).tolist():
        for column in np.linspace(0, source.width - width, LOOKS).astype(int).tolist():
            pixels, valid = source.read(row, column, height, width)
            parts.append(pixels[valid][:, scaled])
    values = np.concatenate(parts)
    if len(values) and (((values == 0) | (values == 255)).mean(axis=0) >= OFF_SCALE).all():
        raise InputError(
            f"{source.path}: its values are beyond nearly all of those of training "
            f"({source.band_set.described()}), so of another unit; gdal_edit.py -scale FACTOR "
            "writes into the file what they are to be multiplied by"
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
            scaled = source.band_set is not None or (source.white_level is not None and value)
            console.print(
                f"{source.path}: {share:.0%} of its border is plain {name} and not marked as "
                f"nodata; if nothing was photographed there, add --nodata "
                + ("with its value" if scaled else str(value))
            )
