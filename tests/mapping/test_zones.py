"""Zones of all kinds of files: their names, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping.predict import predict
from salakseg.mapping.zones import read_zones
from tests.mapping.samples import coloured
from tests.rasters import write_tiff

UTM = "EPSG:32749"


def write_zones(
    path: Path, geometries: list[Any], names: list[str], crs: str | None = "EPSG:4326"
) -> Path:
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(geometries)),
        [np.arange(len(names)), np.array(names, object)],
        ["number", "name"],
        driver="GPKG",
        geometry_type="Polygon",
        crs=crs,
    )
    return path


SQUARES = [shapely.box(x, 0, x + 1, 1) for x in range(3)]


def write_layer(
    path: Path,
    geometries: list[Any],
    columns: dict[str, Any],
    layer: str = "blocks",
    crs: str | None = UTM,
) -> Path:
    """A GeoPackage, or one more layer of it; None in a column is NULL."""
    masks = [np.array([value is None for value in values]) for values in columns.values()]
    filled = []
    for values in columns.values():
        anything = next((value for value in values if value is not None), "")
        column = np.array([anything if value is None else value for value in values])
        filled.append(column.astype(object) if column.dtype.kind == "U" else column)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(geometries)),
        filled,
        list(columns),
        field_mask=masks,
        layer=layer,
        driver="GPKG",
        geometry_type="Unknown",
        crs=crs,
        append=path.exists(),
        **({} if path.exists() else {"dataset_options": {"VERSION": "1.2"}}),
    )
    return path


@pytest.mark.parametrize(
    ("columns", "field", "names", "by"),
    [
        # Numbers stay the layer's.
        ({"block": [2, 1, 7]}, None, [2, 1, 7], "column block"),
        ({"area": [1.5, 2.5, 0.25], "block": [2, 1, 7]}, None, [2, 1, 7], "column block"),
        ({"block": [2, 1, 7]}, "BLOCK", [2, 1, 7], "column block"),
        ({"area": [1.5, 2.0, 0.25]}, "area", [1.5, 2.0, 0.25], "column area"),
        # `name` first, in any case; then text that is filled and unique.
        ({"id": ["a", "b", "c"], "NAME": ["x", "y", "x"]}, None, ["x", "y", "x"], "column NAME"),
        ({"kind": ["a", "a", "b"], "code": ["p", "q", "r"]}, None, ["p", "q", "r"], "column code"),
        ({"id": ["", "", ""], "n": [5, 6, 7]}, None, [5, 6, 7], "column n"),
        ({"id": [None, "b", "c"], "n": [5, 6, 7]}, None, [5, 6, 7], "column n"),
        # What is neither is the feature's number.
        ({"kind": ["a", "a", "b"], "n": [5, 5, 7]}, None, [1, 2, 3], "number (FID)"),
        ({"area": [1.5, 2.5, 0.25]}, None, [1, 2, 3], "number (FID)"),
        ({"n": [5, 6, 7]}, "fid", [1, 2, 3], "number (FID)"),
        ({}, None, [1, 2, 3], "number (FID)"),
        # A name that is missing is that too, whole numbers with a gap stay whole.
        ({"name": ["x", "", None]}, None, ["x", "2", "3"], "2 without a value"),
        ({"n": [5, None, 7]}, "n", [5, 2, 7], "1 without a value"),
        ({"name": [" A ", "B", "C"]}, None, ["A", "B", "C"], "column name"),
        ({"day": np.array(["2024-05-01"] * 3, "datetime64[D]")}, "day", ["2024-05-01"] * 3, "day"),
        ({"ok": np.array([True, False, True])}, "ok", ["true", "false", "true"], "column ok"),
    ],
)
def test_what_zones_are_called(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, Any],
    field: str | None,
    names: list[Any],
    by: str,
) -> None:
    zones = read_zones(write_layer(tmp_path / "z.gpkg", SQUARES, columns), field)
    assert zones.names.tolist() == names
    assert zones.names.dtype.kind == {int: "i", float: "f", str: "O"}[type(names[0])]
    said = capsys.readouterr().out
    assert by in said and ("more than once" in said) is (len(set(names)) < 3)


KML = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>farm.kml</name>
{}<Folder><name>North</name>{}<Folder><name>Terraces</name>{}</Folder></Folder>
<Folder><name>Gates</name><Placemark><name>gate</name><Point><coordinates>110.4,-7.6,0
</coordinates></Point></Placemark></Folder>
</Document></kml>
"""


def placemark(name: str, place: int, together: bool = False) -> str:
    """A square, or with `together` one in a MultiGeometry with a point."""
    x = 110.4 + place / 100
    corners = " ".join(
        f"{x + a},{-7.6 + b},0" for a, b in shapely.box(0, 0, 0.01, 0.01).exterior.coords
    )
    shape = f"<Polygon><outerBoundaryIs><LinearRing><coordinates>{corners}</coordinates>"
    shape += "</LinearRing></outerBoundaryIs></Polygon>"
    if together:
        point = f"<Point><coordinates>{x},-7.6,0</coordinates></Point>"
        shape = f"<MultiGeometry>{point}{shape}</MultiGeometry>"
    return f"<Placemark><name>{name}</name>{shape}</Placemark>"


def test_all_folders_of_a_kml_are_one_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = [placemark("Yard", 0), placemark("A", 1) + placemark("", 2), placemark("A", 3, True)]
    path = tmp_path / "farm.kml"
    path.write_text(KML.format(*inside), encoding="utf-8")
    zones = read_zones(path)
    assert zones.names.tolist() == ["Yard", "A", "2", "A"] and zones.fids.tolist() == [1, 1, 2, 1]
    assert zones.layers is not None
    assert zones.layers.tolist() == ["farm.kml", "North", "North", "Terraces"]
    np.testing.assert_allclose(shapely.area(zones.geometries), 1e-4)
    said = capsys.readouterr().out
    assert "4 zones of 3 layers (farm.kml, North, Terraces), called by their column Name" in said
    assert "1 name comes more than once (A)" in said
    north = read_zones(path, layer="North")
    assert north.names.tolist() == ["A", "2"] and north.layers is None
    with pytest.raises(
        InputError, match=r"no layer South; --zones-layer takes one of: farm\.kml, N"
    ):
        read_zones(path, layer="South")
    with pytest.raises(InputError, match="no polygons in its layer Gates"):
        read_zones(path, layer="Gates")


def write_geojson(path: Path, geometries: list[Any], columns: dict[str, list[Any]]) -> Path:
    features = [
        {
            "type": "Feature",
            "properties": {name: values[number] for name, values in columns.items()},
            "geometry": shapely.geometry.mapping(one),
        }
        for number, one in enumerate(geometries)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(collection), encoding="utf-8")
    return path


def test_columns_of_lists_do_not_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = [[1, 2], [1.5], ["a", "b"], [2**40], [True, False], [], [[1], [2]], {"a": 1}]
    columns = {f"list {number}": [values, None, values] for number, values in enumerate(lists)}
    path = write_geojson(tmp_path / "z.geojson", SQUARES, columns | {"block": ["a", "b", "c"]})
    for field in (None, "block"):
        assert read_zones(path, field).names.tolist() == ["a", "b", "c"]
    assert "called by their column block" in capsys.readouterr().out
    with pytest.raises(InputError, match="has no column list 0; --zone-field takes one of"):
        read_zones(path, "list 0")
    path = write_geojson(tmp_path / "only.geojson", SQUARES, {"tags": [[1], [2], [3]]})
    assert read_zones(path).names.tolist() == [0, 1, 2]


def test_coordinates_that_are_no_degrees(brightest_file: Path, tmp_path: Path) -> None:
    """A GeoJSON in metres without "crs", and one with latitude first."""
    image = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(40, 40)[0], 2, 0), crs=UTM)
    metres, swapped = shapely.box(434_000, 8_999_996, 434_004, 9e6), shapely.box(-8, 110, -7, 111)
    for number, box in enumerate((metres, swapped)):
        path = write_geojson(tmp_path / f"{number}.geojson", [box], {"name": ["a"]})
        with pytest.raises(InputError, match=r"json: its coordinates, such as -?\d+, \d+, are no"):
            predict([image], model=brightest_file, out=tmp_path / "maps", zones=path)
    assert not (tmp_path / "maps").exists()
    # One zone in the wrong place is said, and the others are measured.
    path = write_geojson(tmp_path / "z.geojson", [*SQUARES, metres], {"name": list("abcd")})
    assert len(read_zones(path).names) == 4


def test_several_layers_of_polygons_are_asked_about(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "z.gpkg", [shapely.Point(0, 0)], {"n": [1]}, "wells")
    write_layer(path, SQUARES, {"name": ["a", "b", "c"]}, "fields")
    assert read_zones(path).names.tolist() == ["a", "b", "c"]
    write_layer(path, SQUARES[:1], {"name": ["all"]}, "farms")
    with pytest.raises(
        InputError, match=r"several layers of polygons \(fields, farms\); say --zones-layer"
    ):
        read_zones(path)
    assert read_zones(path, layer="farms").names.tolist() == ["all"]
    with pytest.raises(InputError, match="no column nam; --zone-field takes one of: name, fid"):
        read_zones(path, "nam", "farms")


def test_polygons_of_collections_are_zones_and_what_has_none_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nested = shapely.GeometryCollection(
        [shapely.Point(9, 9), shapely.GeometryCollection([SQUARES[0], SQUARES[2]])]
    )
    line = shapely.LineString([(0, 0), (1, 1)])
    high = shapely.Polygon([(5, 5, 10), (6, 5, 10), (6, 6, 12)])
    columns = {"name": ["parts", "line", "high", "empty"]}
    shapes = [nested, line, high, shapely.Polygon()]
    zones = read_zones(write_layer(tmp_path / "z.gpkg", shapes, columns))
    assert zones.names.tolist() == ["parts", "high"] and zones.fids.tolist() == [1, 3]
    assert shapely.area(zones.geometries).tolist() == [2, 0.5]
    assert not shapely.has_z(zones.geometries).any()
    assert "2 features without a polygon left out" in capsys.readouterr().out


def test_zones_that_overlap_are_told_from_those_that_adjoin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_zones(write_layer(tmp_path / "a.gpkg", SQUARES, {"n": [1, 2, 3]}))
    assert "zones overlap" not in capsys.readouterr().out
    wider = [shapely.buffer(square, 0.1) for square in SQUARES]
    read_zones(write_layer(tmp_path / "b.gpkg", wider, {"n": [1, 2, 3]}))
    assert "its zones overlap" in capsys.readouterr().out


def test_zones_that_are_none(brightest_file: Path, tmp_path: Path) -> None:
    box = shapely.box(110, -8, 111, -7)
    with pytest.raises(InputError, match="no such file"):
        read_zones(tmp_path / "gone.gpkg")
    (tmp_path / "text.gpkg").write_text("no layer", encoding="utf-8")
    with pytest.raises(InputError, match="no vector layer"):
        read_zones(tmp_path / "text.gpkg")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="has no CRS"):
        read_zones(write_zones(tmp_path / "nowhere.gpkg", [box], ["a"], crs=None))
    photo = tmp_path / "photo.png"
    Image.fromarray(coloured(40, 40)[0]).save(photo)
    zones = write_zones(tmp_path / "zones.gpkg", [box], ["a"])
    with pytest.raises(InputError, match=r"photo\.png: has no CRS"):
        predict([photo], model=brightest_file, out=tmp_path / "maps", zones=zones)


def test_options_of_zones_need_zones(brightest_file: Path, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(40, 40)[0], 2, 0))
    for options in ({"zone_field": "block"}, {"zones_layer": "blocks"}):
        with pytest.raises(InputError, match="there is no --zones"):
            predict([path], model=brightest_file, out=tmp_path / "maps", **options)
