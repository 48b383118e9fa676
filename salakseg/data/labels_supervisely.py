"""Supervisely's JSON, one file an image, called after it (`a.jpg.json`).

Its points are pixels, so their places are half a pixel from the pixel's corner, and a rectangle has
both of its corners' pixels.
"""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from salakseg.data.labels_draw import Area, Shape, bitmap, polygon, rectangle
from salakseg.data.labels_image import Labelled, no_area


def is_supervisely(content: Any) -> bool:
    """Whether this is what such a file holds."""
    return isinstance(content, dict) and "objects" in content and "size" in content


def read_supervisely(path: Path, content: dict[str, Any]) -> list[Labelled]:
    """Raises `InputError` for a shape without an area, others for damaged content."""
    shapes = []
    for one in content["objects"]:
        area = _area(one["geometryType"], one)
        if area is None:
            raise no_area(path, str(one["classTitle"]), one["geometryType"])
        shapes.append(Shape(str(one["classTitle"]), area))
    size = int(content["size"]["width"]), int(content["size"]["height"])
    return [Labelled(path, (path.stem,), size, shapes)]


def _area(kind: str, told: dict[str, Any]) -> Area | None:
    """None where the shape has none."""
    if kind == "bitmap":
        left, top = told["bitmap"]["origin"]
        data = zlib.decompress(base64.b64decode(told["bitmap"]["data"]))
        with Image.open(io.BytesIO(data)) as image:
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            inside = np.asarray(
                image.convert("RGBA").getchannel("A") if has_alpha else image.convert("L")
            )
        return bitmap(inside > 0, int(left), int(top))
    if kind == "polygon":
        points = told["points"]
        exterior, *holes = (
            np.array(ring, float) + 0.5 for ring in (points["exterior"], *points["interior"])
        )
        return polygon(exterior, holes)
    if kind == "rectangle":
        corners = np.array(told["points"]["exterior"], float)
        (left, top), (right, bottom) = corners.min(0), corners.max(0) + 1
        return rectangle(left, top, right, bottom)
    return None
