"""The page of all maps of a folder."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from salakseg.mapping.predict import predict
from salakseg.mapping.viewer import MOST_ZONES, write_page
from tests.mapping.samples import coloured, png, striped

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def made_up(out: Path, name: str, confidence: float | None = 80, **about: Any) -> None:
    """The files of a map as far as the page is concerned."""
    view = out / f"{name}_view"
    view.mkdir(parents=True)
    (out / f"{name}_classes.tif").touch()
    classes = [
        {"name": "Water", "color": [0, 0, 255], "pixels": 300, "m2": 30_000.0},
        {"name": "<b>Rice</b>", "color": [0, 255, 0], "pixels": 100, "m2": 10_000.0},
    ]
    all_about = {"classes": classes, "confidence": confidence, "far": None, **about}
    (view / "map.js").write_text(f"salaksegData({json.dumps(all_about)})\n")


def page_of(out: Path) -> str:
    path = write_page(out)
    assert path == out / "index.html"
    return path.read_text(encoding="utf-8")


def listed(page: str) -> list[str]:
    return [unescape(name) for name in re.findall('data-name="([^"]*)"', page)]


def words(page: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", page.partition("<script>")[0])).split())


def test_the_page_comes_with_the_maps_and_is_named(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [striped(tmp_path / "field", coloured(60, 50)[0])]
    paths.append(png(tmp_path / 'a #1 100% é "q" <i>&amp;', coloured(40, 30)[0]))
    predict(paths, model=brightest_file, out=tmp_path / "maps")
    page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert sorted(listed(page)) == ['a #1 100% é "q" <i>&amp;', "field"]
    assert f"look at {tmp_path / 'maps' / 'index.html'}" in capsys.readouterr().out
    assert "<i>" not in page
    # All that it asks for is there, whatever the names.
    for address in re.findall('(?:src|data-files)="([^"]*)"', page):
        path = tmp_path / "maps" / unquote(unescape(address))
        assert path.exists() or path.with_name(f"{path.name}_view").is_dir()
    assert not re.findall("(?:https?:)?//[a-z]", page.replace("// ", ""))
    assert "1 map whose ground is known" in words(page)
    assert "1 map in pixels only" in words(page)
    # Made again it is the same; maps of earlier runs stay in it, those deleted go.
    write_page(tmp_path / "maps")
    assert (tmp_path / "maps" / "index.html").read_text(encoding="utf-8") == page
    for path in (tmp_path / "maps").glob("field*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = striped(tmp_path / "other", coloured(60, 50)[0])
    predict([other], model=brightest_file, out=tmp_path / "maps")
    page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert sorted(listed(page)) == ['a #1 100% é "q" <i>&amp;', "other"]


def test_a_map_that_is_made_again_has_its_new_pictures(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = striped(tmp_path / "field", coloured(60, 50)[0])
    predict([path], model=brightest_file, out=tmp_path / "maps")
    (tmp_path / "maps" / "field_view" / "old.js").touch()
    striped(tmp_path / "field", coloured(70, 90)[0])
    predict([path], model=brightest_file, out=tmp_path / "maps", overwrite=True)
    assert not (tmp_path / "maps" / "field_view" / "old.js").exists()
    assert '"width": 90' in (tmp_path / "maps" / "field_view" / "map.js").read_text()
    assert not list((tmp_path / "maps").glob(".*"))


def test_a_map_without_pictures_is_listed_with_its_preview(
    brightest_file: Path, tmp_path: Path
) -> None:
    predict(
        [striped(tmp_path / "field", coloured(60, 50)[0])],
        model=brightest_file,
        out=tmp_path / "maps",
    )
    shutil.rmtree(tmp_path / "maps" / "field_view")
    (tmp_path / "maps" / "other_classes.tif").write_bytes(b"no map")
    page = page_of(tmp_path / "maps")
    assert listed(page) == []
    assert 'href="./field_preview.png"' in page
    assert "its preview only" in words(page)
    assert "1 map " in words(page)


def test_worst_first_totals_and_what_is_far(tmp_path: Path) -> None:
    for name, confidence, far in (("a", 90.2, 0.1), ("flight/b", 41.6, 0.8), ("c", None, None)):
        made_up(tmp_path, name, confidence, far=far)
    page = page_of(tmp_path)
    assert listed(page) == ["flight/b", "a", "c"]
    assert words(page).count("looks like nothing that the model was trained on") == 1
    assert "3 maps" in words(page)
    assert "All maps class hectares share Water 9.00 75.0 % <b>Rice</b> 3.00 25.0 %" in words(page)
    assert "<b>Rice" not in page


def test_by_zone(tmp_path: Path) -> None:
    head = "zone,class,pixels,m2,hectares,zone_fid"
    for name in ("a", "b"):
        made_up(tmp_path, name)
        rows = [head, "<North>,Water,300,30000.0,3.0,1", "<North>,<b>Rice</b>,100,10000.0,1.5,1"]
        rows += ["Far,Water,0,0.000,0.000000,2"]
        (tmp_path / f"{name}_areas_by_zone.csv").write_text("\n".join(rows))
    page = page_of(tmp_path)
    assert "zone Water <b>Rice</b> total maps <North> 6.00 3.00 9.00 2" in words(page)
    assert "Far" not in words(page)
    rows = [head, *(f"z{n},Water,300,30000.0,3.0,{n}" for n in range(MOST_ZONES + 5))]
    (tmp_path / "a_areas_by_zone.csv").write_text("\n".join(rows))
    assert "6 more are in the tables" in words(page_of(tmp_path))
    (tmp_path / "a_areas_by_zone.csv").write_text("not,a\ntable\n")
    assert "<North> 3.00 1.50 4.50 1" in words(page_of(tmp_path))


def test_two_hundred_maps(tmp_path: Path) -> None:
    for number in range(200):
        made_up(tmp_path, f"flight {number // 20}/tile {number:03}", 50 + number / 10)
    page = page_of(tmp_path)
    assert len(listed(page)) == 200
    assert len(page.encode()) < 1_000_000
    assert "Water 600 75.0 %" in words(page)


def test_a_folder_without_maps_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "x_classes.tif").write_bytes(np.zeros(9).tobytes())
    assert write_page(tmp_path) is None
    assert list(tmp_path.iterdir()) == [tmp_path / "x_classes.tif"]
