"""The table of all maps of a folder, and the one raster of their classes."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from salakseg.errors import InputError
from salakseg.mapping.catalog import FILES, write_catalog
from salakseg.mapping.geopackage import write_layer
from salakseg.mapping.predict import predict
from tests.mapping.samples import MAPPING, coloured, png
from tests.rasters import write_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
WEST, NORTH, SIDE = 400_000, 9_160_000, 0.1


def field(path: Path, x: int, y: int, seed: int = 0, **options: Any) -> tuple[Path, Any]:
    """An image of 50 × 60 pixels, x and y pixels from the corner; and its classes."""
    image, labels = coloured(50, 60, seed)
    image[:10, :10] = 0
    labels[:10, :10] = 255
    place = Affine(SIDE, 0, WEST + x * SIDE, 0, -SIDE, NORTH - y * SIDE)
    given = {"transform": place, "nodata": 0, **options}
    return write_tiff(path, np.moveaxis(image, 2, 0), **given), labels


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return {row["map"]: row for row in csv.DictReader(file)}


def test_maps_of_one_crs_are_one_raster(brightest_file: Path, tmp_path: Path) -> None:
    a, of_a = field(tmp_path / "a & é.tif", 0, 0)
    b, of_b = field(tmp_path / "b.tif", 45, 30, seed=1)
    out = tmp_path / "maps"
    predict([a, b], model=brightest_file, out=out)
    expected = np.full((80, 105), 255, np.uint8)
    expected[:50, :60] = of_a
    # The later one is on top, but where it has nothing.
    part = expected[30:, 45:]
    part[of_b != 255] = of_b[of_b != 255]
    with rasterio.open(out / "index.vrt") as raster:
        assert raster.crs == rasterio.CRS.from_epsg(32748)
        assert raster.transform.almost_equals(Affine(SIDE, 0, WEST, 0, -SIDE, NORTH), 1e-9)
        assert raster.nodata == 255
        assert [raster.colormap(1)[index][:3] for index in range(3)] == MAPPING.colors
        assert raster.tags()["CLASS_1"] == "green & blue"
        np.testing.assert_array_equal(raster.read(1), expected)
    assert "green &amp; blue" in (out / "index.qml").read_text(encoding="utf-8")
    # The folder can be moved, and what is in it is no image to map.
    shutil.move(out, tmp_path / "moved")
    with rasterio.open(tmp_path / "moved/index.vrt") as raster:
        assert (raster.read(1) == expected).all()
    with pytest.raises(InputError, match="no image"):
        predict([tmp_path / "moved"], model=brightest_file, out=out)


def test_of_several_pixel_sizes_the_finest_is_taken(brightest_file: Path, tmp_path: Path) -> None:
    a, of_a = field(tmp_path / "a.tif", 0, 0)
    coarse = Affine(2 * SIDE, 0, WEST + 60 * SIDE, 0, -2 * SIDE, NORTH)
    b, of_b = field(tmp_path / "b.tif", 0, 0, seed=1, transform=coarse)
    out = tmp_path / "maps"
    predict([a, b], model=brightest_file, out=out)
    with rasterio.open(out / "index.vrt") as raster:
        assert raster.shape == (100, 180)
        labels = raster.read(1)
    np.testing.assert_array_equal(labels[:50, :60], of_a)
    np.testing.assert_array_equal(labels[:, 60:], of_b.repeat(2, 0).repeat(2, 1))
    assert (labels[50:, :60] == 255).all()


def test_what_does_not_go_with_the_others_is_left_out(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a", "b", "other", "turned")
    options: dict[str, dict[str, Any]] = {
        "other": {"crs": rasterio.CRS.from_epsg(32749)},
        "turned": {"transform": Affine(0.08, 0.06, WEST, 0.06, -0.08, NORTH)},
    }
    paths = [
        field(tmp_path / f"{name}.tif", 60 * n, 0, **options.get(name, {}))[0]
        for n, name in enumerate(names)
    ]
    photo = png(tmp_path / "photo", coloured(30, 40)[0])
    out = tmp_path / "maps"
    predict([*paths[:1], photo], model=brightest_file, out=out)
    assert not (out / "index.vrt").exists()
    predict(paths[1:], model=brightest_file, out=out)
    assert "index.vrt: shows 2 of 4 class maps" in capsys.readouterr().out.replace("\n", " ")
    with rasterio.open(out / "index.vrt") as raster:
        assert raster.shape == (50, 120)
    # Of one map alone there is none.
    (out / "b_classes.tif").unlink()
    write_catalog(out)
    assert not (out / "index.vrt").exists()
    assert not (out / "index.qml").exists()


def test_the_catalog_has_a_row_a_map(brightest_file: Path, tmp_path: Path) -> None:
    path, labels = field(tmp_path / "field.tif", 10, 20)
    photo = png(tmp_path / "2023", coloured(30, 40)[0])
    (tmp_path / "masks").mkdir()
    mask = MAPPING.palette[np.where(labels == 255, 0, labels)]
    png(tmp_path / "masks/field", mask)
    zone = np.array([shapely.box(WEST, NORTH - 5, WEST + 5, NORTH)])
    zones = tmp_path / "zones.gpkg"
    write_layer(
        zones, "zones", "Polygon", zone, {"name": np.array(["a"], object)}, "EPSG:32748", {}
    )
    out = tmp_path / "maps"
    predict([photo], model=brightest_file, out=out)
    predict(
        [path],
        model=brightest_file,
        out=out,
        polygons=True,
        probabilities=True,
        zones=zones,
        compare=tmp_path / "masks",
    )
    found = rows(out)
    assert list(found) == ["2023_classes.png", "field_classes.tif"]
    row = found["field_classes.tif"]
    assert (row["image"], row["model"], row["crs"]) == (
        "../field.tif",
        "brightest.pth",
        "EPSG:32748",
    )
    extent = [float(row[side]) for side in ("west", "south", "east", "north")]
    west, north = WEST + 10 * SIDE, NORTH - 20 * SIDE
    assert extent == pytest.approx([west, north - 50 * SIDE, west + 60 * SIDE, north])
    assert float(row["pixel_m"]) == pytest.approx(0.1, rel=1e-3)
    with (out / "field_areas.csv").open(encoding="utf-8", newline="") as file:
        for of_class in csv.DictReader(file):
            metres = float(row[f"{of_class['class']}_m2"])
            assert metres == pytest.approx(float(of_class["m2"]), abs=0.01)
    # All files but those that only tell a GIS of others.
    there = {
        one.name
        for one in out.glob("field[_.]*")
        if one.is_file() and one.suffix not in (".qml", ".csvt", ".xml")
    }
    assert set(row["files"].split("; ")) == there
    photos = ("_classes.png", "_confidence.png", "_errors.png")
    other = ("_polygons.fgb", "_polygons.parquet")
    assert {f"field{ending}" for ending in FILES if ending not in (*photos, *other)} == there
    row = found["2023_classes.png"]
    assert row["image"] == "../2023.png"
    assert row["crs"] == row["west"] == row["red_m2"] == row["pixel_m"] == ""
    types = (out / "catalog.csvt").read_text().strip().split(",")
    header = next(csv.reader([(out / "catalog.csv").read_text().splitlines()[0]]))
    kinds = dict(zip(header, types, strict=True))
    assert kinds["image"] == '"String"'
    assert kinds["west"] == kinds["red_m2"] == '"Real"'
    assert MAPPING.names == [name.removesuffix("_m2") for name in header if name.endswith("_m2")]
