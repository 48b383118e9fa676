"""COCO's JSON: polygons and both kinds of run lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salakseg.data.labels_coco import decoded
from salakseg.errors import InputError
from tests.data.labelling import drawn, read, write_json

# As pycocotools' `encode` writes it.
MASK = [
    [0, 0, 1, 1, 1],
    [1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0],
    [0, 1, 0, 0, 0],
    [0, 0, 1, 0, 0],
    [0, 0, 0, 1, 1],
    [0, 0, 0, 1, 1],
]
ENCODED = "125OL021OO01120N"


def coco(path: Path, *segmentations: Any, **more: Any) -> Path:
    annotations = [
        {"id": number, "image_id": 3, "category_id": 1 + number % 2, "segmentation": one}
        | {"iscrowd": int(isinstance(one, dict)), "area": 1.0, "bbox": [0, 0, 1, 1]}
        for number, one in enumerate(segmentations)
    ]
    content = {
        "images": [
            {"id": 3, "file_name": "flight/a.jpg", "width": 60, "height": 40},
            {"id": 4, "file_name": "b.jpg", "width": 60, "height": 40},
        ],
        "annotations": annotations,
        "categories": [
            {"id": 0, "name": "things", "supercategory": "none"},
            {"id": 1, "name": "Water", "supercategory": "things"},
            {"id": 2, "name": "Road", "supercategory": "things"},
        ],
    }
    return write_json(path, content | more)


def test_run_lengths_are_what_pycocotools_makes_them() -> None:
    inside = decoded({"counts": ENCODED, "size": [7, 5]})
    assert inside.astype(int).tolist() == MASK


def runs_of(inside: np.ndarray) -> list[int]:
    """Uncompressed run lengths, down the columns, outside first."""
    flat = np.concatenate([[False], inside.T.ravel()])
    edges = np.flatnonzero(np.diff(flat.astype(int))) if len(flat) else []
    return np.diff([0, *edges, inside.size]).tolist()


def test_polygons_and_run_lengths(tmp_path: Path) -> None:
    inside = np.random.default_rng(0).random((40, 60)) > 0.9
    inside[:, :20] = False
    square = [[0, 0, 10, 0, 10, 10, 0, 10], [5, 5, 15, 5, 15, 15, 5, 15]]
    path = coco(tmp_path / "c.json", square, {"counts": runs_of(inside), "size": [40, 60]})
    one, other = read(path)
    assert one.names == ("flight/a.jpg",) and one.size == (60, 40) and other.shapes == []
    rows = drawn(one.shapes)
    assert np.array_equal(rows == 0, inside)
    assert (rows == 1).sum() == 100 + 100 - 25  # parts that overlap are one


def test_boxes_alone_are_refused_by_name(tmp_path: Path) -> None:
    path = coco(tmp_path / "c.json", [])
    with pytest.raises(InputError, match="Water of annotation 0, a box without a segmentation"):
        read(path)


@pytest.mark.parametrize(
    "damaged",
    [
        {"counts": [3, 4], "size": [40, 60]},
        {"counts": [-1, 2401], "size": [40, 60]},
        {"counts": "~", "size": [40, 60]},
        {"counts": "1", "size": [40, 60]},
        [[0, 0, 1]],
        [[0, 0, 1, 1]],
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damaged: Any) -> None:
    with pytest.raises(InputError, match=r"c\.json: damaged, or no file of COCO \("):
        read(coco(tmp_path / "c.json", damaged))


def test_run_lengths_of_another_size(tmp_path: Path) -> None:
    runs = {"counts": ENCODED, "size": [7, 5]}
    with pytest.raises(InputError, match="run lengths of 5×7 pixels in an image of 60×40"):
        read(coco(tmp_path / "c.json", runs))


def test_a_class_or_an_image_that_is_not_in_the_file(tmp_path: Path) -> None:
    square = [[0, 0, 10, 0, 10, 10]]
    with pytest.raises(InputError, match="no file of COCO"):
        read(coco(tmp_path / "c.json", square, categories=[]))
    with pytest.raises(InputError, match="image 3, which is not in it"):
        read(coco(tmp_path / "c.json", square, images=[]))
