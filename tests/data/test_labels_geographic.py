"""Polygons on the ground: every kind of file, CRS, columns, layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer

from salakseg.data.labels_geographic import read_ground_labels
from salakseg.errors import InputError
from tests.data.cutting import MAPPING, QUIET
from tests.data.labelling import (
    UTM,
    labels_after,
    on_ground,
    orthomosaic,
    photo,
    write_layer,
)

pytestmark = QUIET

HOLED = shapely.Polygon(
    [(0, 0), (20, 0), (20, 20), (0, 20)], [[(5, 5), (10, 5), (10, 10), (5, 10)]]
)
TWO = shapely.multipolygons([shapely.box(30, 0, 40, 10), shapely.box(45, 5, 55, 35)])
BOX = on_ground(shapely.box(0, 0, 9, 9))


def degrees(area: Any) -> Any:
    to = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    return shapely.transform(area, to.transform, interleaved=False)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.kml", "a.json"])
def test_every_kind_of_file(tmp_path: Path, name: str) -> None:
    """Holes, several parts, and any CRS, put on the photograph's own grid."""
    orthomosaic(tmp_path / "data" / "images" / "field.tif")
    (tmp_path / "drawn").mkdir()
    path = tmp_path / "drawn" / name
    areas = [degrees(on_ground(HOLED)), degrees(on_ground(TWO))]
    written = path.with_suffix(".geojson") if path.suffix == ".json" else path
    column = "Name" if path.suffix == ".kml" else "what"
    write_layer(written, areas, "EPSG:4326", **{column: ["Road", "Water"]})
    if written != path:
        written.rename(path)
    names = labels_after(tmp_path / "data", tmp_path / "out", path)
    assert names.shape == (40, 60)
    assert (names == "Road").sum() == 400 - 25 and (names[5:10, 5:10] == "").all()
    assert (names == "Water").sum() == 100 + 300 and (names[5:35, 45:55] == "Water").all()


def test_a_large_file_is_cut_by_many_as_by_one(tmp_path: Path) -> None:
    """Random polygons in a rotated, projected layer are where shapely finds each centre."""
    orthomosaic(tmp_path / "data" / "images" / "field.tif", 300, 200)
    random = np.random.default_rng(0)
    places = zip(random.uniform(-10, 310, 60), random.uniform(-10, 210, 60), strict=True)
    areas = [shapely.Point(place).buffer(random.uniform(1, 30), 3) for place in places]
    path = tmp_path / "a.gpkg"
    names = [f"c{number % 3}" for number in range(60)]
    to = Transformer.from_crs(UTM, "EPSG:3857", always_xy=True)
    ground = [shapely.transform(on_ground(area), to.transform, interleaved=False) for area in areas]
    write_layer(path, ground, "EPSG:3857", what=names)
    found = labels_after(tmp_path / "data", tmp_path / "out", path, 64)
    expected = np.full((200, 300), "", object)
    x, y = np.meshgrid(np.arange(300) + 0.5, np.arange(200) + 0.5)
    for area, name in zip(areas, names, strict=True):
        expected[shapely.contains_xy(area, x, y)] = name
    assert (found != expected).sum() <= 3  # the CRS are the same to a millimetre, not to a bit


def test_the_column_of_the_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.gpkg"
    write_layer(path, [BOX, BOX], what=["Road", "Water"], empty=[None, None])
    assert read_ground_labels(path, None, None).names == ["Road", "Water"]
    assert "a.gpkg: 2 polygons, the class by the column what" in said(capsys)
    path = tmp_path / "b.gpkg"
    write_layer(path, [BOX], Name=["field 7"], Label=["Road"], by=["me"])
    assert read_ground_labels(path, None, None).names == ["Road"]
    assert read_ground_labels(path, "BY", None).names == ["me"]
    path = tmp_path / "c.gpkg"
    write_layer(path, [BOX], by=["me"], what=["Road"])
    with pytest.raises(InputError, match=r"which column .* --label-field takes one of: by, what"):
        read_ground_labels(path, None, None)
    with pytest.raises(InputError, match=r"has no column kind .* takes one of: by, what"):
        read_ground_labels(path, "kind", None)


def test_words_beside_a_class_of_numbers_are_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    columns = [np.array([1, 2]), np.array(["me", "you"], object)]
    wkb = shapely.to_wkb(np.array([BOX, BOX], object))
    pyogrio.raw.write(path, wkb, columns, ["class", "by"], geometry_type="Polygon", crs=UTM)
    with pytest.raises(InputError, match=r"--label-field takes one of: class, by"):
        read_ground_labels(path, None, None)
    assert read_ground_labels(path, "class", None).names == ["1", "2"]


def test_flatgeobuf_does_not_keep_the_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.fgb"
    write_layer(path, [BOX, BOX], what=["Road", "Water"])
    read_ground_labels(path, None, None)
    assert "FlatGeobuf does not keep the order in which polygons were drawn" in said(capsys)


def test_a_polygon_without_a_class_is_refused(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "a.gpkg", [BOX, BOX], what=["Road", None])
    with pytest.raises(InputError, match=r"1 polygon without a value in .* what \(feature 2\)"):
        read_ground_labels(path, None, None)


def test_points_and_lines_are_refused_by_name(tmp_path: Path) -> None:
    line = on_ground(shapely.LineString([(0, 0), (9, 9)]))
    path = write_layer(tmp_path / "a.gpkg", [BOX, line], what=["Road", "Water"])
    with pytest.raises(InputError, match=r"holds 1 LineString \(first: feature 2\), which have no"):
        read_ground_labels(path, None, None)
    path = write_layer(tmp_path / "b.gpkg", [line], kind="LineString", what=["Road"])
    with pytest.raises(InputError, match="no polygons in it"):
        read_ground_labels(path, None, None)


def test_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    wkb = shapely.to_wkb(np.array([BOX], object))
    for layer, kind in (("one", "Polygon"), ("two", "Polygon")):
        pyogrio.raw.write(
            path,
            wkb,
            [np.array([layer], object)],
            ["what"],
            layer=layer,
            geometry_type=kind,
            crs=UTM,
            append=path.exists(),
            driver="GPKG",
        )
    with pytest.raises(InputError, match=r"\(one, two\); say --label-layer NAME"):
        read_ground_labels(path, None, None)
    assert read_ground_labels(path, None, "two").names == ["two"]
    with pytest.raises(InputError, match="--label-layer takes one of: one, two"):
        read_ground_labels(path, None, "three")


def test_a_photo_without_a_place_is_refused_by_name(tmp_path: Path) -> None:
    photo(tmp_path / "data" / "images" / "a.png")
    path = write_layer(tmp_path / "a.gpkg", [BOX, BOX], what=["Road", "Water"])
    with pytest.raises(InputError, match=r"a\.png: has no place on the ground .*a\.gpkg cannot"):
        labels_after(tmp_path / "data", tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_a_layer_on_other_ground_or_without_a_crs(tmp_path: Path) -> None:
    orthomosaic(tmp_path / "data" / "images" / "field.tif")
    far = on_ground(shapely.box(1000, 0, 1009, 9))
    path = write_layer(tmp_path / "a.gpkg", [far, far], what=["Road", "Water"])
    with pytest.raises(InputError, match=r"none of it lies on a photograph .* the true one\?"):
        labels_after(tmp_path / "data", tmp_path / "out", path)
    with pytest.warns(UserWarning):
        path = write_layer(tmp_path / "b.shp", [BOX], None, what=["Road"])
    with pytest.raises(InputError, match=r"b\.shp: has no CRS"):
        labels_after(tmp_path / "data", tmp_path / "out", path)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.kml", "a.txt"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    orthomosaic(tmp_path / "data" / "images" / "field.tif")
    path = tmp_path / name
    path.write_bytes(b"{ nothing of a layer \xff")
    with pytest.raises(InputError, match=rf"{name}: no vector layer that can be read") as error:
        labels_after(tmp_path / "data", tmp_path / "out", path)
    assert "\n" not in str(error.value)


def test_classes_of_the_mapping(tmp_path: Path) -> None:
    orthomosaic(tmp_path / "data" / "images" / "field.tif")
    text = "class_name,class_color,ignore\n" + "".join(
        f"{name},{' '.join(map(str, color))},{'yes' if ignored else ''}\n"
        for name, color, ignored in MAPPING.rows
    )
    (tmp_path / "data" / "class_mapping.csv").write_text(text, encoding="utf-8")
    first, second = MAPPING.names[:2]
    path = write_layer(tmp_path / "a.gpkg", [BOX, BOX], what=[first.upper(), f" {second} "])
    names = labels_after(tmp_path / "data", tmp_path / "out", path)
    assert (names == second).sum() == 81 and not (names == first).any()
    path = write_layer(tmp_path / "b.gpkg", [BOX], what=["Pond"])
    with pytest.raises(InputError, match=r"class_mapping\.csv: 1 class is not in it .*'Pond'"):
        labels_after(tmp_path / "data", tmp_path / "out2", path)
