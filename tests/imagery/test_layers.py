"""Polygons of vector files: which layer, which features, and other CRS."""

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

from salakseg.errors import InputError
from salakseg.imagery.layers import brought, find_column, polygon_layers
from tests.mapping.test_zones import SQUARES, UTM, write_layer


def test_what_has_no_polygon_is_told_by_number_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    shapes = [SQUARES[0], shapely.Point(1, 1), None, shapely.LineString([(0, 0), (1, 1)])]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        [],
        [],
        driver="GPKG",
        geometry_type="Unknown",
        crs=UTM,
    )
    (layer,) = polygon_layers(path, None, "--zones", "--zones-layer")
    assert layer.fids.tolist() == [1] and layer.columns == {}
    assert layer.without == [(2, "Point"), (3, ""), (4, "LineString")]


def test_several_layers_where_no_option_chooses_one(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for layer in ("one", "two"):
        write_layer(path, SQUARES[:1], {"name": ["x"]}, layer)
    with pytest.raises(InputError, match=r"\(one, two\); save the one alone"):
        polygon_layers(path, None, "--aoi", None)
    with pytest.raises(InputError, match="no such file; --aoi takes a layer of polygons"):
        polygon_layers(tmp_path / "none.gpkg", None, "--aoi", None)


def test_a_corner_that_is_no_number() -> None:
    corners = [(106.0, -7.0), (106.1, -7.0), (np.nan, np.nan), (106.0, -6.9)]
    shapes = [
        shapely.MultiPolygon([shapely.Polygon(corners)]),
        shapely.MultiPolygon([shapely.box(106, -7, 106.1, -6.9)]),
    ]
    there, beyond = brought(np.array(shapes, object), "EPSG:4326", CRS(UTM).to_wkt())
    assert beyond.tolist() == [True, False] and there[0].is_empty


def test_polygons_are_brought_to_another_crs() -> None:
    shapes = shapely.multipolygons(
        [[shapely.box(110, -8, 111, -7)], [shapely.box(9e9, 0, 9e10, 1)]]
    )
    there, beyond = brought(np.array(shapes, object), "EPSG:4326", CRS(UTM).to_wkt())
    assert beyond.tolist() == [False, True] and there[1].is_empty
    assert 3e5 < there[0].bounds[0] < 6e5
    with pytest.raises(ValueError):
        brought(there, "no CRS", CRS(UTM).to_wkt())


def test_a_column_by_its_name_in_any_case() -> None:
    assert find_column({"name": 1, "Name": 2}, "Name") == "Name"
    assert find_column({"name": 1}, "NAME") == "name"
    assert find_column({"name": 1}, "label") is None
