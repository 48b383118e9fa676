"""Labelme's JSON, one file an image.

Points are in pixels from the left upper corner. Shapes of one label and group are one thing; of
these a polygon that lies wholly inside another one is a hole in it. Labelme's own package draws
outlines too, which makes every area half a pixel larger all around, and needs Qt's window.
"""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image

from salakseg.data.labels_draw import Area, Shape, bitmap, ellipse, polygon, rectangle
from salakseg.data.labels_image import Labelled, no_area


def is_labelme(content: Any) -> bool:
    """Whether this is what such a file holds."""
    return isinstance(content, dict) and "shapes" in content


def read_labelme(path: Path, content: dict[str, Any]) -> list[Labelled]:
    """Raises `InputError` for a shape without an area, others for damaged content."""
    shapes: list[Shape] = []
    groups: dict[tuple[str, Any], int] = {}
    for one in content["shapes"]:
        name, kind = str(one["label"]), one.get("shape_type") or "polygon"
        area = _area(kind, one)
        if area is None:
            raise no_area(path, name, kind)
        key = name, one.get("group_id")
        if key[1] is not None and key in groups and isinstance(area, shapely.MultiPolygon):
            place = groups[key]
            before = shapes[place].area
            assert isinstance(before, shapely.MultiPolygon)
            shapes[place] = Shape(name, _grouped(before, area))
            continue
        if isinstance(area, shapely.MultiPolygon):
            groups[key] = len(shapes)
        shapes.append(Shape(name, area))
    names = (str(content.get("imagePath") or path.name), path.stem)
    size = int(content["imageWidth"]), int(content["imageHeight"])
    return [Labelled(path, names, size, shapes)]


def _area(kind: str, shape: dict[str, Any]) -> Area | None:
    """None where the shape has none."""
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind in ("polygon", "oriented_rectangle"):
        return polygon(points)
    if kind in ("rectangle", "mask"):
        (left, right), (top, bottom) = (sorted(side) for side in zip(*points, strict=True))
        if kind == "rectangle":
            return rectangle(left, top, right, bottom)
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            return bitmap(np.asarray(image.convert("L")) > 0, round(left), round(top))
    if kind == "circle":
        centre, rim = points
        radius = math.dist(centre, rim)
        return ellipse(*centre, radius, radius)
    return None


def _grouped(one: shapely.MultiPolygon, other: shapely.MultiPolygon) -> shapely.MultiPolygon:
    """Both, or the larger one with the other as a hole; one that was drawn twice is none."""
    one, other = (shapely.make_valid(area) for area in (one, other))
    inside = (one.contains(other) or other.contains(one)) and not one.equals(other)
    both = one.symmetric_difference(other) if inside else one.union(other)
    parts = shapely.get_parts(both)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])
