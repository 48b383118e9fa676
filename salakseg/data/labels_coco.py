"""COCO's JSON: polygons, and run lengths (RLE) as numbers or as text.

Read here: pycocotools decodes the same run lengths, in C for each platform, and rounds polygons to
a fifth of a pixel; Datumaro and supervision bring some twenty packages.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.data.labels_draw import Shape, bitmap, polygon
from salakseg.data.labels_image import Labelled, no_area


def is_coco(content: Any) -> bool:
    """Whether this is what such a file holds."""
    return isinstance(content, dict) and "images" in content and "annotations" in content


def read_coco(path: Path, content: dict[str, Any]) -> list[Labelled]:
    """Raises `InputError` for boxes and points alone, others for damaged content."""
    names = {one["id"]: str(one["name"]) for one in content["categories"]}
    images = {one["id"]: one for one in content["images"]}
    sizes = {number: (int(one["width"]), int(one["height"])) for number, one in images.items()}
    shapes: dict[Any, list[Shape]] = defaultdict(list)
    for one in content["annotations"]:
        name, drawn = names[one["category_id"]], one.get("segmentation")
        if not drawn:
            kind = "keypoint" if one.get("keypoints") else "box without a segmentation"
            raise no_area(path, name, kind, f"annotation {one['id']}")
        if isinstance(drawn, dict):
            inside = decoded(drawn)
            size = sizes.get(one["image_id"], inside.shape[::-1])
            if inside.shape[::-1] != size:
                raise ValueError(
                    f"annotation {one['id']}: run lengths of {inside.shape[1]}×{inside.shape[0]} "
                    f"pixels in an image of {size[0]}×{size[1]}"
                )
            shapes[one["image_id"]].append(Shape(name, bitmap(inside)))
        else:
            for points in drawn:
                ring = np.array(points, float).reshape(-1, 2)
                shapes[one["image_id"]].append(Shape(name, polygon(ring)))
    if lost := shapes.keys() - images.keys():
        raise ValueError(f"annotations of image {min(lost)}, which is not in it")
    return [
        Labelled(path, (str(one["file_name"]),), sizes[number], shapes[number])
        for number, one in images.items()
    ]


def decoded(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """Run lengths, down the columns from the left, outside first → bool (H, W)."""
    height, width = (int(side) for side in rle["size"])
    counts = rle["counts"]
    runs = np.array(_numbers(counts) if isinstance(counts, str) else counts, np.int64)
    if len(runs) and (runs.min() < 0 or runs.sum() != height * width):
        raise ValueError(f"run lengths that do not fill {width}×{height} pixels")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(width, height).T


def _numbers(text: str) -> list[int]:
    """Six bits a character, of which five are a number's, lowest first; from the fourth number on,
    differences to the one before the last."""
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} in run lengths")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = shift = 0
    return runs
