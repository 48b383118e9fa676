"""Label Studio's export *JSON*: polygons, rectangles, ellipses and brushes.

Places are in percent of the image. A brush is packed as RGBA, of which alpha is drawn. Read here:
label-studio-converter, which unpacks them bit by bit, brings 22 packages.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from salakseg.console import console
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
from salakseg.data.problems import plural
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES

# What it puts before the names of files that are uploaded.
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.DOTALL)
# Of a region or of the image, and no shape.
ASIDE = ("choices", "textarea", "rating", "number", "taxonomy", "labels", "pairwise", "datetime")


def is_label_studio(content: Any) -> bool:
    """Whether this is what such a file holds."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(one, dict) and "data" in one for one in content)
    )


def read_label_studio(path: Path, content: list[dict[str, Any]]) -> list[Labelled]:
    """Raises `InputError` for shapes without an area or of turned images, others for damaged
    content."""
    found, several = [], 0
    for task in content:
        if "annotations" not in task:
            raise ValueError("a task without annotations; export as JSON")
        done = [one for one in task["annotations"] if not one.get("was_cancelled")]
        several += len(done) > 1
        names = _names(task)
        size, shapes = None, []
        result = done[-1]["result"] if done else []
        # Of the tag Labels beside a tool without any: the same region once more.
        beside = {one["id"]: one["value"]["labels"] for one in result if one["type"] == "labels"}
        for one in result:
            if one["type"] in ASIDE or one["type"] == "relation":
                continue
            if one.get("image_rotation"):
                raise InputError(f"{path}: {names[0]} was turned in Label Studio; label it upright")
            size = int(one["original_width"]), int(one["original_height"])
            value = one["value"]
            # A shape without a label has the type of its tool.
            own = value.get(one["type"]) if one["type"].endswith("labels") else None
            called = own or beside.get(one.get("id"))
            if not called:
                raise InputError(f"{path}: {names[0]} has a {one['type']} without a label")
            if len(called) > 1:
                raise InputError(
                    f"{path}: {names[0]} has a {one['type']} of several classes "
                    f"({', '.join(map(str, called))}); a pixel has one: choose it"
                )
            area = _area(one["type"].removesuffix("labels"), value, *size)
            if area is None:
                raise no_area(path, str(called[0]), one["type"].removesuffix("labels"), names[0])
            shapes.append(Shape(str(called[0]), area))
        found.append(Labelled(path, names, size, shapes))
    if several:
        console.print(
            f"{path}: {plural(several, 'image has', 'images have')} several annotations: the last "
            "of each is taken"
        )
    return found


def _names(task: dict[str, Any]) -> tuple[str, ...]:
    """The image of a task, as it was called before and after it was uploaded."""
    data = [value for value in task["data"].values() if isinstance(value, str)]
    suffixes = {one: PurePosixPath(_path_of(one)).suffix.lower() for one in data}
    # A task may hold words besides, with a point in them.
    named = sorted(filter(suffixes.get, data), key=lambda one: suffixes[one] not in IMAGE_SUFFIXES)
    url = next(iter(named), "")
    if not url:
        raise ValueError(f"task {task.get('id')} names no image")
    name = _path_of(url)
    uploaded = UPLOADED.fullmatch(PurePosixPath(name).name)
    return (name, uploaded[1]) if uploaded else (name,)


def _path_of(url: str) -> str:
    """`/data/local-files/?d=flight/a.jpg` → `flight/a.jpg`; of others the path."""
    parts = urlsplit(url)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _area(kind: str, value: dict[str, Any], width: int, height: int) -> Area | None:
    """None where the shape has none."""
    across, down = width / 100, height / 100
    if kind == "polygon":
        return polygon(np.array(value["points"], float) * (across, down))
    if kind == "brush":
        return bitmap(unpacked_rle(value["rle"]).reshape(height, width, 4)[..., 3] > 0)
    if kind not in ("rectangle", "ellipse"):
        return None
    x, y = value["x"] * across, value["y"] * down
    if kind == "rectangle":
        area = rectangle(x, y, x + value["width"] * across, y + value["height"] * down)
    else:
        area = ellipse(x, y, value["radiusX"] * across, value["radiusY"] * down)
    return turned(area, value.get("rotation") or 0, x, y)


def unpacked_rle(packed: list[int]) -> NDArray[np.uint8]:
    """What `@thi.ng/rle-pack` packed: a count, the bits of a word and of four lengths of runs; then
    runs, each of one word or of as many as it is long."""
    bits = np.unpackbits(np.array(packed, np.uint8))
    text = bits.tobytes().translate(bytes([48, 49]) + bytes(254)).decode()
    place = 0

    def number(length: int) -> int:
        nonlocal place
        place += length
        return int(text[place - length : place], 2)

    count, word = number(32), number(5) + 1
    lengths = [number(4) + 1 for _ in range(4)]
    out = np.zeros(count, np.uint8)
    done = 0
    while done < count:
        same, length = number(1), number(lengths[number(2)]) + 1
        if same:
            out[done : done + length] = number(word)
        else:
            words = bits[place : place + length * word].reshape(length, word)
            out[done : done + length] = words @ (1 << np.arange(word - 1, -1, -1))
            place += length * word
        done += length
    return out
