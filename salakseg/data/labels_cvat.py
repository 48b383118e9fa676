"""*CVAT for images*, an XML file: polygons, boxes, ellipses and brushed masks.

Lower `z_order` first, then the order of the file. Read here: Datumaro, the library beside CVAT,
brings some twenty packages, OpenCV and pyarrow among them.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from salakseg.data.labels_draw import (
    Area,
    Shape,
    bitmap,
    ellipse,
    polygon,
    rectangle,
    turned,
)
from salakseg.data.labels_image import Labelled, no_area
from salakseg.errors import InputError

# Of an image, and no shape.
ASIDE = ("tag", "attribute")


def read_cvat(path: Path, content: bytes) -> list[Labelled]:
    """Raises `InputError` for shapes without an area and for videos, others for damaged content."""
    root = ElementTree.fromstring(content)
    if root.tag != "annotations":
        raise ValueError(f"<{root.tag}> is none of CVAT's")
    if root.find("track") is not None:
        raise InputError(f"{path}: holds tracks of a video; export it as CVAT for images 1.1")
    found = []
    for image in root.iter("image"):
        drawn = [one for one in image if one.tag not in ASIDE]
        drawn.sort(key=lambda one: int(one.get("z_order", 0)))
        shapes = []
        for one in drawn:
            area = _area(one.tag, one.attrib)
            if area is None:
                raise no_area(path, one.attrib["label"], one.tag, image.attrib["name"])
            shapes.append(Shape(one.attrib["label"], area))
        size = int(image.attrib["width"]), int(image.attrib["height"])
        found.append(Labelled(path, (image.attrib["name"],), size, shapes))
    return found


def _area(kind: str, told: dict[str, str]) -> Area | None:
    """None where the shape has none."""

    def numbers(*names: str) -> list[float]:
        return [float(told[name]) for name in names]

    turn = float(told.get("rotation", 0))
    if kind == "polygon":
        return polygon([point.split(",") for point in told["points"].split(";")])
    if kind == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        area = rectangle(left, top, right, bottom)
        return turned(area, turn, (left + right) / 2, (top + bottom) / 2)
    if kind == "ellipse":
        x, y, across, down = numbers("cx", "cy", "rx", "ry")
        return turned(ellipse(x, y, across, down), turn, x, y)
    if kind == "mask":
        left, top, width, height = map(int, numbers("left", "top", "width", "height"))
        runs = [int(run) for run in told["rle"].split(",")]
        if min(runs) < 0 or sum(runs) != width * height:
            raise ValueError(f"run lengths that do not fill {width}×{height} pixels")
        # Along the rows, outside first.
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return bitmap(inside.reshape(height, width), left, top)
    return None
