"""Polygons: every pixel in one of them, shared edges, nothing of the blocks to be seen."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from numpy.typing import NDArray

from salakseg.errors import InputError
from salakseg.imagery.raster import ImageSource
from salakseg.mapping import polygons
from salakseg.mapping.areas import Ground, ground_of
from salakseg.mapping.polygons import min_pixels, tolerance, write_polygons
from salakseg.mapping.predict import predict
from salakseg.mapping.styles import polygons_qml
from salakseg.model.weights import Model
from tests.mapping.samples import MAPPING, BrightestBand, coloured, smooth_image, source_of
from tests.rasters import GRID, write_tiff

TAGS = {"MODEL": "brightest.pth"}


def blobs(height: int, width: int) -> NDArray[np.uint8]:
    """Labels of all sizes, from specks to areas as long as the image; with nodata."""
    labels = (smooth_image(height, width).argmax(axis=2)).astype(np.uint8)
    labels[:20, 30:60] = 255
    labels[70:75] = 1
    return labels


def polygonise(
    labels: NDArray[np.uint8],
    path: Path,
    smallest: int = 0,
    source: ImageSource | None = None,
    simplify: float | None = None,
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The geometries, and the columns by name."""
    confidence = (labels.astype(int) * 10 + 50).astype(np.uint8)

    def read(band: str, row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        bands = {"labels": labels, "confidence": confidence}
        return bands[band][row : row + height, column : column + width]

    source = source or source_of(np.zeros((*labels.shape, 3), np.uint8))
    ground = ground_of(source, None, False)
    sieved = path.with_suffix(".raw")
    off = tolerance(simplify, ground)
    write_polygons(path, read, sieved, source, ground, MAPPING, smallest, TAGS, off)
    meta, _, wkb, columns = pyogrio.raw.read(path, layer="classes")
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True))


def drawn(geometries: NDArray[Any], columns: dict[str, Any], shape: Any) -> NDArray[np.uint8]:
    """The labels that the polygons (in pixels, rows negative) stand for."""
    shapes = zip(geometries, columns["class_index"].tolist(), strict=True)
    return rasterio.features.rasterize(
        list(shapes), shape, fill=255, transform=rasterio.Affine.scale(1, -1), dtype=np.uint8
    )


@pytest.mark.parametrize("block", [37, 64, 1000])
def test_the_polygons_are_the_raster_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", block)
    labels = blobs(150, 190)
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg")
    np.testing.assert_array_equal(drawn(geometries, columns, labels.shape), labels)
    assert shapely.is_valid(geometries).all()
    assert set(shapely.get_type_id(geometries)) == {shapely.GeometryType.POLYGON}
    np.testing.assert_array_equal(columns["pixels"], shapely.area(geometries))
    for index, name in enumerate(MAPPING.names):
        of_class = columns["class_index"] == index
        assert set(columns["class"][of_class]) <= {name}
        assert columns["pixels"][of_class].sum() == (labels == index).sum()
        np.testing.assert_allclose(columns["confidence"][of_class], 50 + 10 * index)
    # Nothing overlaps and nothing lies between: together they are as large as each alone.
    assert shapely.unary_union(geometries).area == (labels != 255).sum()
    # One for each connected area, so the seams have cut none.
    whole = list(rasterio.features.shapes(labels, mask=labels != 255, connectivity=4))
    assert len(geometries) == len(whole)
    assert shapely.coverage_is_valid(geometries)


def test_where_three_areas_meet_is_a_vertex_of_all(tmp_path: Path) -> None:
    labels = np.array([[0, 0], [1, 2]], np.uint8)
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg")
    assert shapely.coverage_is_valid(geometries)
    for geometry in geometries:
        assert [1, -1] in shapely.get_coordinates(geometry).tolist()
    # Nowhere else is one between two corners.
    assert shapely.get_num_coordinates(geometries)[columns["class_index"].argsort()].tolist() == [
        6,
        5,
        5,
    ]


@pytest.mark.parametrize("smallest", [0, 100])
@pytest.mark.parametrize(
    "transform", [None, GRID["transform"], rasterio.Affine(0.03, 0.02, 5, 0.02, -0.03, 9)]
)
def test_simplified_polygons_still_share_their_edges(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transform: rasterio.Affine | None,
    smallest: int,
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", 64)
    monkeypatch.setattr(polygons, "EDGES_AT_ONCE", 1)
    labels = blobs(150, 190)
    source = replace(source_of(np.zeros((150, 190, 3), np.uint8)), transform=transform)
    whole, before = polygonise(labels, tmp_path / "a.gpkg", smallest, source)
    found, after = polygonise(labels, tmp_path / "b.gpkg", smallest, source, simplify=2)
    assert len(found) == len(whole) > 20
    assert shapely.get_num_coordinates(found).sum() < shapely.get_num_coordinates(whole).sum() * 0.8
    assert shapely.is_valid(found).all()
    assert not shapely.is_empty(found).any()
    assert shapely.is_ccw(shapely.get_exterior_ring(found)).all()
    assert shapely.coverage_is_valid(found)
    assert shapely.area(found).sum() == pytest.approx(shapely.union_all(found).area)
    # Each vertex is one of another polygon too, or lies along what is none; none is new.
    corners = set(map(tuple, shapely.get_coordinates(whole).round(6)))
    assert set(map(tuple, shapely.get_coordinates(found).round(6))) <= corners
    # The columns say what the raster has; the polygons are near to it.
    for name in ("class", "pixels"):
        assert sorted(before[name]) == sorted(after[name])
    pixel = abs(source.transform.determinant) if source.transform else 1
    for index in range(MAPPING.num_classes):
        of_class = after["class_index"] == index
        pixels = after["pixels"][of_class].sum()
        assert shapely.area(found[of_class]).sum() / pixel == pytest.approx(pixels, rel=0.05)


def test_a_tolerance_in_metres_is_by_the_size_of_the_pixels(tmp_path: Path) -> None:
    assert tolerance(0.3, Ground(None, 0.1, "")) == pytest.approx(3)
    assert tolerance(3, Ground(None, None, "")) == 3
    assert tolerance(None, Ground(None, 0.1, "")) == 0


def test_simplified_outlines_leave_the_pixels_edges(tmp_path: Path) -> None:
    """Of a stairway stays the diagonal, of more than that the shape."""
    rows, columns = np.mgrid[:40, :40]
    labels = (rows > columns).astype(np.uint8)
    found, _ = polygonise(labels, tmp_path / "a.gpkg", simplify=1)
    assert shapely.get_num_coordinates(found).sum() < 14
    assert shapely.area(found).sum() == 1600


def test_polygons_that_wait_for_others_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = blobs(150, 190)
    found = []
    for block, at_once in ((32, 1500), (64, 4000), (1000, 1_000_000)):
        monkeypatch.setattr(polygons, "BLOCK", block)
        monkeypatch.setattr(polygons, "EDGES_AT_ONCE", at_once)
        geometries, columns = polygonise(labels, tmp_path / f"{block}.gpkg", 30)
        rows = zip(shapely.normalize(geometries), *columns.values(), strict=True)
        found.append(sorted((geometry.wkb, *map(str, row)) for geometry, *row in rows))
    assert found[0] == found[1] == found[2]


def test_specks_go_to_the_class_around_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 50:] = 1
    # Noise along a border, and two areas just below and of the size.
    labels[:, 45:55] = np.random.default_rng(0).integers(0, 3, (60, 10))
    labels[5:10, 5:10] = labels[20:25, 5:11] = 2
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg", smallest=30)
    assert (columns["pixels"] >= 30).all()
    drawn_labels = drawn(geometries, columns, labels.shape)
    assert (drawn_labels[5:10, 5:10] == 0).all() and (drawn_labels[20:25, 5:11] == 2).all()
    meta = pyogrio.read_info(tmp_path / "a.gpkg", layer="classes")["layer_metadata"]
    told = json.loads(meta["SIEVE"])
    assert told["smallest"] == 30
    for index, name in enumerate(MAPPING.names):
        after = columns["pixels"][columns["class_index"] == index].sum()
        assert told["pixels"][name] == [(labels == index).sum(), after]
    before, after = told["pixels"]["B"]
    said = " ".join(capsys.readouterr().out.split())
    assert "areas of fewer than 30 pixels, which changes" in said
    assert f"B {after / before - 1:+.0%}; --min-area 0 keeps all" in said


def test_what_the_sieve_hardly_changes_is_not_spoken_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[:30] = 1
    labels[3, 3] = 0
    polygonise(labels, tmp_path / "a.gpkg", smallest=30)
    assert capsys.readouterr().out == ""


def test_an_area_that_touches_itself_at_a_corner_is_valid(tmp_path: Path) -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[1, 1] = labels[2, 2] = labels[3, 1] = 1
    labels[0, 4] = labels[1, 3] = 255
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg")
    assert shapely.is_valid(geometries).all()
    assert shapely.coverage_is_valid(geometries)
    np.testing.assert_array_equal(drawn(geometries, columns, labels.shape), labels)


def test_an_image_without_data_has_a_layer_without_polygons(tmp_path: Path) -> None:
    geometries, columns = polygonise(np.full((9, 9), 255, np.uint8), tmp_path / "a.gpkg")
    assert len(geometries) == 0
    assert list(columns) == ["class", "class_index", "pixels", "m2", "hectares", "confidence"]


def test_the_file_is_of_a_version_that_older_programs_know_and_has_its_style(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.gpkg"
    polygonise(blobs(40, 60), path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (10200,)
        rows = file.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles"
        ).fetchall()
    assert rows == [("classes", "geom", 1, polygons_qml(MAPPING))]
    assert pyogrio.list_layers(path)[0].tolist() == ["classes", "Polygon"]
    assert pyogrio.read_info(path, layer="classes")["layer_metadata"]["MODEL"] == TAGS["MODEL"]
    # Tags of the whole file would be copied beside it by reading.
    assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]


@pytest.mark.parametrize("shape", [(9, 12), (70, 50)])
def test_a_min_area_above_the_image_leaves_one_polygon(
    brightest_file: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(*shape)[0], 2, 0))
    predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True, min_area=40)
    _, _, wkb, _ = pyogrio.raw.read(tmp_path / "maps" / "field_polygons.gpkg", layer="classes")
    assert len(wkb) == 1


@pytest.mark.parametrize("min_area", [-1, float("nan"), float("inf")])
def test_a_min_area_that_is_none_is_refused(
    brightest_file: Path, tmp_path: Path, min_area: float
) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(9, 9)[0], 2, 0))
    with pytest.raises(InputError, match=r"^--min-area .*: must be"):
        predict([path], model=brightest_file, out=tmp_path / "maps", min_area=min_area)


def test_before_the_sieve_they_sum_to_the_areas_of_the_map(
    brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", 50)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(90, 130)[0], 2, 0))
    [result] = predict(
        [path], model=brightest_file, out=tmp_path / "maps", polygons=True, min_area=0
    )
    found = tmp_path / "maps" / "field_polygons.gpkg"
    meta, _, wkb, columns = pyogrio.raw.read(found, layer="classes")
    of = dict(zip(meta["fields"], columns, strict=True))
    assert meta["crs"] == GRID["crs"]
    assert result.square_metres is not None
    for index in range(3):
        mine = of["class_index"] == index
        assert of["pixels"][mine].sum() == result.pixels[index]
        assert of["m2"][mine].sum() == pytest.approx(result.square_metres[index])
    box = shapely.total_bounds(shapely.from_wkb(wkb))
    np.testing.assert_allclose(box, [434_000, 9e6 - 9, 434_013, 9e6])


def test_stopped_among_the_polygons_the_same_call_goes_on(
    brightest: Model, brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", 50)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(90, 130)[0], 2, 0))
    call = {"model": brightest_file, "out": tmp_path / "maps", "polygons": True}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(polygons._OpenAreas, "close", stop)
        with pytest.raises(KeyboardInterrupt):
            predict([path], **call)
    assert [file.name for file in (tmp_path / "maps").iterdir()] == [".partial-field"]
    network = brightest.generator.network
    assert isinstance(network, BrightestBand)
    tiles = network.tiles
    [result] = predict([path], **call)
    assert network.tiles == tiles
    _, _, _, columns = pyogrio.raw.read(tmp_path / "maps" / "field_polygons.gpkg", layer="classes")
    assert columns[2].sum() == result.pixels.sum() == 90 * 130
    assert not list((tmp_path / "maps").glob(".*"))


def test_min_area_is_in_square_metres_where_they_are_known() -> None:
    assert min_pixels(None, Ground("by --gsd 0.1", 0.1)) == polygons.MIN_PIXELS
    assert min_pixels(2, Ground("by --gsd 0.1", 0.1)) == 200
    assert min_pixels(2, Ground("pixels only: …")) == 2
