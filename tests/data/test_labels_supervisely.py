"""Supervisely's JSON: bitmaps, polygons with holes, rectangles."""

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salakseg.errors import InputError
from tests.data.labelling import drawn, read, write_json


def figure(name: str, kind: str, exterior: Any = (), interior: Any = (), **more: Any) -> Any:
    points = {"exterior": list(exterior), "interior": list(interior)}
    return {"classTitle": name, "geometryType": kind, "points": points, "tags": []} | more


def supervisely(path: Path, *objects: Any) -> Path:
    size = {"height": 40, "width": 60}
    return write_json(path, {"description": "", "tags": [], "size": size, "objects": list(objects)})


@pytest.mark.parametrize("mode", ["RGBA", "1"])
def test_every_shape_that_has_an_area(tmp_path: Path, mode: str) -> None:
    inside = np.random.default_rng(0).random((9, 7)) > 0.5
    grey = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
    picture = grey.convert("1")
    if mode == "RGBA":
        picture = Image.merge("RGBA", [grey, grey, grey, grey])
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    path = supervisely(
        tmp_path / "ann" / "a.jpg.json",
        figure("Water", "bitmap", bitmap={"data": data, "origin": [40, 20]}),
        figure("Road", "rectangle", [[2, 3], [9, 5]]),
        figure(
            "Road",
            "polygon",
            [[10, 10], [30, 10], [30, 30], [10, 30]],
            [[[15, 15], [20, 15], [20, 20], [15, 20]]],
        ),
    )
    (one,) = read(path)
    assert one.names == ("a.jpg",) and one.size == (60, 40)
    rows = drawn(one.shapes)
    assert np.array_equal(rows[20:29, 40:47] == 1, inside) and (rows == 1).sum() == inside.sum()
    assert (rows[3:6, 2:10] == 0).all()
    assert (rows[11:30, 11:15] == 0).all() and (rows[16:20, 16:20] == 255).all()
    # A line through centres has half of its pixels.
    assert abs((rows == 0).sum() - (24 + 400 - 25)) <= 10


def test_what_has_no_area_is_refused_by_name(tmp_path: Path) -> None:
    path = supervisely(tmp_path / "a.jpg.json", figure("Road", "line", [[0, 0], [1, 1]]))
    with pytest.raises(InputError, match=r"a\.jpg\.json: Road, a line, has no area"):
        read(path)


@pytest.mark.parametrize(
    "damaged",
    [
        figure("Road", "bitmap", bitmap={"data": "eJwDAA", "origin": [0, 0]}),
        figure("Road", "bitmap"),
        figure("Road", "polygon", [[0, 0]]),
        {},
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damaged: Any) -> None:
    with pytest.raises(InputError, match=r"json: damaged, or no file of Supervisely \("):
        read(supervisely(tmp_path / "a.jpg.json", damaged))
