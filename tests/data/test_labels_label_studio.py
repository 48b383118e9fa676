"""Label Studio's JSON: polygons, rectangles, ellipses, brushes; names of uploaded files."""

from pathlib import Path
from typing import Any

import pytest

from salakseg.errors import InputError
from tests.data.labelling import drawn, read, write_json
from tests.data.test_labels_coco import MASK

# MASK, 7 rows of 5, as label-studio-converter's `encode_rle` packs it.
PACKED = [0, 0, 0, 140, 57, 27, 252, 224, 24, 143, 255, 9, 128, 71, 255, 132, 192, 35, 255, 194]
PACKED += [96, 19, 255, 219, 0, 159, 252]


def region(kind: str, size: tuple[int, int] = (60, 40), **value: Any) -> dict[str, Any]:
    return {
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": value,
        "id": "x",
        "from_name": "label",
        "to_name": "image",
        "type": kind,
    }


def task(*results: list[Any], image: str = "/data/upload/1/0a1b2c3d-a.jpg") -> dict[str, Any]:
    done = [{"id": n, "was_cancelled": False, "result": one} for n, one in enumerate(results)]
    return {"id": 1, "annotations": done, "data": {"image": image}}


def test_every_shape_that_has_an_area(tmp_path: Path) -> None:
    regions = [
        region("polygonlabels", points=[[0, 0], [50, 0], [50, 25]], polygonlabels=["Water"]),
        region(
            "rectanglelabels", x=50, y=50, width=10, height=25, rotation=0, rectanglelabels=["Road"]
        ),
        # Turned about its left upper corner, in pixels: 12 across and 4 down become 4 and 12.
        region(
            "rectanglelabels",
            x=20,
            y=50,
            width=20,
            height=10,
            rotation=90,
            rectanglelabels=["Road"],
        ),
        region(
            "ellipselabels", x=90, y=80, radiusX=5, radiusY=10, rotation=0, ellipselabels=["Road"]
        ),
        {"type": "choices", "value": {"choices": ["sunny"]}, "from_name": "c", "to_name": "image"},
    ]
    (one,) = read(write_json(tmp_path / "export.json", [task(regions)]))
    assert one.size == (60, 40) and one.names == ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg")
    rows = drawn(one.shapes)
    assert (rows[20:30, 30:36] == 0).all() and (rows[20:32, 8:12] == 0).all()
    assert (rows[:, 12:30][20:] == 255).all()
    assert abs((rows == 1).sum() - 150) < 8
    assert abs((rows == 0).sum() - 60 - 48 - 3.14 * 3 * 4) < 6


def test_brushes(tmp_path: Path) -> None:
    brush = region("brushlabels", (5, 7), format="rle", rle=PACKED, brushlabels=["Road"])
    (one,) = read(write_json(tmp_path / "export.json", [task([brush])]))
    assert (drawn(one.shapes, 5, 7) == 0).astype(int).tolist() == MASK


def test_the_last_annotation_counts_and_skipped_ones_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square = region("rectanglelabels", x=0, y=0, width=10, height=10, rectanglelabels=["Road"])
    other = region("rectanglelabels", x=0, y=0, width=20, height=10, rectanglelabels=["Road"])
    several = task([other], [square], [])
    several["annotations"][2]["was_cancelled"] = True
    (one,) = read(write_json(tmp_path / "e.json", [several]))
    assert (drawn(one.shapes) == 0).sum() == 24
    assert "1 image has several annotations" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/local-files/?d=flight%201/a.jpg", "flight 1/a.jpg"),
        ("s3://bucket/flight/a.jpg", "/flight/a.jpg"),
    ],
)
def test_names_of_images(tmp_path: Path, image: str, name: str) -> None:
    assert read(write_json(tmp_path / "e.json", [task([], image=image)]))[0].names == (name,)


def test_what_is_refused_by_name(tmp_path: Path) -> None:
    point = region("keypointlabels", x=1, y=1, width=1, keypointlabels=["Road"])
    with pytest.raises(InputError, match=r"Road of .*a\.jpg, a keypoint, has no area"):
        read(write_json(tmp_path / "e.json", [task([point])]))
    bare = region("rectangle", x=1, y=1, width=1, height=1)
    with pytest.raises(InputError, match="a rectangle without a label"):
        read(write_json(tmp_path / "e.json", [task([bare])]))
    turned = region("polygonlabels", points=[], polygonlabels=["Road"]) | {"image_rotation": 90}
    with pytest.raises(InputError, match="label it upright"):
        read(write_json(tmp_path / "e.json", [task([turned])]))


def test_labels_beside_the_tool(tmp_path: Path) -> None:
    """The tags Rectangle and Labels give a region twice."""
    place = {"x": 0, "y": 0, "width": 10, "height": 10}
    regions = [region("rectangle", **place), region("labels", **place, labels=["Road"])]
    (one,) = read(write_json(tmp_path / "e.json", [task(regions)]))
    assert [shape.name for shape in one.shapes] == ["Road"]
    several = region("rectanglelabels", **place, rectanglelabels=["Road", "Water"])
    with pytest.raises(InputError, match=r"of several classes \(Road, Water\)"):
        read(write_json(tmp_path / "e.json", [task([several])]))


def test_a_task_with_words_besides(tmp_path: Path) -> None:
    words = task([]) | {"data": {"note": "flown at 3.5 m", "image": "flight/a.JPG"}}
    assert read(write_json(tmp_path / "e.json", [words]))[0].names == ("flight/a.JPG",)


@pytest.mark.parametrize(
    "damaged",
    [
        region("brushlabels", rle=PACKED, brushlabels=["Road"]),  # of another size
        region("brushlabels", (5, 7), rle=PACKED[:20], brushlabels=["Road"]),
        region("brushlabels", (5, 7), rle=[], brushlabels=["Road"]),
        region("polygonlabels", points=[[0, 0]], polygonlabels=["Road"]),
        {"type": "polygonlabels"},
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damaged: Any) -> None:
    path = write_json(tmp_path / "e.json", [task([damaged])])
    with pytest.raises(InputError, match=r"e\.json: damaged, or no file of Label Studio \("):
        read(path)
