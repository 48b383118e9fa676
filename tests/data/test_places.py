"""Patches that say themselves where they lie."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp

from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.places import boxes_in
from salakseg.data.shards import read_shards
from salakseg.data.shards_pack import shard
from salakseg.errors import InputError
from tests.data.samples import problems

SIDE = 32
Name = Callable[[str, int, int], str]


def write(path: Path, bands: np.ndarray, x: float, y: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(0.1, 0, x, 0, -0.1, y)}
    shape = (SIDE, SIDE, len(bands))
    with rasterio.open(path, "w", "GTiff", *shape, dtype="uint8", **place) as file:
        file.write(bands)


def draw(name: Name, step: int = SIDE, masks_off: float = 0, images_off: float = 0) -> Path:
    """Two images, 2 × 3 patches each, with masks of two classes."""
    draws = np.random.default_rng(0)
    data = Path("DATA")
    for place, base in enumerate("ab"):
        for row in range(2):
            for column in range(3):
                stem = name(base, row, column)
                x = 5e5 + 1000 * place + 0.1 * column * step + images_off * column
                y = 4e6 - 0.1 * row * step
                image = draws.integers(0, 255, (3, SIDE, SIDE)).astype(np.uint8)
                write(data / f"images/{stem}.tif", image, x, y)
                mask = draws.integers(0, 2, (1, SIDE, SIDE)).astype(np.uint8)
                write(data / f"masks/{stem}.tif", mask, x + masks_off, y)
    text = "class_name,class_color\nwater,0 0 255\nland,0 255 0\n"
    (data / "class_mapping.csv").write_text(text, encoding="utf-8")
    return data


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (lambda base, row, column: f"{base}_patch_{row:03d}_{column:03d}", True),
        (lambda base, row, column: f"{base}_x{column * 24}_y{row * 24}", True),
        (lambda base, row, column: f"{base}_{row * 24}_{column * 24}", True),
        (lambda base, row, column: f"{base}_{row + 1}_{column + 1}", False),  # gdal_retile
        (lambda base, row, column: f"{base}_{column + 7}_{row + 9}", False),
    ],
)
def test_their_places_and_pixel_size_are_learnt(name: Name, parsed: bool) -> None:
    index(draw(name, step=24), num_workers=1)
    patches = read_index(Path("index")).patches
    assert patches["pixel_size"].tolist() == pytest.approx([0.1] * 12, rel=1e-3)
    for base in "ab":
        rows = patches[patches["base_image"] == base]
        found = dict(zip(rows["image"], zip(rows["x"], rows["y"], strict=True), strict=True))
        assert found == {
            f"images/{name(base, row, column)}.tif": (24 * column, 24 * row)
            for row in range(2)
            for column in range(3)
        }
    said = "by their own coordinates" in " ".join(problems()["detail"])
    assert said != parsed
    assert shard(num_workers=1)["pixel_size"] == read_shards().pixel_size
    assert read_shards().pixel_size == pytest.approx(0.1, rel=1e-3)


def test_numbers_that_do_not_go_with_the_places_are_names() -> None:
    names = iter(np.random.default_rng(1).permutation(12).tolist())
    index(draw(lambda base, row, column: f"{base}_0_{next(names)}"), num_workers=1)
    patches = read_index(Path("index")).patches
    assert patches["base_image"].nunique() == 12 and patches["x"].isna().all()
    assert list(problems()["kind"]) == ["name without row and column"]


def test_patches_that_lie_between_the_pixels_keep_their_size_alone() -> None:
    name: Name = lambda base, row, column: f"{base}_patch_{row:03d}_{column:03d}"  # noqa: E731
    index(draw(name, images_off=0.03), num_workers=1)
    patches = read_index(Path("index")).patches
    assert patches["x"].isna().all() and patches["pixel_size"].notna().all()
    assert list(problems()["kind"]) == ["places that do not fit"] * 2


def test_masks_of_other_ground_end_it() -> None:
    data = draw(lambda base, row, column: f"{base}_{row}_{column}", masks_off=0.1 * SIDE)
    with pytest.raises(InputError, match=r"masks of other ground: .* column 32, row 0 .*12 masks"):
        index(data, num_workers=1)
    assert [path.name for path in Path("index").iterdir()] == ["problems.csv"]
    # A mask that may not be used is not looked at.
    roles = "base_image,split\n" + "".join(f"{base},unlabeled\n" for base in "ab")
    Path("split.csv").write_text(roles, encoding="utf-8")
    assert index(data, num_workers=1, split_file="split.csv")["splits"]["unlabeled"] == 12


def test_boxes_of_one_image_in_the_pixels_of_another() -> None:
    utm, mercator = CRS.from_epsg(32748), CRS.from_epsg(3857)
    there = Affine(0.1, 0, 400_000, 0, -0.1, 9_150_000)
    left, top = (one[0] for one in warp(utm, mercator, [400_010.0], [9_149_990.0]))
    grounds = {
        0: (utm, there),
        1: (utm, Affine(0, -0.1, 400_001, -0.1, 0, 9_149_998)),  # turned
        2: (mercator, Affine(0.1, 0, left, 0, -0.1, top)),
    }
    boxes = np.array([[0, 0, 8, 8], [0, 0, 4, 8], [0, 0, 8, 8], [0, 0, 8, 8]], float)
    found = boxes_in(0, boxes, np.arange(4), grounds)
    assert found[:2].round(6).tolist() == [[0, 0, 8, 8], [2, 20, 10, 24]]
    assert found[2] == pytest.approx([100, 100, 108, 108], abs=0.3)
    assert np.isnan(found[3]).all()  # of the last one nothing is known
