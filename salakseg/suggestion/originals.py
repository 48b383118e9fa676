"""The photographs behind patches: the full image where it is known and there, else a mosaic.

`patchify` notes in layout.csv which image a patch was cut from, and in its record where that lay.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.band_set import BandSet
from salakseg.classes import IGNORE_INDEX, read_mask
from salakseg.data.index_files import Index
from salakseg.data.layout import LAYOUT, read_layout
from salakseg.data.patchify_record import RECORD
from salakseg.errors import InputError
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.imagery.tiles import paste
from salakseg.mapping.classify import classify
from salakseg.mapping.patch_mosaic import Mosaic, Patch, open_mosaic
from salakseg.model.weights import Model

# Rows of an image that are read at a time where nothing else decides.
STRIP = 512


@dataclass(frozen=True)
class Original:
    """The file that a base image's patches were cut from, `patchify`'s DATA and --out, and how it
    was read: as `open_image` takes that."""

    file: Path
    data: Path
    out: Path
    nodata: float | None = None
    bands: tuple[int, ...] | None = None
    white_level: int | None = None
    band_set: BandSet | None = None


@dataclass(frozen=True)
class Photo:
    """A base image, or one patch of it.

    Attributes:
        index: the index that it is in.
        folder, name: of the base image, or the folder and name of the patch.
        patches: its rows of `index.patches`, with `left` and `top`, its place in pixels.
        original: the full image, None where that is not known or not there.
    """

    index: Index
    folder: str
    name: str
    patches: pd.DataFrame
    original: Original | None = None

    def open(self) -> AbstractContextManager[ImageSource]:
        """The full image, or its patches put together; a pixel that no patch covers is not valid.

        Raises:
            InputError: a file that is damaged or gone.
        """
        if self.original is not None:
            cut = self.original
            return open_image(cut.file, cut.nodata, cut.bands, False, cut.white_level, cut.band_set)
        data = self.index.data
        columns = self.patches[["image", "left", "top", "width", "height"]]
        patches = (Patch(data / image, *place) for image, *place in columns.itertuples(index=False))
        return open_mosaic(Mosaic(data / self.name, tuple(patches)), band_set=self.index.band_set)

    def draw_known(self, labels: NDArray[np.uint8]) -> None:
        """Lay the masks that some of its patches have over `labels` (H, W)."""
        patch: Any
        for patch in self.patches[self.patches["mask"] != ""].itertuples():
            mask = read_mask(self.index.data / patch.mask, self.index.mapping).labels
            paste(labels, mask, patch.top, patch.left)


@dataclass(frozen=True)
class Piece:
    """A rectangle of an image with its corner at (row, column).

    `image` is uint8 (h, w, 3); `labels` (class indices) and `confidence` (percent) are uint8
    (h, w), 255 where nothing is guessed.
    """

    row: int
    column: int
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


def guess(source: ImageSource, model: Model | None, amp: bool | None = None) -> Iterator[Piece]:
    """An image with the model's guess, piece by piece; without a model nothing is guessed."""
    if model is not None:
        for block in classify(model, source, amp=amp):
            yield Piece(block.row, block.column, block.image, block.labels, block.confidence)
        return
    for row in range(0, source.height, STRIP):
        pixels, _ = source.read(row, 0, min(STRIP, source.height - row), source.width)
        image = source.shown(pixels)
        nothing = np.full(image.shape[:2], IGNORE_INDEX, np.uint8)
        yield Piece(row, 0, image, nothing, nothing)


def find_photo(index: Index, folder: str, base_image: str, patch: str = "") -> Photo:
    """A base image of the index, or with `patch` (its name in the shards) one patch of it.

    Raises:
        InputError: the index does not hold it.
    """
    table = index.patches
    patches = table[(table.folder == folder) & (table.base_image == base_image) & (table.width > 0)]
    if patch:
        # Names in shards have no dots.
        names = [Path(image).stem.replace(".", "_") for image in patches.image]
        patches = patches[np.array(names, object) == patch]
    if patches.empty:
        raise InputError(
            f"{patch or base_image} of {folder}/ is in the shards, not in the index; they must "
            "belong together: run salakseg shard"
        )
    size = index.patch_size
    placed = patches.assign(
        left=patches.x.fillna(patches.column * size).fillna(0).astype("int64"),
        top=patches.y.fillna(patches.row * size).fillna(0).astype("int64"),
    )
    if patch:
        return Photo(index, folder, patch, placed.assign(left=0, top=0))
    photo = Photo(index, folder, base_image, placed)
    source = _sources(index.data / folder).get(base_image)
    here = index.data / folder
    out = next((up for up in (here, *here.parents) if (up / RECORD).exists()), None)
    if source is None or out is None:
        return photo
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        cut_from, bands = Path(record["data"]), record.get("bands")
        by = record["photos"].get(source)
        read = {
            "nodata": record.get("nodata"),
            "bands": None if bands is None else tuple(bands),
            "band_set": index.band_set,
            "white_level": by.get("white_level") if isinstance(by, dict) else None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return photo
    if not (cut_from / source).is_file():
        return photo
    return replace(photo, original=Original(cut_from / source, cut_from, out, **read))


def _sources(folder: Path) -> dict[str, str]:
    """Base image → its file relative to patchify's DATA, by the folder's layout.csv."""
    try:
        rows = read_layout(folder / LAYOUT, ("base_image", "source"))
    except InputError:  # then the patches themselves are shown
        return {}
    return {row["base_image"]: row["source"] for row in rows.values()}
