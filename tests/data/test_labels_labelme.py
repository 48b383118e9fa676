"""Labelme's JSON: every tool that draws an area, groups, and what has none."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salakseg.errors import InputError
from tests.data.labelling import drawn, read, write_json


def shape(label: str, kind: str | None, points: Any, group: int | None = None, **more: Any) -> Any:
    told = {"label": label, "points": points, "group_id": group, "flags": {}} | more
    return told | ({"shape_type": kind} if kind else {})


def labelme(path: Path, *shapes: Any) -> Path:
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imageData": None}
    content |= {"imagePath": "..\\images\\a.png", "imageWidth": 60, "imageHeight": 40}
    return write_json(path, content)


def test_every_tool_that_draws_an_area(tmp_path: Path) -> None:
    mask = io.BytesIO()
    Image.new("1", (5, 4), 1).save(mask, "PNG")
    path = labelme(
        tmp_path / "a.json",
        shape("Water", "polygon", [[2, 2], [10, 2], [10, 10], [2, 10]]),
        shape("Road", "rectangle", [[20, 10], [12, 2]]),
        shape("Water", "circle", [[30, 10], [30, 5]]),
        shape("Road", "mask", [[2, 12], [6, 15]], mask=base64.b64encode(mask.getvalue()).decode()),
        shape("Road", None, [[12, 12], [15, 12], [15, 15], [12, 15]]),
        shape("Road", "oriented_rectangle", [[40, 20], [50, 20], [50, 24], [40, 24]]),
    )
    (one,) = read(path)
    assert one.names == ("..\\images\\a.png", "a") and one.size == (60, 40)
    rows = drawn(one.shapes)
    assert (rows[2:10, 2:10] == 1).all() and (rows[2:10, 12:20] == 0).all()
    assert (rows[12:16, 2:7] == 0).all() and (rows[20:24, 40:50] == 0).all()
    assert (rows == 0).sum() == 64 + 20 + 9 + 40
    down, across = np.indices(rows.shape) + 0.5
    distance = np.hypot(down - 10, across - 30)
    assert (rows[distance < 4.9] == 1).all()
    assert (rows[(distance > 5) & (across > 21)] != 1).all()


def test_in_a_group_what_lies_wholly_inside_is_a_hole(tmp_path: Path) -> None:
    path = labelme(
        tmp_path / "a.json",
        shape("Water", "rectangle", [[0, 0], [20, 20]], 1),
        shape("Water", "rectangle", [[5, 5], [10, 10]], 1),
        shape("Water", "rectangle", [[15, 0], [30, 10]], 1),
        shape("Water", "rectangle", [[40, 0], [50, 10]], 2),
        shape("Water", "rectangle", [[42, 2], [44, 4]], None),
    )
    rows = drawn(read(path)[0].shapes)
    assert (rows[5:10, 5:10] == 255).all() and rows[2, 43] == 0
    assert (rows == 0).sum() == 400 - 25 + 100 + 100


def test_in_a_group_what_was_drawn_twice_is_no_hole(tmp_path: Path) -> None:
    square = [[0, 0], [20, 0], [20, 20], [0, 20]]
    shapes = [shape("Road", "polygon", square, 1), shape("Road", "polygon", square[::-1], 1)]
    (one,) = read(labelme(tmp_path / "a.json", *shapes))
    assert (drawn(one.shapes) == 0).sum() == 400


@pytest.mark.parametrize("kind", ["line", "linestrip", "point"])
def test_what_has_no_area_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = labelme(tmp_path / "a.json", shape("Road", kind, [[0, 0], [9, 9]]))
    with pytest.raises(InputError, match=rf"a\.json: Road, a {kind}, has no area"):
        read(path)


@pytest.mark.parametrize(
    "damaged",
    [
        shape("Road", "polygon", [[0, 0], [9, 9]]),
        shape("Road", "mask", [[0, 0], [9, 9]], mask="????"),
        {"label": "Road"},
        "Road",
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damaged: Any) -> None:
    path = labelme(tmp_path / "a.json", damaged)
    with pytest.raises(InputError, match=r"a\.json: damaged, or no file of Labelme \(") as error:
        read(path)
    assert "\n" not in str(error.value)
