"""predict(): images in, maps out.

In: images (GeoTIFFs and the like, read by window; PNG and JPEG photos) and a model file. Out, for
`field.tif`, in `predictions/`: `field_classes.tif` and `field_confidence.tif` (COGs on the image's
own grid), `field_classes.tif.aux.xml` (class names), `field_areas.csv` and `field_preview.png`; for
a photo the first two are PNGs and there is no `.aux.xml`.

Results go to uncompressed scratch files in a hidden folder first, since a COG cannot be written in
place, and get their names only when all of them are whole.
"""

import csv
import glob
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window
from rich.table import Table

from salakseg import __version__
from salakseg.classes import IGNORE_INDEX, ClassMapping, read_class_mapping
from salakseg.console import Bar, console, progress
from salakseg.device import select_device
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, require_disk_space
from salakseg.imagery.area import pixel_areas, unknown_area
from salakseg.imagery.drawing import MARGIN, Picture, legend, overlay
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.raster import PHOTO_SUFFIXES, ImageSource, open_image, write_cog
from salakseg.imagery.windows import plan_axis
from salakseg.mapping.classify import Block, classify
from salakseg.model.weights import Model, find_model, load_model

# Scratch of both maps, and at worst the maps themselves with overviews.
BYTES_PER_PIXEL = 5
PREVIEW_SIDE = 1000
PREVIEW_MIN_WIDTH = 320
FLAT_BORDER_SHARE = 0.25
BORDER_SAMPLES = 64
SQUARE_METRES_PER_HECTARE = 10_000


@dataclass(frozen=True)
class Prediction:
    """What was written for one image.

    Attributes:
        image: the image.
        classes, confidence, areas, preview: the files.
        pixels: int64 (K,), pixels of each class.
        square_metres: float64 (K,), their area on the ground; None where it cannot be known.
        area_basis: how the areas are known, or why they are not.
    """

    image: Path
    classes: Path
    confidence: Path
    areas: Path
    preview: Path
    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    area_basis: str


def predict(
    images: Sequence[Path | str],
    *,
    model: Path | str = Path("best_model.pth"),
    out: Path | str = Path("predictions"),
    overlap: float = 0.25,
    tile: int | None = None,
    batch_size: int | None = None,
    nodata: float | None = None,
    overwrite: bool = False,
    device: str = "auto",
    amp: bool | None = None,
    generator: str | None = None,
    class_mapping: Path | str | None = None,
) -> list[Prediction]:
    """Map images: classes, confidence, areas and a preview for each.

    Of several images, one that cannot be read does not stop the others: it is named when it comes
    and in the error at the end.

    Args:
        images: files, folders and patterns, see `find_images`.
        model: model file, or its name in `checkpoints/`.
        out: folder for the maps.
        overlap: share of a tile that the next one covers too, 0 to 0.5.
        tile: side of the tiles in pixels; None: the patch size that the model was trained with.
        batch_size: tiles that the network takes at a time; None: by device.
        nodata: a pixel is nodata where all its bands have this value; None: as the file says.
        overwrite: replace maps that are there.
        device: auto, cpu, cuda, cuda:1, mps.
        amp: mixed precision; None: where the device is fast at it.
        generator, class_mapping: network and classes of a bare state dict.

    Returns:
        One `Prediction` an image, in the order of `find_images`.

    Raises:
        InputError: nothing to map, no such model, maps that are there already, two images of one
            name, or images that cannot be read.
        WorkError: disk full, out of memory.
    """
    files = find_images([Path(image) for image in images])
    out = Path(out)
    _require_free_names(files, out, overwrite)
    network = load_model(
        find_model(Path(model)),
        select_device(device),
        generator,
        read_class_mapping(Path(class_mapping)) if class_mapping is not None else None,
    )
    # An option out of range is no fault of the images: say so once, before any of them.
    plan_axis(1, network.patch_size if tile is None else tile, overlap)
    _require_writable(out)
    done: list[Prediction] = []
    failed: list[Path] = []
    for number, file in enumerate(files, 1):
        title = file.name if len(files) == 1 else f"{file.name} ({number} of {len(files)})"
        try:
            with open_image(file, nodata) as source, progress(title, _megapixels(source)) as bar:
                if nodata is None:
                    _suggest_nodata(source)
                blocks = classify(
                    network, source, tile=tile, overlap=overlap, batch_size=batch_size, amp=amp
                )
                result = _write_map(source, network, _counted(blocks, bar), out)
        except InputError as error:
            if len(files) == 1:
                raise
            console.print(f"Left out: {error}")
            failed.append(file)
            continue
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"{file}: the device ran out of memory; use --device cpu, or from Python a "
                "smaller batch_size"
            ) from error
        except (RasterioError, OSError) as error:
            raise WorkError(f"{file}: its map could not be written ({error})") from error
        done.append(result)
        if len(files) > 1:
            console.print(f"{file} → {result.classes}")
    if done:
        _print_areas(done, network.mapping)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(files)} images could not be mapped (the others are in {out}): "
            + ", ".join(map(str, failed))
        )
    return done


def find_images(arguments: Sequence[Path]) -> list[Path]:
    """The image files that are meant, each once.

    A file stands for itself, whatever its name; a folder for the images in it, or in its `images/`
    where it has none itself; anything else is a pattern (`*`, `?`, `[…]`) for image files, since
    not every shell expands them.

    Raises:
        InputError: an argument stands for no image.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        if argument.is_dir():
            inside = _images_in(argument) or _images_in(argument / "images")
            missing = "no images in this folder or in images/ below it"
        elif argument.exists():
            inside = [argument]
        else:
            matches = glob.glob(str(argument))  # noqa: PTH207 (Path.glob takes no absolute ones)
            inside = sorted(path for path in map(Path, matches) if _is_image(path))
            missing = "no such file" if not glob.has_magic(str(argument)) else "fits no image"
        if not inside:
            raise InputError(f"{argument}: {missing}; images are {', '.join(IMAGE_SUFFIXES)}")
        found.update(dict.fromkeys(inside))
    if not found:
        raise InputError("no images given: name files, folders or patterns such as photos/*.jpg")
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    return sorted(filter(_is_image, folder.iterdir())) if folder.is_dir() else []


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _output_names(image: Path) -> dict[str, str]:
    suffix = ".png" if image.suffix.lower() in PHOTO_SUFFIXES else ".tif"
    return {
        "classes": f"{image.stem}_classes{suffix}",
        "confidence": f"{image.stem}_confidence{suffix}",
        "areas": f"{image.stem}_areas.csv",
        "preview": f"{image.stem}_preview.png",
    }


def _require_free_names(files: list[Path], out: Path, overwrite: bool) -> None:
    by_stem: dict[str, Path] = {}
    for file in files:
        # Some file systems take upper and lower case for the same.
        other = by_stem.setdefault(file.stem.casefold(), file)
        if other != file:
            raise InputError(
                f"{other} and {file}: their maps would have the same names; "
                "map them apart, each with its own --out"
            )
    there = [out / name for file in files for name in _output_names(file).values()]
    there = [path for path in there if path.exists()]
    if there and not overwrite:
        raise InputError(
            f"{there[0]}: exists already; --overwrite makes it anew, --out DIR puts it elsewhere"
        )


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to ({error.strerror})") from error


def _megapixels(source: ImageSource) -> int:
    return max(1, source.height * source.width // 1_000_000)


def _counted(blocks: Iterator[Block], bar: Bar) -> Iterator[Block]:
    """The blocks as they come, each counted on the bar in megapixels."""
    pixels = 0
    for block in blocks:
        yield block
        before = pixels // 1_000_000
        pixels += block.labels.size
        bar.advance(pixels // 1_000_000 - before)


def _suggest_nodata(source: ImageSource) -> None:
    """Say so where much of the border is plain black or white and nothing calls it nodata."""
    last_row, last_column = source.height - 1, source.width - 1
    rows = np.linspace(0, last_row, BORDER_SAMPLES).astype(int).tolist()
    columns = np.linspace(0, last_column, BORDER_SAMPLES).astype(int).tolist()
    places = [(row, column) for row in rows for column in (0, last_column)]
    places += [(row, column) for row in (0, last_row) for column in columns]
    # Pixel by pixel: a whole row or column of a large file would be slow to decode.
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


class _Shrunk:
    """The image at the size of a preview, averaged block by block."""

    def __init__(self, source: ImageSource) -> None:
        self.step = max(1, ceil(max(source.height, source.width) / PREVIEW_SIDE))
        self.shape = ceil(source.height / self.step), ceil(source.width / self.step)
        self._sums = np.zeros((*self.shape, 3))
        self._counts = np.zeros((*self.shape, 1))

    def add(self, block: Block) -> None:
        height, width = block.labels.shape
        rows = np.arange(block.row, block.row + height) // self.step
        columns = np.arange(block.column, block.column + width) // self.step
        first_rows = np.flatnonzero(np.diff(rows, prepend=-1))
        first_columns = np.flatnonzero(np.diff(columns, prepend=-1))
        place = np.ix_(rows[first_rows], columns[first_columns])
        by_row = np.add.reduceat(block.image, first_rows, axis=0, dtype=np.uint32)
        self._sums[place] += np.add.reduceat(by_row, first_columns, axis=1)
        self._counts[place] += np.outer(
            np.diff(first_rows, append=height), np.diff(first_columns, append=width)
        )[..., None]

    def picture(self) -> Picture:
        return (self._sums / self._counts).round().astype(np.uint8)


def _write_map(source: ImageSource, model: Model, blocks: Iterator[Block], out: Path) -> Prediction:
    mapping = model.mapping
    size = source.height * source.width
    require_disk_space(out, BYTES_PER_PIXEL * size, f"the map of {source.path.name}")
    unknown = unknown_area(source.crs, source.transform, source.width, source.height)
    pixels = np.zeros(256, np.int64)
    square_metres = np.zeros(256)
    shrunk = _Shrunk(source)
    names = _output_names(source.path)
    with TemporaryDirectory(prefix=".partial-", dir=out) as temporary:
        folder = Path(temporary)
        with (
            _create_scratch(folder / "classes.tif", source, model) as classes,
            _create_scratch(folder / "confidence.tif", source, model) as confidence,
        ):
            classes.write_colormap(1, dict(enumerate(map(tuple, mapping.palette.tolist()))))
            for block in blocks:
                height, width = block.labels.shape
                window = Window(block.column, block.row, width, height)
                classes.write(block.labels, 1, window=window)
                confidence.write(block.confidence, 1, window=window)
                shrunk.add(block)
                labels = block.labels.ravel()
                pixels += np.bincount(labels, minlength=256)
                if unknown is None:
                    areas = pixel_areas(
                        source.crs, source.transform, block.column, block.row, width, height
                    )
                    square_metres += np.bincount(labels, areas.ravel(), minlength=256)
        _finish(folder / "classes.tif", folder / names["classes"], "mode")
        _finish(folder / "confidence.tif", folder / names["confidence"], "average")
        small = _read_shrunk(folder / names["classes"], shrunk.shape)
        if names["classes"].endswith(".tif"):
            names["names"] = names["classes"] + ".aux.xml"
            (folder / names["names"]).write_text(
                _category_names(mapping), encoding="utf-8", newline="\n"
            )
        learnt = slice(mapping.num_classes)
        result = Prediction(
            source.path,
            out / names["classes"],
            out / names["confidence"],
            out / names["areas"],
            out / names["preview"],
            pixels[learnt],
            square_metres[learnt] if unknown is None else None,
            "on the ellipsoid" if unknown is None else f"pixels only: {unknown}",
        )
        (folder / names["areas"]).write_text(
            _areas_csv(result, mapping), encoding="utf-8", newline="\n"
        )
        Image.fromarray(_preview(shrunk.picture(), small, mapping)).save(folder / names["preview"])
        for name in names.values():
            with atomic_path(out / name) as final:
                (folder / name).replace(final)
    return result


def _create_scratch(path: Path, source: ImageSource, model: Model) -> Any:
    """An uncompressed GeoTIFF of one uint8 band on the image's grid, open for writing."""
    placed = {} if source.transform is None else {"transform": source.transform}
    scratch = rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=source.height,
        width=source.width,
        count=1,
        dtype="uint8",
        nodata=IGNORE_INDEX,
        crs=source.crs,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        bigtiff="IF_SAFER",
        **placed,
    )
    scratch.update_tags(
        TIFFTAG_SOFTWARE=f"salakseg {__version__}",
        MODEL=Path(model.source).name,
        ITERATION=model.iteration,
    )
    return scratch


def _finish(scratch: Path, path: Path, overview_resampling: str) -> None:
    if path.suffix == ".tif":
        write_cog(scratch, path, overview_resampling)
        return
    with rasterio.open(scratch) as raster:
        image = Image.fromarray(raster.read(1))
        if raster.colorinterp[0].name == "palette":
            colors = raster.colormap(1)
            image.putpalette([part for index in range(256) for part in colors[index][:3]])
    image.save(path, transparency=IGNORE_INDEX)


def _read_shrunk(classes: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    with rasterio.open(classes) as raster:
        labels: NDArray[np.uint8] = raster.read(1, out_shape=shape, resampling=Resampling.mode)
    return labels


def _category_names(mapping: ClassMapping) -> str:
    """GDAL's side-car file that gives the values of the band their names."""
    categories = "\n".join(f"      <Category>{escape(name)}</Category>" for name in mapping.names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{categories}\n"
        "    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )


def _shares(pixels: NDArray[np.int64], square_metres: NDArray[np.float64] | None) -> Any:
    """Share of each class: of the ground where its area is known, else of the pixels."""
    amounts = pixels if square_metres is None else square_metres
    return amounts / (amounts.sum() or 1)


def _areas_csv(result: Prediction, mapping: ClassMapping) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "pixels", "share", "m2", "hectares", "basis"])
    shares = _shares(result.pixels, result.square_metres)
    for index, name in enumerate(mapping.names):
        metres = None if result.square_metres is None else result.square_metres[index]
        writer.writerow(
            [
                name,
                result.pixels[index],
                f"{shares[index]:.6f}",
                "" if metres is None else f"{metres:.3f}",
                "" if metres is None else f"{metres / SQUARE_METRES_PER_HECTARE:.6f}",
                result.area_basis,
            ]
        )
    return text.getvalue()


def _preview(image: Picture, labels: NDArray[np.uint8], mapping: ClassMapping) -> Picture:
    """The image, beside it the classes laid over it, the legend below."""
    height, width = labels.shape
    key = legend(mapping, max(2 * width + MARGIN, PREVIEW_MIN_WIDTH))
    sheet = np.full((height + len(key), key.shape[1], 3), 255, np.uint8)
    sheet[:height, :width] = image
    sheet[:height, width + MARGIN : 2 * width + MARGIN] = overlay(image, labels, mapping)
    sheet[height:] = key
    return sheet


def _print_areas(results: list[Prediction], mapping: ClassMapping) -> None:
    pixels = np.sum([result.pixels for result in results], axis=0)
    known = [result.square_metres for result in results if result.square_metres is not None]
    # A sum over some of the images only would be taken for all of them.
    square_metres = np.sum(known, axis=0) if len(known) == len(results) else None
    one = len(results) == 1
    table = Table(title=str(results[0].classes) if one else f"{len(results)} maps")
    columns = {"pixels": [f"{count:,}" for count in (*pixels, pixels.sum())]}
    if square_metres is not None:
        hectares = square_metres / SQUARE_METRES_PER_HECTARE
        columns["ha"] = [f"{area:,.4f}" for area in (*hectares, hectares.sum())]
    shares = _shares(pixels, square_metres)
    columns["%"] = [f"{100 * share:.1f}" for share in (*shares, shares.sum())]
    table.add_column("class")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in zip([*mapping.names, "total"], *columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    for basis in sorted({result.area_basis for result in results}):
        console.print(f"Areas: {basis}")
