"""Opening images of any size and format, and making cloud-optimised GeoTIFFs.

In: anything that GDAL reads (GeoTIFF, BigTIFF, COG, VRT, a JPEG or PNG with a world file, …) by
window, whatever its block layout; and photographs, which are decoded whole and turned upright. Out:
8-bit RGB by the rule of `imagery.bands`, or more bands by that of a `BandSet`; and which pixels are
valid by that of `imagery.nodata`.

An image that has a place (`imagery.place`) is never turned: GDAL and QGIS do not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from salakseg.band_set import BandSet
from salakseg.errors import InputError, WorkError
from salakseg.files import is_cut_off_jpeg
from salakseg.imagery.bands import checked_bands
from salakseg.imagery.decode import (
    ERRORS,
    UPRIGHT,
    WHOLE_PIXELS,
    decoded,
    exif_orientation,
    turned_upright,
)
from salakseg.imagery.multiband import band_reading_of
from salakseg.imagery.place import place_of
from salakseg.imagery.reading import (
    GDAL_ERRORS,
    PHOTO_DRIVERS,
    Pixels,
    is_nodata,
    level_of,
    marks_of,
    open_raster,
    reading_of,
)
from salakseg.imagery.remote import ImagePath, RemoteImage, answered
from salakseg.imagery.windows import cause_of, windows_of

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
# GDAL keeps decoded blocks; its default, a share of the machine's memory, is no bound. In bytes:
# rasterio hands the number to GDAL's C function, not to its reading of "128" as megabytes.
GDAL_CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class ImageSource:
    """An open image.

    Attributes:
        path: the file, or what stands for it.
        height, width: in pixels, upright.
        crs: rasterio CRS of the transform, or None.
        transform: affine (column, row) → CRS coordinates, or None.
        read: (row, column, height, width), a window inside the image → uint8 RGB
            (height, width, 3) and bool (height, width), True where the pixel is valid. Raises
            `InputError` where the file is damaged.
        white_level: the 16-bit value that becomes 255; None: the image has 8 bits.
        gcps: ground control points and their CRS, where no transform fits them.
        turned: by its EXIF orientation, to be upright.
        notes: what a user must know of how it is read, without its name.
        band_set: its bands, where `read` gives other ones than RGB: (height, width, bands).
        copy: the file that it is read from while it is open, where `path` is none.
    """

    path: ImagePath
    height: int
    width: int
    crs: Any
    transform: Any
    read: Callable[[int, int, int, int], Pixels]
    white_level: int | None = None
    gcps: tuple[tuple[Any, ...], Any] = ((), None)
    turned: bool = False
    notes: tuple[str, ...] = ()
    band_set: BandSet | None = None
    copy: Path | None = None

    @property
    def file(self) -> Path:
        """Where its bytes are here, of a photograph."""
        file = self.copy or self.path
        assert isinstance(file, Path)
        return file

    def shown(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Of pixels as `read` gives them what people see, RGB (height, width, 3)."""
        return pixels if self.band_set is None else self.band_set.picture(pixels)


@contextmanager
def quiet_gdal() -> Iterator[None]:
    """GDAL with a bounded cache."""
    # Progressive JPEGs take memory for all of their pixels, by GDAL's default 500 MB at most.
    options = {"GDAL_CACHEMAX": GDAL_CACHE_BYTES, "GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC": True}
    with rasterio.Env(**options):
        yield


@contextmanager
def open_image(
    path: ImagePath,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    skip_unreadable: bool = False,
    white_level: int | None = None,
    band_set: BandSet | None = None,
) -> Iterator[ImageSource]:
    """Open an image for windowed reading.

    Args:
        nodata: value that marks a pixel as nodata where all bands hold it, in the file's own scale;
            None: what the file says, if anything.
        bands: numbers, from 1, of the one or three bands to take, or of those of `band_set`; None:
            by the rule of `imagery.bands`, or by name.
        skip_unreadable: take the blocks of a raster that cannot be read for not valid, and name
            them; otherwise they raise.
        white_level: the 16-bit value that becomes 255; None: by the image's own values.
        band_set: the bands to give, in place of RGB.

    Raises:
        InputError: names the file: missing, no image, damaged, without these bands, or with values
            without a known scale.
    """
    bands = checked_bands(bands)
    if band_set is None and bands is not None and len(bands) > 3:
        listed = ",".join(map(str, bands))
        raise InputError(f"{path}: --bands {listed}: one or three are taken here")
    if isinstance(path, RemoteImage) and path.suffix.lower() in PHOTO_SUFFIXES:
        with path.copied() as copy:
            options = nodata, bands, skip_unreadable, white_level, band_set
            try:
                with open_image(copy, *options) as source:
                    yield replace(source, path=path, copy=copy)
            except InputError as error:  # with the name that the user knows
                raise InputError(str(error).replace(str(copy), str(path))) from error
        return
    with quiet_gdal(), _opened(path) as raster:
        with _named(path):
            jpeg = raster is None or raster.driver == "JPEG"
            if jpeg and isinstance(path, Path) and is_cut_off_jpeg(path):
                raise InputError("the image cannot be read (the file is cut off)")
            photo = raster is None or (band_set is None and _is_photo(raster))
            if photo and isinstance(path, Path):
                notes = () if raster is None else tuple(filter(None, [place_of(raster).note]))
                source = replace(_photo(path, nodata, bands), notes=notes)
            elif band_set is not None:
                source = _multiband(path, raster, nodata, bands, skip_unreadable, band_set)
            else:
                source = _raster(path, raster, nodata, bands, skip_unreadable, white_level)
        yield source


class Header(NamedTuple):
    """What `open_image` will make of a file: height and width, upright; whether a side is the
    other's for that; whether it is decoded as a whole; and whether it has 8 bits."""

    height: int
    width: int
    turned: bool = False
    whole: bool = True
    eight_bits: bool = True


def header_of(path: Path) -> Header:
    """By the file's header alone.

    Raises:
        InputError: missing, or no image.
    """
    with quiet_gdal(), _opened(path) as raster, _named(path):
        if raster is None:
            source = _photo(path, None, None)
            return Header(source.height, source.width)
        orientation = UPRIGHT if place_of(raster).known else exif_orientation(path)
        turned = orientation >= 5
        height, width = (raster.width, raster.height) if turned else (raster.height, raster.width)
        whole = orientation != UPRIGHT or _is_photo(raster)
        return Header(height, width, turned, whole, set(raster.dtypes) == {"uint8"})


def image_size(path: Path) -> tuple[int, int]:
    """Height and width as `open_image` has them, of the file's header alone; raises as that."""
    return header_of(path)[:2]


def has_place(path: ImagePath) -> bool:
    """Whether GIS software shows the file where it lies: its map is a raster with that place."""
    if isinstance(path, RemoteImage) and path.suffix.lower() in PHOTO_SUFFIXES:
        return False  # it would be in a file beside it
    with quiet_gdal():
        try:
            with open_raster(path) as raster:
                return place_of(raster).known
        except GDAL_ERRORS:
            return False


@contextmanager
def _opened(path: ImagePath) -> Iterator[Any]:
    """The rasterio data set; None where GDAL cannot open a photograph, which Pillow may."""
    try:
        with answered(path):
            raster = open_raster(path)
    except GDAL_ERRORS as error:
        if isinstance(path, RemoteImage):
            raise InputError(
                f"{path}: is no TIFF that can be read; by URL, or in a zip, TIFF is read, and PNG "
                "and JPEG that are called so"
            ) from error
        if not path.exists():
            raise InputError(f"{path}: no such file") from error
        if path.suffix.lower() not in PHOTO_SUFFIXES:
            raise InputError(f"{path}: the image cannot be read ({cause_of(error)})") from error
        yield None
        return
    with raster:
        if not raster.count:
            raise InputError(
                f"{path}: holds no image itself, but {len(raster.subdatasets)} of them; take one "
                "out with gdal_translate"
            )
        yield raster


@contextmanager
def _named(path: ImagePath) -> Iterator[None]:
    """Errors in what a file says of itself, with its name."""
    try:
        with answered(path):
            yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (*GDAL_ERRORS, *ERRORS) as error:
        raise InputError(f"{path}: the image cannot be read ({cause_of(error)})") from error


def _is_photo(raster: Any) -> bool:
    """Whether Pillow decodes it, as viewers do: 8 bits, no place, no mask that only GDAL knows."""
    flags = set(raster.mask_flag_enums[0])
    palette = raster.colorinterp[0].name == "palette"
    return (
        raster.driver in PHOTO_DRIVERS
        and raster.dtypes[0] == "uint8"
        and (palette or not flags.isdisjoint({MaskFlags.all_valid, MaskFlags.alpha}))
        and raster.width * raster.height <= WHOLE_PIXELS
        and not place_of(raster).known
    )


def _require_bands(bands: tuple[int, ...] | None, count: int) -> None:
    if bands is not None and max(bands) > count:
        raise InputError(f"has no band {max(bands)}, only {count}; see --bands")


def _photo(path: Path, nodata: float | None, bands: tuple[int, ...] | None) -> ImageSource:
    pixels, valid, lossy = decoded(path)
    _require_bands(bands, 3)
    if bands is not None:
        pixels = np.ascontiguousarray(pixels[..., [band - 1 for band in bands * (3 // len(bands))]])
    marks = marks_of([nodata] * 3, "uint8")
    if marks is not None:
        valid &= ~is_nodata(np.moveaxis(pixels, 2, 0), marks, lossy)
    return replace(_in_memory(path, pixels, valid), turned=exif_orientation(path) != UPRIGHT)


def _in_memory(path: ImagePath, pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> ImageSource:
    def read(row: int, column: int, height: int, width: int) -> Pixels:
        window = np.s_[row : row + height, column : column + width]
        return pixels[window], valid[window]

    return ImageSource(path, pixels.shape[0], pixels.shape[1], None, None, read)


def _raster(
    path: ImagePath,
    raster: Any,
    nodata: float | None,
    bands: tuple[int, ...] | None,
    skip_unreadable: bool,
    white_level: int | None,
) -> ImageSource:
    _require_bands(bands, raster.count)
    place = place_of(raster)
    reading = reading_of(raster, nodata, bands)
    level, level_note = level_of(reading, white_level)
    orientation = exif_orientation(path)
    turned = orientation != UPRIGHT and not place.known
    notes = [place.note, *reading.notes, level_note]
    if orientation != UPRIGHT and place.known:
        notes.append("has a place, so that its orientation tag is not obeyed, nor is it by QGIS")
    source = ImageSource(
        path,
        raster.height,
        raster.width,
        place.crs,
        place.transform,
        windows_of(path, raster, lambda window: reading.pixels(window, level), 3, skip_unreadable),
        None if raster.dtypes[reading.bands[0] - 1] == "uint8" else level,
        place.gcps,
        turned,
        tuple(filter(None, notes)),
    )
    return _turned(source, orientation) if turned else source


def _multiband(
    path: ImagePath,
    raster: Any,
    nodata: float | None,
    bands: tuple[int, ...] | None,
    skip_unreadable: bool,
    band_set: BandSet,
) -> ImageSource:
    _require_bands(bands, raster.count)
    place = place_of(raster)
    reading = band_reading_of(raster, nodata, bands, band_set)
    source = ImageSource(
        path,
        raster.height,
        raster.width,
        place.crs,
        place.transform,
        windows_of(path, raster, reading.pixels, len(band_set), skip_unreadable),
        gcps=place.gcps,
        notes=tuple(filter(None, [place.note, reading.note])),
        band_set=band_set,
    )
    orientation = UPRIGHT if place.known else exif_orientation(path)
    return source if orientation == UPRIGHT else _turned(source, orientation)


def _turned(source: ImageSource, orientation: int) -> ImageSource:
    """A whole image, upright."""
    if source.width * source.height > WHOLE_PIXELS:
        raise InputError(
            f"{source.width} × {source.height} pixels are too many to turn them as its orientation "
            "tag says; turn it first, or take the tag away"
        )
    pixels, valid = (
        turned_upright(part, orientation) for part in source.read(0, 0, source.height, source.width)
    )
    upright = _in_memory(source.path, pixels, valid)
    return replace(source, height=upright.height, width=upright.width, read=upright.read)


def write_cog(scratch: Path, path: Path, classes: bool) -> None:
    """Turn a finished raster into a cloud-optimised GeoTIFF (deflate, 512-pixel blocks, overviews).

    Args:
        scratch: with overviews, or GDAL makes them.
        classes: it holds classes, and not quantities.

    Raises:
        WorkError: it could not be written.
    """
    try:
        rasterio.shutil.copy(
            scratch,
            path,
            driver="COG",
            compress="DEFLATE",
            # Differences of neighbours are smaller numbers, but those of classes are no fewer. By
            # more effort quantities get 8 % smaller, in five times the time.
            predictor="NO" if classes else "YES",
            level=4 if classes else 1,
            num_threads="ALL_CPUS",
            bigtiff="IF_SAFER",
            overview_resampling="mode" if classes else "average",
        )
    except RasterioError as error:
        raise WorkError(f"{path.name}: could not be written ({error})") from error
