"""Planning: what is drawn from which maps, what is refused, and what is written."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from salakseg.assessment import plan as module
from salakseg.assessment.plan import assess_plan
from salakseg.errors import InputError
from salakseg.mapping import areas as areas_module
from salakseg.mapping.predict import predict
from tests.assessment.samples import NAMES, answer, class_map, labels_of
from tests.mapping.samples import GEO, coloured, png
from tests.rasters import write_tiff

DEGREES: dict[str, Any] = {"crs": "EPSG:4326", "transform": from_origin(10, 60, 0.1, 0.1)}


def by_class(content: dict[str, Any]) -> list[int]:
    found = np.bincount([one["class"] for one in content["sample"]], minlength=3)
    return found.tolist()


def test_a_plan_is_a_folder_that_tells_the_interpreter_nothing_of_the_map(tmp_path: Path) -> None:
    labels = labels_of()
    plan = assess_plan([class_map(tmp_path / "field", labels)], points=120, out="a")
    assert sorted(path.name for path in Path("a").iterdir()) == [
        "HOW-TO.md", "chips", "index.html", "plan.json", "points.gpkg",
    ]  # fmt: skip
    assert not list(Path().glob(".*"))
    sample = plan.content["sample"]
    assert by_class(plan.content) == [20, 67, 33]
    for one in sample:
        assert labels[one["row"], one["column"]] == one["class"]
        place = 434_000 + 0.1 * (one["column"] + 0.5), 9e6 - 0.1 * (one["row"] + 0.5)
        assert (one["x"], one["y"]) == pytest.approx(place)
    meta, _, geometries, columns = pyogrio.raw.read("a/points.gpkg", layer="points")
    assert list(meta["fields"]) == ["id", "map", "x", "y", "reference"]
    assert meta["crs"] == "EPSG:32748"
    assert columns[0].tolist() == [one["id"] for one in sample] and set(columns[4]) == {None}
    points = shapely.from_wkb(geometries)
    np.testing.assert_allclose(shapely.get_x(points), [one["x"] for one in sample])
    with sqlite3.connect("a/points.gpkg") as base:
        tables = {name for (name,) in base.execute("select table_name from gpkg_contents")}
    assert tables == {"points", "layer_styles"}
    # Nothing on the page says what the map says, nor asks anything of the network.
    page = Path("a/index.html").read_text(encoding="utf-8")
    assert "http" not in page and '"class"' not in page
    assert all(json.dumps(one["id"]) in page for one in sample)
    assert "Land \\u0026 sand" in page
    assert len(list(Path("a/chips").glob("*.jpg"))) == 120


def test_the_same_call_gives_the_same_points_and_another_seed_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = class_map(tmp_path / "field", labels_of())
    first = assess_plan([path], points=100, out="a").content
    monkeypatch.setattr(areas_module, "STRIP_PIXELS", 1000)
    assert assess_plan([path], points=100, out="b").content == first
    assert Path("a/plan.json").read_bytes() == Path("b/plan.json").read_bytes()
    other = assess_plan([path], points=100, seed=1, out="c").content
    assert other["sample"] != first["sample"] and other["id"] != first["id"]


def test_in_degrees_a_points_chance_goes_by_its_ground(tmp_path: Path) -> None:
    labels = np.zeros((600, 40), np.uint8)
    labels[300:] = 1
    plan = assess_plan([class_map(tmp_path / "world", labels, **DEGREES)], points=400, least=2)
    assert plan.content["unit"] == "m2" and plan.areas is not None
    # 60 to 30 degrees north against 30 to 0: sines of the latitudes.
    share = (np.sin(np.pi / 3) - 0.5) / np.sin(np.pi / 3)
    assert plan.areas[0] / plan.areas.sum() == pytest.approx(share, rel=0.01)
    rows = np.array([one["row"] for one in plan.content["sample"] if one["class"] == 0])
    # Of the upper half of the first, less is ground.
    upper = (np.sin(np.pi / 3) - np.sin(np.pi / 4)) / (np.sin(np.pi / 3) - 0.5)
    assert (rows < 150).mean() == pytest.approx(upper, abs=0.1)


def test_without_a_crs_pixels_are_counted_or_gsd_says(tmp_path: Path) -> None:
    path = class_map(tmp_path / "photo", labels_of(), crs=None, transform=None)
    plan = assess_plan([path], points=100)
    assert plan.areas is None and plan.content["unit"] == "pixels"
    assert pyogrio.read_info("assessment/points.gpkg", layer="points")["crs"] is None
    assert all(one["y"] < 0 for one in plan.content["sample"])
    plan = assess_plan([path], points=100, gsd=0.5)
    assert plan.areas is not None
    assert plan.areas.sum() == pytest.approx(0.25 * (labels_of() < 3).sum())


def test_sample_size_by_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = class_map(tmp_path / "field", labels_of())
    plan = assess_plan([path])
    assert "400 points give the overall accuracy a standard error of 0.02" in (
        said := capsys.readouterr().out
    )
    assert "user's accuracies of 0.8" in said and len(plan.ids) == 400
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(USERS_ACCURACY="[0.9, null, 0.9999]")
    plan = assess_plan([path], standard_error=0.1, least=10)
    expected = plan.content["expected"]
    assert expected["users_accuracy"] == [0.9, 0.8, 0.95]
    assert "as in the model's validation" in capsys.readouterr().out


def test_zones_are_parts_of_the_ground_that_points_fall_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = class_map(tmp_path / "field", labels_of())
    with rasterio.open(path) as raster:
        left, bottom, right, top = raster.bounds
    middle = left + 0.2 * (right - left)
    boxes = [shapely.box(left, bottom, middle, top), shapely.box(middle - 1, bottom, right, top)]
    pyogrio.raw.write(
        "z.gpkg",
        shapely.to_wkb(np.array(boxes, object)),
        [np.array(["west", "east"], object)],
        ["name"],
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32748",
    )
    plan = assess_plan([path], points=100, zones="z.gpkg")
    assert [one["zone"] for one in plan.content["zones"]] == ["west", "east"]
    for one in plan.content["sample"]:
        x = left + 0.1 * (one["column"] + 0.5)
        assert one["zones"] == [0] * (x < middle) + [1] * (x > middle - 1)
    said = capsys.readouterr().out
    assert "1 zone has fewer than 30 points, too few for figures of their own: west" in said
    with pytest.raises(InputError, match="there is no --zones"):
        assess_plan([path], zone_field="name")


def refused(match: str, *maps: Path, **options: Any) -> None:
    with pytest.raises(InputError, match=match):
        assess_plan(list(maps), **options)
    assert not Path("assessment").exists()


def test_what_is_refused_is_said_in_a_line(tmp_path: Path) -> None:
    field = class_map(tmp_path / "field", labels_of())
    other = class_map(tmp_path / "other", labels_of(), crs="EPSG:32749")
    refused("are in different coordinate systems", field, other)
    with rasterio.open(other, "r+") as raster:
        raster.update_tags(CLASS_2="Grass")
    refused("have different classes", field, other)
    refused("is no class map of salakseg predict", tmp_path / "field.tif")
    refused("nowhere.tif: no such map", tmp_path / "nowhere.tif")
    (tmp_path / "empty").mkdir()
    refused("holds no map", tmp_path / "empty")
    refused("too few for 3 classes", field, points=5)
    refused("give one of them", field, points=100, standard_error=0.1)
    refused("must be a share", field, standard_error=2.0)
    refused("must be 2 or more", field, least=1)
    refused("--gsd -1", field, gsd=-1.0)
    refused("nothing is mapped", class_map(tmp_path / "no", np.full((9, 9), 255, np.uint8)))
    refused(
        "gives no image called field", field, image=[tmp_path / "other.tif", tmp_path / "no.tif"]
    )
    refused("the map .* has 150 × 120; say --image", field, image=[tmp_path / "no.tif"])
    (tmp_path / "field.tif").unlink()
    refused("its image .* is not there; say --image FILE", field)


def test_answers_are_not_overwritten(tmp_path: Path) -> None:
    field = class_map(tmp_path / "field", labels_of())
    plan = assess_plan([field], points=100)
    plan = assess_plan([field], points=90)  # nobody has answered yet
    answer(plan, lambda one: NAMES[0])
    for text in ("id,reference\n001,Water\n", "nonsense"):
        Path("assessment/reference.csv").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="holds answers"):
            assess_plan([field], points=80)
    assert len(assess_plan([field], points=80, overwrite=True).ids) == 80
    assert not Path("assessment/reference.csv").exists()
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years", encoding="utf-8")
    with pytest.raises(InputError, match="holds something else"):
        assess_plan([field], out="thesis", overwrite=True)


def test_interrupted_the_old_plan_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = class_map(tmp_path / "field", labels_of())
    assess_plan([field], points=100)
    before = Path("assessment/plan.json").read_bytes()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_how_to", stop)
    with pytest.raises(KeyboardInterrupt):
        assess_plan([field], points=90)
    assert Path("assessment/plan.json").read_bytes() == before
    assert [path.name for path in Path().iterdir() if "assessment" in path.name] == ["assessment"]


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_maps_of_predict_tell_of_their_image_and_model(
    brightest_file: Path, tmp_path: Path, suffix: str
) -> None:
    image, _ = coloured(90, 100)
    path = png(tmp_path / "field", image)
    if suffix == "tif":
        path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    predict([path], model=brightest_file, out=tmp_path / "maps")
    plan = assess_plan([tmp_path / "maps"], points=60, least=10)
    assert plan.mapping.names == ["red", "green & blue", "B"]
    assert plan.mapping.colors[0] == (200, 30, 30)
    assert plan.content["unit"] == ("m2" if suffix == "tif" else "pixels")


@pytest.mark.skipif(not GEO.exists(), reason="needs real imagery")
@pytest.mark.parametrize("name", ["forest_utm_10cm.tif", "river_mercator_10cm.tif", "DJI_0005.JPG"])
def test_real_imagery(brightest_file: Path, tmp_path: Path, name: str) -> None:
    result = predict([GEO / name], model=brightest_file, out=tmp_path / "maps")[0]
    plan = assess_plan([result.classes], points=60, least=10)
    assert plan.sizes.tolist() == result.pixels.tolist()
    if result.square_metres is None:
        assert plan.areas is None
    else:
        assert plan.areas is not None
        np.testing.assert_allclose(plan.areas, result.square_metres, atol=1e-3)
