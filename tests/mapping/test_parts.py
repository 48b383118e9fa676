"""Polygons and areas by zone of a map that is there: made again where others are asked for."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyogrio
import pytest
import shapely
from numpy.typing import NDArray

from salakseg import files
from salakseg.errors import InputError
from salakseg.mapping import polygons
from salakseg.mapping.geopackage import write_layer
from salakseg.mapping.polygon_files import tags_of
from salakseg.mapping.predict import predict
from salakseg.model.weights import Model
from tests.mapping.samples import BrightestBand, coloured, png, smooth_image, striped
from tests.mapping.test_zones import write_zones

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def tiles_of(model: Model) -> int:
    network = model.generator.network
    assert isinstance(network, BrightestBand)
    return network.tiles


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    """Each polygon with its columns, in an order of their own."""
    _, _, wkb, columns = pyogrio.raw.read(path, layer="classes")
    shapes = shapely.to_wkb(shapely.normalize(shapely.from_wkb(wkb)))
    return sorted((shape, *map(str, row)) for shape, *row in zip(shapes, *columns, strict=True))


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The files in a folder, when they were written and what they hold."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(("index", "catalog"))
    }


STEPS: list[dict[str, Any]] = [
    {},
    {"simplify": 3},
    {},
    {"min_area": 5, "polygon_format": "fgb"},
    {"min_area": 0, "polygon_format": "fgb"},
    {"min_area": 0},
]


@pytest.mark.parametrize("write", [striped, png])
def test_polygons_of_other_options_are_made_from_the_map_that_is_there(
    brightest: Model,
    brightest_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, NDArray[Any]], Path],
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", 50)
    path, out = write(tmp_path / "field", smooth_image(90, 130)), tmp_path / "maps"
    predict([path], model=brightest_file, out=out)
    tiles = tiles_of(brightest)
    for number, options in enumerate(STEPS):
        asked: dict[str, Any] = {"model": brightest_file, "polygons": True, **options}
        before = states(out)
        capsys.readouterr()
        [result] = predict([path], out=out, **asked)
        said = " ".join(capsys.readouterr().out.split())
        assert result.pixels.sum() == 90 * 130
        assert tiles_of(brightest) == tiles * (number + 1)
        name = f"field_polygons.{options.get('polygon_format', 'gpkg')}"
        assert "is mapped already and stays; made from it, with these options: polygons" in said
        after = states(out)
        changed = {one for one in after if after[one] != before.get(one)}
        assert changed - {"field_polygons.qml"} == {name, "field.qlr"}
        assert not list(out.glob(".*"))
        with pytest.raises(InputError, match="exists already"):
            predict([path], out=out, **asked)
        # They are those that a map has which is made with them.
        fresh = tmp_path / f"fresh-{number}"
        predict([path], out=fresh, **asked)
        assert rows_of(out / name) == rows_of(fresh / name)
        tags, others = tags_of(out / name), tags_of(fresh / name)
        assert {**tags, "CREATED": ""} == {**others, "CREATED": ""}
        assert (out / "field.qlr").read_text() == (fresh / "field.qlr").read_text()


def test_of_many_maps_those_with_the_polygons_asked_for_stay(
    brightest: Model, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [png(tmp_path / name, coloured(40, 40)[0]) for name in "abc"]
    call: dict[str, Any] = {"model": brightest_file, "out": tmp_path / "maps"}
    predict(paths[:1], **call, polygons=True, simplify=2)
    predict(paths[1:2], **call, polygons=True)
    tiles = tiles_of(brightest)
    capsys.readouterr()
    assert len(predict(paths, **call, polygons=True, simplify=2.0)) == 3
    said = capsys.readouterr().out
    assert "left as they are: 1 of 3 images" in said
    assert said.count("made from it, with these options: polygons") == 1
    assert tiles_of(brightest) == tiles + tiles / 2
    # Without polygons there is nothing to do; nor with zero for none.
    for options in ({}, {"polygons": True, "simplify": 2}):
        with pytest.raises(InputError, match="so do all others"):
            predict(paths, **call, **options)
    predict(paths, **call, polygons=True)
    with pytest.raises(InputError, match="so do all others"):
        predict(paths, **call, polygons=True, simplify=0)


@pytest.mark.parametrize("when", ["making", "naming"])
def test_stopped_among_new_polygons_the_old_ones_are_whole_and_the_same_call_goes_on(
    brightest: Model,
    brightest_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    path = striped(tmp_path / "field", coloured(60, 70)[0])
    call: dict[str, Any] = {"model": brightest_file, "out": tmp_path / "maps", "polygons": True}
    call["polygon_format"] = "fgb"
    predict([path], **call)
    tiles, before = tiles_of(brightest), states(tmp_path / "maps")
    # An unfinished map of other options, which is there to be gone on with.
    unfinished = tmp_path / "maps" / ".partial-field" / "state.npz"
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"hours of work")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    def stop_at_polygons(source: Path, target: Path) -> None:
        if Path(target).suffix == ".fgb":
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    with monkeypatch.context() as patch:
        if when == "making":
            patch.setattr(polygons._OpenAreas, "close", stop)
        else:
            patch.setattr(files.os, "replace", stop_at_polygons)
        with pytest.raises(KeyboardInterrupt):
            predict([path], **call, simplify=0.2)
    after = states(tmp_path / "maps")
    assert {name: text for name, (_, text) in after.items()} == {
        name: text for name, (_, text) in before.items()
    }
    predict([path], **call, simplify=0.2)
    assert tiles_of(brightest) == tiles
    assert "SIMPLIFY" in tags_of(tmp_path / "maps" / "field_polygons.fgb")
    assert unfinished.read_bytes() == b"hours of work"
    assert [file.name for file in (tmp_path / "maps").glob(".*")] == [".partial-field"]


def test_polygons_that_somebody_has_edited_are_not_replaced(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = striped(tmp_path / "field", coloured(60, 70)[0])
    call: dict[str, Any] = {"model": brightest_file, "out": tmp_path / "maps", "polygons": True}
    predict([path], **call)
    found = tmp_path / "maps" / "field_polygons.gpkg"
    meta, _, wkb, columns = pyogrio.raw.read(found, layer="classes")
    more = dict(zip(meta["fields"], (column[:1] for column in columns), strict=True))
    write_layer(found, "classes", "Polygon", shapely.from_wkb(wkb[:1]), more, None, {}, True)
    with pytest.raises(InputError, match=r"field_polygons\.gpkg: was edited.*move it away"):
        predict([path], **call, simplify=0.2)
    with pytest.raises(InputError, match="exists already"):
        predict([path], **call)
    found.rename(tmp_path / "corrected.gpkg")
    predict([path], **call, simplify=0.2)
    assert "SIMPLIFY" in tags_of(found)


def test_a_map_that_is_damaged_gives_no_polygons(brightest_file: Path, tmp_path: Path) -> None:
    path = striped(tmp_path / "field", coloured(300, 300)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    whole = result.confidence.read_bytes()
    result.confidence.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"field_confidence\.tif: cannot be read whole; --overw"):
        predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True)
    assert not (tmp_path / "maps" / "field_polygons.gpkg").exists()
    predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True, overwrite=True)
    assert (tmp_path / "maps" / "field_polygons.gpkg").exists()


def test_areas_by_other_zones_are_made_from_the_map_that_is_there(
    brightest: Model, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = striped(tmp_path / "field", coloured(60, 70)[0]), tmp_path / "maps"
    call: dict[str, Any] = {"model": brightest_file}
    west, east = (shapely.box(x, 9e6 - 6, x + 3.5, 9e6) for x in (434_000, 434_003.5))
    first = write_zones(tmp_path / "first.gpkg", [west, east], ["west", "east"], "EPSG:32748")
    second = write_zones(tmp_path / "second.gpkg", [west, east], ["west", "other"], "EPSG:32748")
    predict([path], out=out, **call)
    tiles = tiles_of(brightest)
    for zones in (first, second, first):
        before = states(out)
        capsys.readouterr()
        predict([path], out=out, zones=zones, polygons=True, **call)
        said = " ".join(capsys.readouterr().out.split())
        # The polygons are there after the first time.
        words = "areas by zone" if "field_polygons.gpkg" in before else "areas by zone and polygons"
        assert f"is mapped already and stays; made from it, with these options: {words}" in said
        assert tiles_of(brightest) == tiles
        with pytest.raises(InputError, match="exists already"):
            predict([path], out=out, zones=zones, polygons=True, **call)
        for name in ("field_zones.csv", "field_areas_by_zone.csv"):
            with (out / name).open(encoding="utf-8", newline="") as file:
                names = {row["zone"] for row in csv.DictReader(file)} - {"total"}
            assert names == {"west", "east" if zones == first else "other"}
        changed = {name for name, state in states(out).items() if before.get(name) != state}
        assert ("field_polygons.gpkg" in changed) == ("field_polygons.gpkg" not in before)
    predict([path], out=tmp_path / "fresh", zones=first, **call)
    tiles = tiles_of(brightest)
    for name in ("field_zones.csv", "field_areas_by_zone.csv", "field_zones.csvt"):
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
