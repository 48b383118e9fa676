"""The pictures of one map: right at every pixel, in levels, and the same bytes each time."""

import base64
import io
import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from salakseg.mapping import scratch as scratch_module
from salakseg.mapping import view_files
from salakseg.mapping.areas import Areas, Ground
from salakseg.mapping.classify import Block
from salakseg.mapping.scratch import Scratch
from salakseg.mapping.view_files import read_view, write_view
from tests.mapping.samples import MAPPING, smooth_image


def filled(folder: Path, image: NDArray[Any], labels: NDArray[Any], rows: int = 77) -> Scratch:
    """A whole scratch of a map whose confidence is 60 %, where there is a class."""
    confidence = np.where(labels == 255, 255, 60).astype(np.uint8)
    half = image.shape[1] // 2 + 1
    blocks = (
        Block(row, column, labels[part], confidence[part], image[part], torch.zeros(3, 0, 0))
        for column, end in ((0, half), (half, image.shape[1]))
        for row in range(0, len(labels), rows)
        for part in [np.s_[row : row + rows, column:end]]
    )
    folder.mkdir()
    scratch = Scratch(folder, labels.shape, {}, np.zeros(1, np.uint32))
    for band in ("labels", "confidence", "image"):
        scratch.path(band).touch()
    for _ in scratch.keep(blocks):
        pass
    return scratch


def sample(height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    image = smooth_image(height, width)
    labels = image.argmax(2).astype(np.uint8)
    labels[: height // 3, : width // 4] = 255
    return image, labels


def write(folder: Path, scratch: Scratch, labels: NDArray[Any]) -> dict[str, Any]:
    areas = Areas(np.bincount(labels.ravel(), minlength=256)[:3], None)
    write_view(folder, scratch, MAPPING, areas, Ground("none"), 0.2, overviews=False)
    about = read_view(folder)
    assert about is not None
    return about


def script(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("salaksegData(")
    return json.loads(text[len("salaksegData(") : -2])


def picture(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(script(path))))


def put_together(folder: Path, level: int, rows: int, columns: int) -> NDArray[Any]:
    """The labels of a level."""
    return np.concatenate(
        [
            np.concatenate(
                [
                    np.asarray(picture(folder / f"classes-{level}-{row}-{column}.js"))[:512, :512]
                    for column in range(columns)
                ],
                1,
            )
            for row in range(rows)
        ]
    )


def test_a_small_map_is_one_picture(tmp_path: Path) -> None:
    image, labels = sample(300, 420)
    about = write(tmp_path / "view", filled(tmp_path / "scratch", image, labels), labels)
    assert sorted(path.name for path in (tmp_path / "view").iterdir()) == [
        "classes-0-0-0.js", "confidence.js", "image-0-0-0.jpg", "map.js", "thumbnail.jpg",
    ]  # fmt: skip
    np.testing.assert_array_equal(put_together(tmp_path / "view", 0, 1, 1), labels)
    shown = np.asarray(Image.open(tmp_path / "view" / "image-0-0-0.jpg"), np.int16)
    assert np.abs(shown - image).mean() < 12
    colours = np.asarray(picture(tmp_path / "view" / "classes-0-0-0.js").convert("RGBA"))
    np.testing.assert_array_equal(colours[..., 3], np.where(labels == 255, 0, 255))
    np.testing.assert_array_equal(colours[labels == 1][0, :3], MAPPING.colors[1])
    veil = np.asarray(picture(tmp_path / "view" / "confidence.js").convert("RGBA"))
    np.testing.assert_array_equal(veil[..., 3], np.where(labels == 255, 0, 102))
    assert (about["width"], about["height"], about["steps"]) == (420, 300, [1])
    assert (about["confidence"], about["far"], about["side"]) == (60, 0.2, None)
    assert about["classes"][1]["name"] == "green & blue"
    assert [one["pixels"] for one in about["classes"]] == np.bincount(labels.ravel())[:3].tolist()


def test_a_large_map_is_a_pyramid_of_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_files, "WHOLE_SIDE", 600)
    image, labels = sample(1100, 1501)
    about = write(tmp_path / "view", filled(tmp_path / "scratch", image, labels), labels)
    assert (about["steps"], about["tile"]) == ([1, 2, 4], 512)
    view = tmp_path / "view"
    np.testing.assert_array_equal(put_together(view, 0, 3, 3), labels)
    first = np.asarray(picture(view / "classes-0-0-0.js"))
    np.testing.assert_array_equal(first, labels[:513, :513])
    assert Image.open(view / "image-0-0-2.jpg").size == (1501 - 1024, 513)
    assert put_together(view, 1, 2, 2).shape == (550, 751)
    assert put_together(view, 2, 1, 1).shape == (275, 376)
    assert len(list(view.iterdir())) == 2 * (9 + 4 + 1) + 3
    for level, step, row, column in ((0, 1, 2, 2), (1, 2, 1, 1), (2, 4, 0, 0)):
        shown = np.asarray(Image.open(view / f"image-{level}-{row}-{column}.jpg"), np.int16)
        part = image[512 * step * row :, 512 * step * column :]
        assert shown.shape == (ceil(len(part) / step), ceil(part.shape[1] / step), 3)
        assert np.abs(shown - part[::step, ::step]).mean() < 30


def test_of_a_huge_map_the_finest_level_is_coarser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_files, "WHOLE_SIDE", 100)
    monkeypatch.setattr(scratch_module, "IMAGE_SIDE", 600)
    image, labels = sample(1100, 1501)
    scratch = filled(tmp_path / "scratch", image, labels)
    assert scratch.image_step == 4
    assert scratch.path("image").stat().st_size == 3 * 275 * 376
    about = write(tmp_path / "view", scratch, labels)
    assert about["steps"] == [4]
    assert put_together(tmp_path / "view", 0, 1, 1).shape == (275, 376)
    # Means of squares, but where they lie across two blocks.
    means = image[:1100, :1500].reshape(275, 4, 375, 4, 3).mean((1, 3))
    assert np.abs(scratch.image(0, 275, 4)[:, :375] - means).mean() < 2


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    image, labels = sample(300, 420)
    found = []
    for name in ("a", "b"):
        write(tmp_path / name, filled(tmp_path / f"scratch {name}", image, labels), labels)
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]


def test_a_map_of_nothing(tmp_path: Path) -> None:
    labels = np.full((30, 40), 255, np.uint8)
    scratch = filled(tmp_path / "scratch", np.zeros((30, 40, 3), np.uint8), labels)
    assert write(tmp_path / "view", scratch, labels)["confidence"] is None


def test_what_is_no_view_is_none(tmp_path: Path) -> None:
    assert read_view(tmp_path) is None
    for text in ("", "salaksegData({", "salaksegData([])\n", "salaksegData({})\n"):
        (tmp_path / "map.js").write_text(text)
        assert read_view(tmp_path) is None
