"""The files of a finished map: rasters with colours, names and tags, tables, and the preview.

In: the raw labels and confidence of a `Scratch`. Out: COGs on the image's grid, or PNGs for a
photograph, with what makes QGIS show them as they should be; and a picture for people.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.files import write_text
from salakseg.imagery.decode import ERRORS
from salakseg.imagery.drawing import MARGIN, Picture, legend, overlay, scale_bar
from salakseg.imagery.raster import ImageSource, quiet_gdal, write_cog
from salakseg.imagery.reading import GDAL_ERRORS, open_raster
from salakseg.mapping.areas import STRIP_PIXELS, ReadLabels, strips
from salakseg.mapping.classify import SURE, Block
from salakseg.mapping.overviews import Shrink, averages, commonest, make_overviews
from salakseg.mapping.scratch import Scratch, probability
from salakseg.mapping.styles import classes_qml, confidence_qml
from salakseg.model.weights import Model
from salakseg.version import VERSION

PREVIEW_SIDE = 1000
PREVIEW_MIN_WIDTH = 320
# Columns of tables that are text even where all that is in them are numbers.
TEXT_COLUMNS = ("image", "zone", "layer", "class", "interval", "basis", "made_by")


def make_tags(
    model: Model, key: dict[str, Any], far: float | None, image: str = ""
) -> dict[str, str]:
    """What every file of a map says of its making; `key` is the scratch's, `far` `Prediction`'s,
    `image` the path of what is mapped, from the map's folder."""
    tags = {
        "TIFFTAG_SOFTWARE": f"salakseg {VERSION}",
        "MODEL": Path(model.source).name,
        "MODEL_SHA256": key["model"],
        "ITERATION": str(model.iteration),
        "CREATED": datetime.now(UTC).isoformat(timespec="seconds"),
        "OPTIONS": json.dumps(key["options"]),
        "KEY": key_of(key),
    }
    if image:
        tags["IMAGE"] = image
    if model.val_confusion is not None and model.enlarge == 1:
        tags["USERS_ACCURACY"] = json.dumps(_users_accuracy(model.val_confusion))
    return tags if far is None else tags | {"FAR": f"{far}"}


def made_by(tags: dict[str, str]) -> str:
    """What tables say of that."""
    return f"{tags['TIFFTAG_SOFTWARE']}, {tags['MODEL']} {tags['MODEL_SHA256'][:12]}"


def _users_accuracy(confusion: NDArray[np.int64]) -> list[float | None]:
    """Of what was predicted as each class, how much was right; None where nothing was."""
    predicted = confusion.sum(0)
    return [
        round(int(hit) / int(all_of_it), 4) if all_of_it else None
        for hit, all_of_it in zip(np.diag(confusion), predicted, strict=True)
    ]


def key_of(key: dict[str, Any]) -> str:
    """SHA-256 of all that a map's pixels depend on."""
    return sha256(json.dumps(key).encode()).hexdigest()


def read_tags(classes: Path) -> dict[str, str]:
    """The tags of a map that is there; {} where it is none."""
    try:
        if classes.suffix == ".png":
            with Image.open(classes) as image:
                return {str(name): str(value) for name, value in image.info.items()}
        with quiet_gdal(), open_raster(classes) as raster:
            return dict(raster.tags())
    except (*ERRORS, *GDAL_ERRORS):
        return {}


def is_map(path: Path) -> bool:
    """Whether `predict` made the image: by its tags, whatever it is called."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return False
    tags = read_tags(path)
    return "KEY" in tags and tags.get("TIFFTAG_SOFTWARE", tags.get("Software", "")).startswith(
        "salakseg "
    )


def write_raster(
    scratch: Scratch,
    band: str,
    path: Path,
    source: ImageSource,
    mapping: ClassMapping,
    tags: dict[str, str],
) -> None:
    """One band of the scratch as a COG or, by the suffix of `path`, as a PNG; its style beside it.

    "confidence" is in percent. The others hold classes of `mapping`: in colours, with names in
    their tags and in `.aux.xml`.
    """
    classes = band != "confidence"
    style = classes_qml(mapping) if classes else confidence_qml(mapping.num_classes)
    write_text(path.with_suffix(".qml"), style)
    if classes:
        tags = tags | class_tags(mapping)
        names = (
            f'<PAMDataset>\n<PAMRasterBand band="1">{category_names(mapping)}</PAMRasterBand>\n'
            "</PAMDataset>\n"
        )
        write_text(path.with_name(path.name + ".aux.xml"), names)
    if path.suffix == ".png":
        height, width = scratch.shape
        image = Image.fromarray(scratch.window(band, 0, 0, height, width))
        if classes:
            image.putpalette(mapping.palette.tobytes())
        image.save(path, transparency=IGNORE_INDEX, pnginfo=png_info(tags))
        return
    # A raw file that GDAL reads through a description beside it.
    description = scratch.folder / f"{band}.vrt"
    about = colours(mapping) if classes else _percent(scratch)
    about += _overviews(scratch, band, commonest if classes else averages)
    raw = [(scratch.path(band), about)]
    write_text(description, _vrt(raw, scratch.shape, _place(source) + metadata(tags)))
    write_cog(description, path, classes)


def write_probabilities(
    scratch: Scratch, path: Path, source: ImageSource, mapping: ClassMapping, tags: dict[str, str]
) -> None:
    """The probability of each class as a band of a COG, with its name; in GDAL's terms, value ×
    scale is 0 to 1."""
    bands = []
    for index, name in enumerate(mapping.names):
        about = f"<Description>{escape(name)}</Description><Offset>0</Offset>"
        about += f"<Scale>{1 / SURE!r}</Scale>{_overviews(scratch, probability(index), averages)}"
        bands.append((scratch.path(probability(index)), about))
    description = scratch.folder / "probabilities.vrt"
    write_text(description, _vrt(bands, scratch.shape, _place(source) + metadata(tags)))
    write_cog(description, path, classes=False)


def class_tags(mapping: ClassMapping) -> dict[str, str]:
    """The names of the classes as the tags of a class map; `classes_of` reads them."""
    return {f"CLASS_{index}": name for index, name in enumerate(mapping.names)}


def classes_of(raster: Any) -> ClassMapping:
    """The classes of an open class map; none where it is no map of ours."""
    tags = raster.tags()
    names: list[str] = []
    while f"CLASS_{len(names)}" in tags:
        names.append(tags[f"CLASS_{len(names)}"])
    try:
        table = raster.colormap(1)
    except ValueError:  # it has none
        table = {}
    return ClassMapping(
        tuple((name, table.get(index, (0, 0, 0))[:3], False) for index, name in enumerate(names))
    )


def png_info(tags: dict[str, str]) -> PngInfo:
    """The tags as a PNG holds them."""
    info = PngInfo()
    for name, value in tags.items():
        info.add_itxt("Software" if name == "TIFFTAG_SOFTWARE" else name, value)
    return info


def _vrt(bands: Sequence[tuple[Path, str]], shape: tuple[int, int], whole: str = "") -> str:
    """GDAL's description of raw files beside it, each with what is to say of its band; and of the
    `whole`."""
    height, width = shape
    parts = "".join(
        f'\n<VRTRasterBand dataType="Byte" band="{number}" subClass="VRTRawRasterBand">'
        f"<NoDataValue>{IGNORE_INDEX}</NoDataValue>{about}\n"
        f'<SourceFilename relativeToVRT="1">{escape(raw.name)}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{width}</LineOffset>"
        "</VRTRasterBand>"
        for number, (raw, about) in enumerate(bands, 1)
    )
    return f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{whole}{parts}</VRTDataset>'


def _place(source: ImageSource) -> str:
    text = "" if source.crs is None else f"<SRS>{escape(source.crs.to_wkt())}</SRS>"
    if source.transform is not None:
        numbers = ", ".join(repr(float(number)) for number in source.transform.to_gdal())
        text += f"<GeoTransform>{numbers}</GeoTransform>"
    points, points_crs = source.gcps
    if points:
        text += f"<GCPList Projection={quoteattr(points_crs.to_wkt() if points_crs else '')}>"
        for point in points:
            at = f'Pixel="{point.col!r}" Line="{point.row!r}" X="{point.x!r}" Y="{point.y!r}"'
            text += f"<GCP {at}/>"
        text += "</GCPList>"
    return text


def metadata(tags: dict[str, str]) -> str:
    """Tags in GDAL's XML."""
    items = [f'<MDI key="{name}">{escape(value)}</MDI>' for name, value in tags.items()]
    return f"<Metadata>{''.join(items)}</Metadata>"


def colours(mapping: ClassMapping) -> str:
    """The colours of a band in GDAL's XML."""
    entries = [
        f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>'
        for red, green, blue in mapping.palette.tolist()
    ]
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{''.join(entries)}</ColorTable>"


def _percent(scratch: Scratch) -> str:
    """What the confidence is, and its statistics, so that nobody need read it all to show it."""
    counts = np.zeros(256, np.int64)
    for window in strips(0, 0, *scratch.shape):
        counts += np.bincount(scratch.window("confidence", *window).ravel(), minlength=256)
    counts[IGNORE_INDEX] = 0
    values = np.flatnonzero(counts)
    statistics = {}
    if len(values):
        mean = np.average(values, weights=counts[values])
        deviation = np.average((values - mean) ** 2, weights=counts[values]) ** 0.5
        statistics = {
            "STATISTICS_MINIMUM": f"{values[0]}",
            "STATISTICS_MAXIMUM": f"{values[-1]}",
            "STATISTICS_MEAN": f"{mean}",
            "STATISTICS_STDDEV": f"{deviation}",
        }
    return f"<Description>confidence</Description><UnitType>%</UnitType>{metadata(statistics)}"


def _overviews(scratch: Scratch, band: str, shrink: Shrink) -> str:
    """Make the overviews of a band, and say where they are."""
    text = ""
    for path, shape in make_overviews(scratch, band, shrink):
        write_text(path.with_suffix(".vrt"), _vrt([(path, "")], shape))
        text += (
            f'<Overview><SourceFilename relativeToVRT="1">{path.stem}.vrt</SourceFilename>'
            "<SourceBand>1</SourceBand></Overview>"
        )
    return text


def category_names(mapping: ClassMapping) -> str:
    """What gives the values of a band their names, in GDAL's XML."""
    categories = "".join(f"<Category>{escape(name)}</Category>\n" for name in mapping.names)
    return f"<CategoryNames>\n{categories}</CategoryNames>"


class Shrunk:
    """The image at the size of a preview, averaged block by block into `sums`."""

    def __init__(self, height: int, width: int) -> None:
        self.size = height, width
        self.step = max(1, ceil(max(height, width) / PREVIEW_SIDE))
        self.shape = ceil(height / self.step), ceil(width / self.step)
        self.sums = np.zeros((*self.shape, 3), np.uint32)

    def add(self, block: Block) -> None:
        """Add a block's image."""
        height, width = block.labels.shape
        top, end = block.row // self.step, ceil((block.row + height) / self.step)
        by_row = np.zeros((end - top, width, 3), np.uint32)
        # Every step-th line at a time: three times as fast as numpy's `add.reduceat`.
        for first in range(min(self.step, height)):
            lines = block.image[first :: self.step]
            row = (block.row + first) // self.step - top
            by_row[row : row + len(lines)] += lines
        for first in range(min(self.step, width)):
            lines = by_row[:, first :: self.step]
            column = (block.column + first) // self.step
            self.sums[top:end, column : column + lines.shape[1]] += lines

    def picture(self) -> Picture:
        """The shrunk image; needs all blocks."""
        counts = [np.bincount(np.arange(length) // self.step) for length in self.size]
        return (self.sums / np.outer(*counts)[..., None]).round().astype(np.uint8)


def write_preview(
    path: Path,
    read: ReadLabels,
    shrunk: Shrunk,
    mapping: ClassMapping,
    side: float | None,
    tags: dict[str, str],
) -> None:
    """The image, beside it the classes laid over it, below the legend and, with `side`, a scale.

    Args:
        read: (row, column, height, width) → labels of the map.
        side: of the image's pixels, in metres; None: not known.
    """
    rows = shrunk.step * max(1, STRIP_PIXELS // (shrunk.step * shrunk.size[1]))
    labels = np.concatenate(
        [
            commonest(read(row, 0, rows, shrunk.size[1]), [shrunk.step])[0]
            for row in range(0, shrunk.size[0], rows)
        ]
    )
    height, width = labels.shape
    key = legend(mapping, max(2 * width + MARGIN, PREVIEW_MIN_WIDTH))
    if side is not None:
        key = np.concatenate([key, scale_bar(side * shrunk.step, key.shape[1])])
    sheet = np.full((height + len(key), key.shape[1], 3), 255, np.uint8)
    image = shrunk.picture()
    sheet[:height, :width] = image
    sheet[:height, width + MARGIN : 2 * width + MARGIN] = overlay(image, labels, mapping)
    sheet[height:] = key
    # A photograph hardly gets smaller by the usual effort, which takes four times as long.
    Image.fromarray(sheet).save(path, pnginfo=png_info(tags), compress_level=1)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_table(path: Path, text: str) -> None:
    """A table as CSV; beside it the types of its columns in `.csvt`, for GDAL and QGIS.

    Without, QGIS takes all that is in a CSV file for text.
    """
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    columns = zip(*lines, strict=True) if lines else [()] * len(header)
    types = [
        "String" if name in TEXT_COLUMNS else _type_of(column)
        for name, column in zip(header, columns, strict=True)
    ]
    write_text(path.with_suffix(".csvt"), ",".join(f'"{name}"' for name in types) + "\n")
    write_text(path, text)


def _type_of(column: Sequence[str]) -> str:
    """Of a column of text what GDAL calls its type; empty values have any."""
    filled = [value for value in column if value]
    try:
        numbers = [float(value) for value in filled]
    except ValueError:
        return "String"
    return "Integer64" if numbers and "".join(filled).isdecimal() else "Real"
