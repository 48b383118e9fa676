"""The files of a finished map: rasters with colours, names and tags, and the preview.

In: the raw labels and confidence of a `Scratch`. Out: COGs on the image's grid, or PNGs for a
photograph, and a picture for people.
"""

import json
from datetime import UTC, datetime
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rasterio.enums import Resampling

from salakseg import __version__
from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.files import write_text
from salakseg.imagery.drawing import MARGIN, Picture, legend, overlay, scale_bar
from salakseg.imagery.raster import ImageSource, quiet_gdal, write_cog
from salakseg.mapping.classify import Block
from salakseg.mapping.scratch import Scratch
from salakseg.model.weights import Model

PREVIEW_SIDE = 1000
PREVIEW_MIN_WIDTH = 320


def make_tags(model: Model, key: dict[str, Any], far: float | None) -> dict[str, str]:
    """What every file of a map says of its making; `key` is the scratch's, `far` `Prediction`'s."""
    tags = {
        "TIFFTAG_SOFTWARE": f"salakseg {__version__}",
        "MODEL": Path(model.source).name,
        "MODEL_SHA256": key["model"],
        "ITERATION": str(model.iteration),
        "CREATED": datetime.now(UTC).isoformat(timespec="seconds"),
        "OPTIONS": json.dumps(key["options"]),
        "KEY": key_of(key),
    }
    return tags if far is None else tags | {"FAR": f"{far}"}


def key_of(key: dict[str, Any]) -> str:
    """SHA-256 of all that a map's pixels depend on."""
    return sha256(json.dumps(key).encode()).hexdigest()


def read_tags(classes: Path) -> dict[str, str]:
    """The tags of a map that is there; {} where it is none."""
    try:
        if classes.suffix == ".png":
            with Image.open(classes) as image:
                return {str(name): str(value) for name, value in image.info.items()}
        with quiet_gdal(), rasterio.open(classes) as raster:
            return dict(raster.tags())
    except (OSError, rasterio.errors.RasterioError):
        return {}


def write_raster(
    scratch: Scratch,
    band: str,
    path: Path,
    source: ImageSource,
    mapping: ClassMapping | None,
    tags: dict[str, str],
) -> None:
    """One band of the scratch as a COG or, by the suffix of `path`, as a PNG.

    Args:
        mapping: for labels: colours, overviews by mode, names in `.aux.xml`; None: quantities.
    """
    if path.suffix == ".png":
        height, width = scratch.shape
        image = Image.fromarray(scratch.window(band, 0, 0, height, width))
        if mapping is not None:
            image.putpalette(mapping.palette.tobytes())
        image.save(path, transparency=IGNORE_INDEX, pnginfo=png_info(tags))
        return
    # A raw file that GDAL reads through a description beside it.
    description = scratch.folder / f"{band}.vrt"
    write_text(description, _vrt(scratch.path(band).name, source, mapping, tags))
    write_cog(description, path, "average" if mapping is None else "mode")
    if mapping is not None:
        write_text(path.with_name(path.name + ".aux.xml"), _category_names(mapping))


def png_info(tags: dict[str, str]) -> PngInfo:
    """The tags as a PNG holds them."""
    info = PngInfo()
    for name, value in tags.items():
        info.add_itxt("Software" if name == "TIFFTAG_SOFTWARE" else name, value)
    return info


def _vrt(raw: str, source: ImageSource, mapping: ClassMapping | None, tags: dict[str, str]) -> str:
    lines = [f'<VRTDataset rasterXSize="{source.width}" rasterYSize="{source.height}">']
    if source.crs is not None:
        lines.append(f"<SRS>{escape(source.crs.to_wkt())}</SRS>")
    if source.transform is not None:
        numbers = ", ".join(repr(float(number)) for number in source.transform.to_gdal())
        lines.append(f"<GeoTransform>{numbers}</GeoTransform>")
    lines.append("<Metadata>")
    lines += [f'<MDI key="{name}">{escape(value)}</MDI>' for name, value in tags.items()]
    lines.append("</Metadata>")
    lines.append('<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">')
    lines.append(f"<NoDataValue>{IGNORE_INDEX}</NoDataValue>")
    if mapping is not None:
        lines.append("<ColorInterp>Palette</ColorInterp><ColorTable>")
        lines += [
            f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255"/>'
            for red, green, blue in mapping.palette.tolist()
        ]
        lines.append("</ColorTable>")
    lines.append(f'<SourceFilename relativeToVRT="1">{escape(raw)}</SourceFilename>')
    lines.append("<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>")
    lines.append(f"<LineOffset>{source.width}</LineOffset></VRTRasterBand></VRTDataset>")
    return "\n".join(lines)


def _category_names(mapping: ClassMapping) -> str:
    """GDAL's side-car file that gives the values of the band their names."""
    categories = "\n".join(f"      <Category>{escape(name)}</Category>" for name in mapping.names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{categories}\n"
        "    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )


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
    classes: Path,
    shrunk: Shrunk,
    mapping: ClassMapping,
    side: float | None,
    tags: dict[str, str],
) -> None:
    """The image, beside it the classes laid over it, below the legend and, with `side`, a scale.

    Args:
        classes: the map.
        side: of the image's pixels, in metres; None: not known.
    """
    with rasterio.open(classes) as raster:
        labels: NDArray[np.uint8] = raster.read(
            1, out_shape=shrunk.shape, resampling=Resampling.mode
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
