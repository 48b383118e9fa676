"""Which pixels are in a zone, and what is written, against exact geometry."""

import csv
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer

from salakseg.errors import InputError
from salakseg.mapping.areas import Validation, ground_of
from salakseg.mapping.predict import predict
from salakseg.mapping.zone_areas import measure_zones, zones_at
from salakseg.mapping.zones import Zones, place_zones
from tests.mapping.samples import MAPPING, coloured, source_of
from tests.mapping.test_zones import UTM, write_layer, write_zones
from tests.rasters import write_tiff

# In Central Java: UTM, degrees, Web Mercator, and UTM turned by 20°.
PLACES = {
    "utm": ("EPSG:32749", Affine(0.1, 0, 434_000, 0, -0.1, 9_160_000)),
    "degrees": ("EPSG:4326", Affine(1e-6, 0, 110.4, 0, -1e-6, -7.6)),
    "mercator": ("EPSG:3857", Affine(0.1, 0, 12_290_000, 0, -0.1, -850_000)),
    "turned": (
        "EPSG:32749",
        Affine(0.094, 0.034, 434_000, 0.034, -0.094, 9_160_000),
    ),
}


def geodesic(crs: str, transform: Affine, row: int, column: int, height: int, width: int) -> float:
    """Area in m² of a rectangle of pixels, as a polygon on the ellipsoid."""
    corners = [(column, row), (column + width, row), (column + width, row + height)]
    corners.append((column, row + height))
    to_lon_lat = Transformer.from_crs(crs, CRS.from_user_input(crs).geodetic_crs, always_xy=True)
    lon, lat = to_lon_lat.transform(*zip(*(transform @ corner for corner in corners), strict=True))
    return abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize("place", PLACES)
def test_areas_and_zones_are_those_of_geodesic_polygons(
    brightest_file: Path, tmp_path: Path, place: str
) -> None:
    crs, transform = PLACES[place]
    image = np.zeros((3, 200, 300), np.uint8)
    image[0, :, :100] = image[1, :150, 100:] = image[2, 150:, 100:] = 200
    path = write_tiff(tmp_path / "field.tif", image, crs=crs, transform=transform)
    # A zone in degrees: rows 20 to 119, columns 40 to 139.
    corners = [transform @ corner for corner in [(40, 20), (140, 20), (140, 120), (40, 120)]]
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    zone = shapely.Polygon([to_degrees.transform(*corner) for corner in corners])
    zones = write_zones(tmp_path / "blocks.gpkg", [zone, shapely.box(0, 0, 1, 1)], ["Blok A", ""])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", zones=zones)
    rectangles = [(0, 0, 200, 100), (0, 100, 150, 200), (150, 100, 50, 200)]
    expected = [geodesic(crs, transform, *rectangle) for rectangle in rectangles]
    assert result.square_metres is not None
    np.testing.assert_allclose(result.square_metres, expected, rtol=1e-3)
    rows = rows_of(tmp_path / "maps" / "field_areas_by_zone.csv")
    assert [row["zone"] for row in rows] == ["Blok A"] * 3 + ["2"] * 3
    assert [int(row["pixels"]) for row in rows] == [6000, 4000, 0, 0, 0, 0]
    in_zone = [
        geodesic(crs, transform, 20, 40, 100, 60),
        geodesic(crs, transform, 20, 100, 100, 40),
    ]
    np.testing.assert_allclose([float(row["m2"]) for row in rows[:2]], in_zone, rtol=1e-3)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


SIDE = 40


def counted(
    shapes: list[Any], transform: Affine, valid: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels of the three classes (Z, 3) and the covered share (Z,) of zones in pixel coordinates
    (column, row) of an image of SIDE × SIDE pixels."""
    image, labels = coloured(SIDE, SIDE)
    if valid is not None:
        labels = np.where(valid, labels, 255).astype(np.uint8)
    source = source_of(image)
    source = type(source)(source.path, SIDE, SIDE, CRS.from_user_input(UTM), transform, source.read)
    a, b, c, d, e, f = transform[:6]
    placed = shapely.transform(np.array(shapes), lambda xy: xy @ [[a, d], [b, e]] + [c, f])
    numbers = np.arange(len(shapes))
    zones = Zones(Path("z.gpkg"), numbers, numbers, None, placed, UTM)
    found, covered = measure_zones(
        zones,
        lambda row, column, height, width: labels[row : row + height, column : column + width],
        source,
        ground_of(source, None, False),
        Validation(None, ""),
        MAPPING,
    )
    return np.array([areas.pixels for areas in found]), covered


TURNS = [Affine(0.5, 0, 434_000, 0, -0.5, 9_160_000), PLACES["turned"][1]]


@pytest.mark.parametrize("transform", TURNS)
def test_every_pixel_is_in_one_of_the_zones_that_adjoin(transform: Affine) -> None:
    _, labels = coloured(SIDE, SIDE)
    everything = np.bincount(labels.ravel(), minlength=3)
    cuts = [-3, 7.5, 20.5, 33, 43]
    grid = [
        shapely.box(left, top, right, bottom)
        for left, right in pairwise(cuts)
        for top, bottom in pairwise(cuts)
    ]
    # Slanting sides through the centres of pixels, at 45° and two to one.
    slanting = [
        shapely.Polygon([(-60.5, -60.5), (90.5, 90.5), (-60.5, 90.5)]),
        shapely.Polygon([(-60.5, -60.5), (90.5, 90.5), (90.5, -60.5)]),
    ]
    steep = [
        shapely.Polygon([(0.5, -39.5), (60.5, 80.5), (-90.5, 80.5), (-90.5, -39.5)]),
        shapely.Polygon([(0.5, -39.5), (60.5, 80.5), (90.5, 80.5), (90.5, -39.5)]),
    ]
    for shapes in (grid, slanting, steep):
        pixels, _ = counted(shapes, transform)
        np.testing.assert_array_equal(pixels.sum(0), everything)


@pytest.mark.parametrize("transform", TURNS)
def test_a_pixel_is_in_a_zone_where_its_centre_is(transform: Affine) -> None:
    _, labels = coloured(SIDE, SIDE)
    random = np.random.default_rng(0)
    stars = [
        shapely.Polygon(
            [
                (x + r * np.cos(a), y + r * np.sin(a))
                for a, r in zip(np.linspace(0, 6, 9), random.uniform(0.2, 25, 9), strict=True)
            ]
        )
        for x, y in random.uniform(-5, 45, (40, 2))
    ]
    holes = [shapely.difference(star, shapely.buffer(star.centroid, 2)) for star in stars]
    bow_tie = shapely.Polygon([(2.2, 2.2), (30.3, 30.4), (30.3, 2.2), (2.2, 30.4)])
    shapes = [*stars, *holes, shapely.make_valid(bow_tie)]
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    exact = [
        np.bincount(labels[shapely.contains_xy(shape, columns, rows)], minlength=3)
        for shape in shapes
    ]
    pixels, _ = counted([*shapes, bow_tie], transform)
    np.testing.assert_array_equal(pixels[:-1], exact)
    np.testing.assert_array_equal(pixels[-1], exact[-1])


@pytest.mark.parametrize("transform", TURNS)
def test_single_pixels_are_in_the_zones_that_count_them(transform: Affine) -> None:
    image, labels = coloured(SIDE, SIDE)
    # Sides through the centres of pixels.
    shapes = [
        shapely.box(-3, -3, 20.5, 50),
        shapely.box(20.5, -3, 60, 50),
        shapely.Polygon([(0.5, -39.5), (60.5, 80.5), (-90.5, 80.5), (-90.5, -39.5)]),
    ]
    a, b, c, d, e, f = transform[:6]
    placed = shapely.transform(np.array(shapes), lambda xy: xy @ [[a, d], [b, e]] + [c, f])
    zones = Zones(Path("z.gpkg"), np.arange(3), np.arange(3), None, placed, UTM)
    source = replace(source_of(image), transform=transform)
    rows, columns = np.indices((SIDE, SIDE)).reshape(2, -1)
    inside = zones_at(zones, source, rows, columns)
    found = [np.bincount(labels.ravel()[inside[:, zone]], minlength=3) for zone in range(3)]
    np.testing.assert_array_equal(found, counted(shapes, transform)[0])


def test_overlapping_zones_count_what_they_share_in_each() -> None:
    whole = shapely.box(0, 0, SIDE, SIDE)
    pixels, covered = counted([whole, whole, shapely.box(0, 0, 10, 10)], TURNS[0])
    assert pixels.sum(1).tolist() == [SIDE**2, SIDE**2, 100]
    np.testing.assert_allclose(covered, 1)


def test_the_share_of_a_zone_that_is_mapped(capsys: pytest.CaptureFixture[str]) -> None:
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, 30:] = False
    shapes = [
        shapely.box(5, 5, 15, 15),  # wholly there
        shapely.box(-10.25, 5, 10.25, 15),  # half beyond the edge
        shapely.box(20, 10, 40, 30),  # half nodata
        shapely.box(30, 30, 40, 40),  # nodata
        shapely.box(100, 100, 120, 120),  # elsewhere
        shapely.box(5.1, 5.1, 5.3, 5.3),  # smaller than a pixel
        # Parts that overlap, and one with a spike.
        shapely.MultiPolygon([shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30)]),
        shapely.Polygon([(0, 0), (10, 0), (10, 10), (25, 10), (10, 10), (0, 10)]),
    ]
    pixels, covered = counted(shapes, TURNS[0], valid)
    np.testing.assert_allclose(covered, [1, 0.5, 0.5, 0, 0, 0, 1, 1], atol=1e-6)
    assert (pixels.sum(1) > 0).tolist() == [True] * 3 + [False] * 3 + [True] * 2
    assert (
        "of 8 zones 3 hold no pixel of array.tif, 2 are mapped in part" in capsys.readouterr().out
    )


def test_zones_beyond_the_images_crs_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    image, _ = coloured(SIDE, SIDE)
    source = source_of(image)
    crs = CRS.from_user_input(UTM)
    source = type(source)(source.path, SIDE, SIDE, crs, TURNS[0], source.read)
    boxes = [(110, -8, 111, -7), (110, 80, 111, 95), (110, 91, 111, 95)]
    degrees = np.array([shapely.box(*box) for box in boxes])
    numbers = np.arange(3)
    zones = Zones(Path("z.gpkg"), numbers, numbers, None, degrees, "EPSG:4326")
    placed = place_zones(zones, source)
    assert "2 zones beyond what the CRS of array.tif is for" in capsys.readouterr().out
    labels = np.zeros((SIDE, SIDE), np.uint8)
    found, covered = measure_zones(
        placed,
        lambda row, column, height, width: labels[row : row + height, column : column + width],
        source,
        ground_of(source, None, False),
        Validation(None, ""),
        MAPPING,
    )
    assert [areas.pixels.sum() for areas in found] == [SIDE**2, 0, 0] and not covered[1:].any()
    zones = Zones(Path("z.gpkg"), numbers[1:], numbers[1:], None, degrees[1:], "EPSG:4326")
    with pytest.raises(InputError, match=r"z\.gpkg: lies beyond what the CRS of array\.tif is for"):
        place_zones(zones, source)


def map_by_zones(
    brightest_file: Path, tmp_path: Path, columns: dict[str, Any], **options: Any
) -> tuple[Path, NDArray[np.uint8]]:
    """The folder of a map by three blocks of 30, 50 and 40 columns, the last one half outside."""
    image, labels = coloured(60, 100)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0), crs=UTM)
    cuts = [0, 30, 80, 120]
    shapes = [
        shapely.box(434_000 + 0.1 * a, 9e6 - 6, 434_000 + 0.1 * b, 9e6) for a, b in pairwise(cuts)
    ]
    zones = write_layer(tmp_path / "blocks.gpkg", shapes, columns)
    predict([path], model=brightest_file, out=tmp_path / "maps", zones=zones, **options)
    return tmp_path / "maps", labels


def test_a_row_a_zone_and_the_total(brightest_file: Path, tmp_path: Path) -> None:
    out, labels = map_by_zones(brightest_file, tmp_path, {"block": [12, 3, 12]})
    long = rows_of(out / "field_areas_by_zone.csv")
    rows = rows_of(out / "field_zones.csv")
    assert [(row["zone"], row["zone_fid"]) for row in rows] == [
        ("1", "1"), ("2", "2"), ("3", "3"), ("total", ""),
    ]  # fmt: skip
    assert [row["covered"] for row in rows] == ["1.0000", "1.0000", "0.5000", ""]
    parts = [labels[:, :30], labels[:, 30:80], labels[:, 80:], labels]
    for row, part in zip(rows, parts, strict=True):
        assert int(row["pixels"]) == part.size
        metres = [float(row[f"{name}_m2"]) for name in MAPPING.names]
        counts = np.bincount(part.ravel(), minlength=3)
        np.testing.assert_allclose(metres, counts / 100, rtol=2e-3)
        assert float(row["m2"]) == pytest.approx(sum(metres), abs=1e-3)
        percent = [float(row[f"{name}_percent"]) for name in MAPPING.names]
        np.testing.assert_allclose(percent, 100 * counts / part.size, atol=0.02)
    assert [row["zone_fid"] for row in long] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    assert float(long[4]["m2"]) == pytest.approx(float(rows[1]["green & blue_m2"]), abs=1e-3)
    types = (out / "field_zones.csvt").read_text(encoding="utf-8").replace('"', "").split(",")
    assert len(types) == len(rows[0]) and types[:4] == ["String", "Integer64", "Real", "Integer64"]


def test_the_layer_has_the_zones_where_they_were_and_numbers_as_numbers(
    brightest_file: Path, tmp_path: Path
) -> None:
    out, _ = map_by_zones(brightest_file, tmp_path, {"block": [12, 3, 7], "name": [None] * 3})
    with_crs, _, wkb, values = pyogrio.raw.read(out / "field_zones.gpkg")
    columns = dict(zip(with_crs["fields"], values, strict=True))
    assert with_crs["crs"] == UTM and columns["zone"].tolist() == [12, 3, 7]
    assert columns["zone"].dtype.kind == columns["pixels"].dtype.kind == "i"
    before = pyogrio.raw.read(tmp_path / "blocks.gpkg")[2]
    assert shapely.equals(shapely.from_wkb(wkb), shapely.from_wkb(before)).all()
    rows = rows_of(out / "field_zones.csv")[:-1]
    for name, column in columns.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose([float(row[name]) for row in rows], column, atol=1e-4)


def test_class_names_that_differ_by_case_have_a_column_each(
    brightest: Any, brightest_file: Path, tmp_path: Path
) -> None:
    colours = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    names = ("Water", "water", "zone")
    brightest.mapping = type(MAPPING)(
        tuple((name, colour, False) for name, colour in zip(names, colours, strict=True))
    )
    out, labels = map_by_zones(brightest_file, tmp_path, {"block": [1, 2, 3]})
    meta, _, _, values = pyogrio.raw.read(out / "field_zones.gpkg")
    columns = dict(zip(meta["fields"], values, strict=True))
    for label, index in (("Water", 0), ("water_2", 1), ("zone", 2)):
        assert columns[f"{label}_m2"].sum() == pytest.approx(
            (labels == index).sum() / 100, rel=2e-3
        )


QGIS = """
import sys
from qgis.core import *
app = QgsApplication([], False); app.initQgis()
blocks, layer, table = (QgsVectorLayer(path, path, "ogr") for path in sys.argv[1:])
for one in (blocks, layer, table):
    assert one.isValid(), one.source()
    QgsProject.instance().addMapLayer(one)
print({f["zone"]: f["B_m2"] for f in layer.getFeatures()})
for other in (layer, table):
    join = QgsVectorLayerJoinInfo()
    join.setJoinLayer(other); join.setUsingMemoryCache(True); join.setPrefix("")
    join.setJoinFieldName("zone"); join.setTargetFieldName("block")
    blocks.addJoin(join)
    print({f["block"]: f["B_m2"] for f in blocks.getFeatures()})
    blocks.removeJoin(other.id())
"""


def has_qgis() -> bool:
    python = "/usr/bin/python3"
    known = shutil.which(python) is not None
    return (
        known and not subprocess.run([python, "-c", "import qgis"], capture_output=True).returncode
    )


@pytest.mark.skipif(not has_qgis(), reason="needs QGIS")
def test_qgis_joins_table_and_layer_to_the_blocks(brightest_file: Path, tmp_path: Path) -> None:
    out, labels = map_by_zones(brightest_file, tmp_path, {"block": [12, 3, 7]})
    files = [tmp_path / "blocks.gpkg", out / "field_zones.gpkg", out / "field_zones.csv"]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", QGIS, *map(str, files)],
        capture_output=True,
        text=True,
        env={"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr.upper(), done.stderr
    tables = [eval(line) for line in done.stdout.splitlines() if line.startswith("{")]
    parts = {12: labels[:, :30], 3: labels[:, 30:80], 7: labels[:, 80:]}
    for table in tables:
        for block, part in parts.items():
            assert table[block] == pytest.approx((part == 2).sum() / 100, rel=2e-3)
    assert len(tables) == 3
