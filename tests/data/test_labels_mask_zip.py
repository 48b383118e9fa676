"""Masks that CVAT exports with a table of their colours, in archives and folders."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from salakseg.errors import InputError
from tests.data.labelling import HEIGHT, WIDTH, drawn, labels_after, photo, read

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nKebun: A:1,2,3::\nAir:0,0,255::\n"
CAMVID = "0 0 0 Void\n1 2 3 Kebun: A\n0 0 255 Air\n"
COLORS = np.array([(0, 0, 0), (1, 2, 3), (0, 0, 255)], np.uint8)


def numbers() -> NDArray[np.uint8]:
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[2:9, 30:50], found[7:11, 3:40] = 1, 2
    return found


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def mask(mode: str) -> bytes:
    if mode == "L":
        return png(Image.fromarray(numbers()))
    if mode == "P":
        image = Image.fromarray(numbers()).convert("P")
        image.putpalette(COLORS.tobytes())
        return png(image)
    return png(Image.fromarray(COLORS[numbers()]))


def content(kind: str, mode: str = "RGB") -> dict[str, bytes]:
    if kind == "CamVid 1.0":
        table, folder = {"label_colors.txt": CAMVID.encode()}, "defaultannot"
        table["default.txt"] = b"/default/a.png /defaultannot/a.png\n"
    else:
        table, folder = {"labelmap.txt": LABELMAP.encode()}, "SegmentationClass"
        table["ImageSets/Segmentation/default.txt"] = b"flight/a\n"
        table["SegmentationObject/flight/a.png"] = png(Image.new("RGB", (WIDTH, HEIGHT), "red"))
    return table | {f"{folder}/flight/a.png": mask(mode)}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
@pytest.mark.parametrize("kind", ["Segmentation mask 1.1", "CamVid 1.0"])
def test_archives_hold_what_was_drawn(tmp_path: Path, kind: str, mode: str) -> None:
    (one,) = read(archive(tmp_path / "job.zip", content(kind, mode)))
    assert (one.names, one.size) == (("flight/a.png",), (WIDTH, HEIGHT))
    assert [shape.name for shape in one.shapes] == ["Kebun: A", "Air"]
    # `drawn` counts the names by the alphabet.
    assert np.array_equal(drawn(one.shapes), np.array([255, 1, 0], np.uint8)[numbers()])


@pytest.mark.parametrize("below", ["", "job"])
def test_unpacked_they_are_the_same_masks(tmp_path: Path, below: str) -> None:
    photo(tmp_path / "data" / "images" / "a.jpg")
    archive(tmp_path / "job.zip", content("Segmentation mask 1.1"))
    with zipfile.ZipFile(tmp_path / "job.zip") as file:
        file.extractall(tmp_path / "drawn" / below)
    names = labels_after(tmp_path / "data", tmp_path / "out", tmp_path / "drawn")
    assert np.array_equal(names, np.array(["", "Kebun: A", "Air"], object)[numbers()])


def roboflow(mode: str) -> dict[str, bytes]:
    table = b"Pixel Value, Class\n0, background\n2, Air\n1, Kebun: A\n"
    return {
        "train/_classes.csv": table,
        "train/a_jpg.rf.1f.jpg": b"",
        "train/a_jpg.rf.1f_mask.png": mask(mode),
        "valid/_classes.csv": table,
        "valid/b_jpg.rf.2e_mask.png": mask("L"),
        "test/_classes.csv": table,
        "README.roboflow.txt": b"",
    }


@pytest.mark.parametrize("mode", ["L", "P"])
def test_roboflows_masks_are_by_their_numbers(tmp_path: Path, mode: str) -> None:
    first, second = read(archive(tmp_path / "farm.zip", roboflow(mode)))
    assert (first.names, second.names) == (("a_jpg.rf.1f",), ("b_jpg.rf.2e",))
    for one in first, second:
        assert [shape.name for shape in one.shapes] == ["Kebun: A", "Air"]
        assert np.array_equal(drawn(one.shapes), np.array([255, 1, 0], np.uint8)[numbers()])


def test_roboflows_folders_are_the_same(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "images" / "a_jpg.rf.1f.jpg")
    archive(tmp_path / "farm.zip", roboflow("L"))
    with zipfile.ZipFile(tmp_path / "farm.zip") as file:
        file.extractall(tmp_path / "farm")
    names = labels_after(tmp_path / "data", tmp_path / "out", tmp_path / "farm")
    assert np.array_equal(names, np.array(["", "Kebun: A", "Air"], object)[numbers()])


def test_a_mask_of_colours_where_the_table_has_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a_jpg\.rf\.1f_mask\.png: has colours \(RGB\)"):
        read(archive(tmp_path / "farm.zip", roboflow("RGB")))


def test_a_class_that_is_black_is_a_class(tmp_path: Path) -> None:
    files = content("Segmentation mask 1.1")
    files["labelmap.txt"] = LABELMAP.replace("background", "Tanah").encode()
    (one,) = read(archive(tmp_path / "job.zip", files))
    assert [shape.name for shape in one.shapes] == ["Tanah", "Kebun: A", "Air"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("background:0,0,0::\nAir:0,0,255::\n", r"\(1, 2, 3\) is not in its table"),
        ("background:0,0::\n", "not enough values"),
        ("background\n", "not enough values"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, table: str, said: str) -> None:
    files = content("Segmentation mask 1.1") | {"labelmap.txt": table.encode()}
    whole = rf"job\.zip: damaged, or no file of masks with a table \(.*{said}"
    with pytest.raises(InputError, match=whole):
        read(archive(tmp_path / "job.zip", files))


def test_a_table_without_masks_is_none(tmp_path: Path) -> None:
    files = {"labelmap.txt": LABELMAP.encode(), "masks/a.png": mask("RGB")}
    with pytest.raises(InputError, match="no labels in a known format"):
        read(archive(tmp_path / "job.zip", files))
