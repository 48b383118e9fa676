"""CVAT for images: polygons, boxes, ellipses, masks, and their order."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from salakseg.errors import InputError
from tests.data.labelling import drawn, read

SHAPES = """
    <tag label="cloudy" source="manual"></tag>
    <polygon label="Water" source="manual" occluded="0" points="0.0,0.0;10.0,0.0;10.0,10.0;0.0,10.0"
      z_order="1"><attribute name="deep">no</attribute></polygon>
    <box label="Road" source="manual" occluded="0" xtl="5" ytl="5" xbr="20" ybr="15" z_order="0"/>
    <box label="Road" xtl="30" ytl="0" xbr="40" ybr="4" rotation="90" z_order="0"/>
    <ellipse label="Water" cx="50" cy="30" rx="8" ry="3" rotation="90" z_order="0"/>
    <mask label="Road" source="manual" occluded="0" rle="1, 2, 1, 2" left="2" top="30" width="3"
      height="2" z_order="0"/>
"""


def cvat(path: Path, shapes: str = SHAPES) -> Path:
    text = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        "<labels><label><name>Water</name></label></labels></task></meta>"
        f'<image id="0" name="flight/a.jpg" width="60" height="40">{shapes}</image></annotations>'
    )
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations.xml", text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["annotations.xml", "job.zip"])
def test_every_shape_that_has_an_area(tmp_path: Path, name: str) -> None:
    (one,) = read(cvat(tmp_path / name))
    assert one.names == ("flight/a.jpg",) and one.size == (60, 40)
    rows = drawn(one.shapes)
    assert (rows[:10, :10] == 1).all()  # above the box, by z_order
    assert (rows[10:15, 5:20] == 0).all() and (rows[5:10, 10:20] == 0).all()
    assert (rows[0:7, 33:37] == 0).all() and (rows[:, 38:40] == 255).all()  # cut off at the edge
    assert rows[30:32, 2:5].tolist() == [[255, 0, 0], [255, 0, 0]]
    down, across = np.indices(rows.shape) + 0.5
    inside = ((across - 50) / 3) ** 2 + ((down - 30) / 8) ** 2
    assert (rows[inside < 0.95] == 1).all() and (rows[(inside > 1) & (across > 40)] == 255).all()


@pytest.mark.parametrize("kind", ["polyline", "points"])
def test_what_has_no_area_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = cvat(tmp_path / "a.xml", f'<{kind} label="Road" points="1,1;2,2" z_order="0"/>')
    with pytest.raises(InputError, match=rf"Road of flight/a\.jpg, a {kind}, has no area"):
        read(path)


def test_videos_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<annotations><track id="0" label="x"/></annotations>', encoding="utf-8")
    with pytest.raises(InputError, match="export it as CVAT for images"):
        read(path)


@pytest.mark.parametrize(
    "damaged",
    [
        '<mask label="Road" rle="1,2" left="2" top="3" width="3" height="2" z_order="0"/>',
        '<polygon label="Road" points="1,1;2,2" z_order="0"/>',
        '<polygon label="Road" z_order="0"/>',
        "<polygon",
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damaged: str) -> None:
    with pytest.raises(InputError, match=r"a\.xml: damaged, or no file of CVAT for images \("):
        read(cvat(tmp_path / "a.xml", damaged))
