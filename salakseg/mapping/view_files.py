"""What the page of maps shows of one map: `NAME_view/`, a pyramid of small pictures beside it.

In: a whole `Scratch` with its overviews. Out: `image-LEVEL-ROW-COLUMN.jpg`, the classes of the same
places, `confidence.js`, `thumbnail.jpg`, and `map.js`, which says what there is. Level 0 is the
finest; a small map has one picture of each, without levels.

A page that is opened from disk may show pictures, but neither read other files nor the pixels of
pictures; scripts it may load. So classes and confidence are indexed PNGs inside a script each: the
page hides a class by changing the palette, and looks up what is under the pointer.
"""

import base64
import io
import json
import zlib
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.files import flush
from salakseg.imagery.drawing import averaged, overlay
from salakseg.mapping.areas import Areas, Ground, strips
from salakseg.mapping.overviews import OVERVIEW_SIDE, averages, commonest, make_overviews
from salakseg.mapping.scratch import Scratch, read_raw, step_to_fit

# A map up to this size is one picture, others are in tiles, which a browser loads as they are seen.
WHOLE_SIDE = 2048
TILE = OVERVIEW_SIDE
THUMBNAIL_SIDE = 320
# What a script in `NAME_view/` calls.
CALL = "salaksegData"


def write_view(
    folder: Path,
    scratch: Scratch,
    mapping: ClassMapping,
    areas: Areas,
    ground: Ground,
    far: float | None,
    *,
    overviews: bool,
) -> None:
    """Make the folder.

    Args:
        overviews: the scratch has those of the labels and of the confidence already.
    """
    folder.mkdir()
    if not overviews:
        make_overviews(scratch, "labels", commonest)
        make_overviews(scratch, "confidence", averages)
    whole = max(scratch.shape) <= WHOLE_SIDE
    tile = WHOLE_SIDE if whole else TILE
    steps = [scratch.image_step]
    while max(scratch.shape) > tile * steps[-1]:
        steps.append(2 * steps[-1])
    for level, step in enumerate(steps):
        _write_level(folder, scratch, mapping, level, step, tile)
    _write_thumbnail(folder / "thumbnail.jpg", scratch, mapping, steps[-1])
    step = step_to_fit(scratch.shape, OVERVIEW_SIDE)
    _write_script(folder / "confidence.js", _confidence_png(_shrunk(scratch, "confidence", step)))
    metres = areas.square_metres
    about = {
        "width": scratch.shape[1],
        "height": scratch.shape[0],
        "tile": tile,
        "steps": steps,
        "side": ground.side,
        "basis": ground.basis,
        "far": far,
        "confidence": _mean_confidence(scratch),
        "classes": [
            {
                "name": name,
                "color": color,
                "pixels": int(areas.pixels[index]),
                "m2": None if metres is None else round(float(metres[index]), 3),
            }
            for index, (name, color) in enumerate(zip(mapping.names, mapping.colors, strict=True))
        ],
    }
    _write_script(folder / "map.js", about)
    flush(sorted(folder.iterdir()), one_by_one=True)


def read_view(folder: Path) -> dict[str, Any] | None:
    """What `map.js` says; None where there is none, or another file."""
    try:
        text = (folder / "map.js").read_text(encoding="utf-8")
        about = json.loads(text.removeprefix(f"{CALL}(").removesuffix(")\n"))
        return about if {"classes", "confidence", "far"} <= about.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _write_level(
    folder: Path, scratch: Scratch, mapping: ClassMapping, level: int, step: int, tile: int
) -> None:
    """Both pictures of each tile, a row of tiles at a time; and the next level's image.

    A tile has the first row and column of the next ones too: browsers leave gaps between them.
    """
    height = ceil(scratch.shape[0] / step)
    with scratch.image_path(2 * step).open("wb") as coarser:
        for row in range(ceil(height / tile)):
            image = scratch.image(row * tile, tile + 1, step)
            coarser.write(averaged(image[:tile], 2).tobytes())
            labels = _shrunk(scratch, "labels", step, row * tile, tile + 1)
            for column in range(ceil(image.shape[1] / tile)):
                window = np.s_[:, column * tile : (column + 1) * tile + 1]
                place = f"{level}-{row}-{column}"
                Image.fromarray(image[window]).save(folder / f"image-{place}.jpg", quality=85)
                _write_script(folder / f"classes-{place}.js", _classes_png(labels[window], mapping))


def _shrunk(
    scratch: Scratch, band: str, step: int, row: int = 0, rows: int | None = None
) -> NDArray[np.uint8]:
    """Rows of the labels or the confidence, shrunk by `step`; all by default."""
    shape = scratch.shrunk_shape(step)
    path = scratch.path(band if step == 1 else f"{band}-{step}")
    return read_raw(path, shape, row, 0, shape[0] if rows is None else rows, shape[1])


def _write_thumbnail(path: Path, scratch: Scratch, mapping: ClassMapping, step: int) -> None:
    """The classes over the image, of the level with this `step`."""
    image, labels = scratch.image(0, scratch.shape[0], step), _shrunk(scratch, "labels", step)
    more = ceil(max(labels.shape) / THUMBNAIL_SIDE)
    if more > 1:
        image, [labels] = averaged(image, more), commonest(labels, [more])
    Image.fromarray(overlay(image, labels, mapping)).save(path, quality=85)


def _classes_png(labels: NDArray[np.uint8], mapping: ClassMapping) -> str:
    """In class colours, with an alpha for each of the 256 entries of the palette."""
    return _png(labels, mapping.palette.tobytes(), bytes(mapping.num_classes * [255]))


def _confidence_png(percent: NDArray[np.uint8]) -> str:
    """A black veil, the denser the less sure."""
    return _png(percent, bytes(768), bytes(round(2.55 * (100 - value)) for value in range(101)))


def _png(values: NDArray[np.uint8], palette: bytes, alpha: bytes) -> str:
    """As base64."""
    image = Image.fromarray(values)
    image.putpalette(palette)
    file = io.BytesIO()
    # By runs of equal pixels alone: half the time, and of classes hardly more bytes.
    image.save(file, "PNG", transparency=alpha.ljust(256, b"\0"), bits=8, compress_type=zlib.Z_RLE)
    return base64.b64encode(file.getvalue()).decode()


def _write_script(path: Path, value: object) -> None:
    path.write_text(f"{CALL}({json.dumps(value)})\n", encoding="utf-8", newline="\n")


def _mean_confidence(scratch: Scratch) -> float | None:
    """In percent; None where nothing is mapped."""
    counts = np.zeros(256, np.int64)
    for window in strips(0, 0, *scratch.shape):
        counts += np.bincount(scratch.window("confidence", *window).ravel(), minlength=256)
    counts = counts[:IGNORE_INDEX]
    if not counts.any():
        return None
    return round(float(counts @ np.arange(len(counts)) / counts.sum()), 2)
