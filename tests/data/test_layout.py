from pathlib import Path

import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from salakseg.data.layout import (
    LAYOUT_COLUMNS,
    LayoutRow,
    georeference,
    georeference_words,
    read_layout,
    read_places,
    read_whole_layout,
    write_layout,
)
from salakseg.errors import InputError

NEEDED = ("base_image", "x", "pixel_size")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["patch,base_image,x,pixel_size", *lines]), encoding="utf-8-sig")
    return path


def test_a_row_of_each_patch(tmp_path: Path) -> None:
    path = write(tmp_path / "layout.csv", "a_000,a,0,", "a_001,a,64,0.03")
    assert read_layout(path, NEEDED) == {
        "a_000": {"patch": "a_000", "base_image": "a", "x": "0", "pixel_size": ""},
        "a_001": {"patch": "a_001", "base_image": "a", "x": "64", "pixel_size": "0.03"},
    }


@pytest.mark.parametrize(
    ("row", "needed"),
    [
        ("a_000,a,left,", NEEDED),  # no number
        ("a_000,a,0,wide", NEEDED),
        ("a_000,a", NEEDED),  # cut off
        ("a_000,a,0,", (*NEEDED, "crs")),  # a column less
    ],
)
def test_damage_is_told_with_the_file_and_what_to_do(
    tmp_path: Path, row: str, needed: tuple[str, ...]
) -> None:
    path = write(tmp_path / "layout.csv", row)
    with pytest.raises(InputError, match=r"layout\.csv: damaged .*salakseg patchify"):
        read_layout(path, needed)


def test_what_is_not_needed_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "layout.csv", "a_000,a,left,wide")
    assert read_layout(path, ("base_image",))["a_000"]["base_image"] == "a"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path, place = tmp_path / "layout.csv", (1, 2, 128, 64, 64, 64, 192, 128)
    row = LayoutRow("a_patch_001_002", "a", *place, "0.0275", "", "", "images/a.tif")
    write_layout(path, [row])
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(LAYOUT_COLUMNS)
    assert read_whole_layout(path) == [row]
    assert read_places(path) == {row.patch: ("a", 1, 2, 128, 64, 0.0275, None)}
    wide = row._replace(patch="b", pixel_size="", white_level=4095)
    write_layout(path, [row, wide])
    assert path.read_text(encoding="utf-8").splitlines()[0].endswith(",white_level")
    assert read_whole_layout(path) == [row, wide._replace(white_level="4095")]
    assert read_places(path)["b"] == ("a", 1, 2, 128, 64, None, 4095)


def test_where_the_image_lies_goes_into_words_and_back(tmp_path: Path) -> None:
    crs, transform = CRS.from_epsg(32748), from_origin(400000, 9150000, 0.1, 0.1)
    words = georeference_words(crs, transform)
    assert words == ("EPSG:32748", "0.1 0.0 400000.0 0.0 -0.1 9150000.0")
    row = dict(zip(("crs", "transform"), words, strict=True))
    assert georeference(row, tmp_path) == (crs, transform)
    assert georeference_words(None, transform) == ("", "")
    assert georeference({"crs": "", "transform": ""}, tmp_path) == (None, None)
    with pytest.raises(InputError, match="layout"):
        georeference({"crs": "nowhere"}, tmp_path / "layout.csv")
