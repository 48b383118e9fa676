"""Polygons in other formats: what the GeoPackage has, as other programs read it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from salakseg.errors import InputError
from salakseg.mapping import polygon_files
from salakseg.mapping.geopackage import write_layer
from salakseg.mapping.polygon_files import checked_format, is_left_as_made, tags_of, write_other
from salakseg.mapping.predict import WRITE_ERRORS, predict
from salakseg.mapping.styles import polygons_qml
from tests.mapping.samples import MAPPING, coloured, png
from tests.rasters import GRID, write_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
OTHERS = ("fgb", "parquet")


def polygons_in(path: Path) -> tuple[dict[str, NDArray[Any]], NDArray[Any], Any]:
    """The columns, the geometries and the CRS as the file names it; the same order for all."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        *columns, wkb = [column.to_numpy() for column in table.columns]
        names = table.column_names[:-1]
        crs = json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]["crs"]
    else:
        meta, _, wkb, columns = pyogrio.raw.read(path, layer="classes")
        names, crs = meta["fields"].tolist(), meta["crs"]
    order = np.argsort(wkb)
    found = {name: column[order] for name, column in zip(names, columns, strict=True)}
    return found, shapely.from_wkb(wkb[order]), crs


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


def mapped(path: Path, model: Path, kind: str, **options: Any) -> Path:
    """The polygons of an image in a folder for their format."""
    out = path.parent / kind
    predict([path], model=model, out=out, polygons=True, polygon_format=kind, **options)
    return out / f"{path.stem}_polygons.{kind}"


@pytest.mark.parametrize("simplify", [None, 0.2])
def test_other_formats_hold_the_same_polygons(
    brightest_file: Path, tmp_path: Path, other: str, simplify: float | None
) -> None:
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(60, 70)[0], 2, 0))
    options = {"min_area": 0.02, "simplify": simplify}
    files = [mapped(path, brightest_file, kind, **options) for kind in ("gpkg", other)]
    (asked, shapes, _), (found, others, crs) = map(polygons_in, files)
    assert list(found) == list(asked)
    assert len(others) > 20
    for name, column in asked.items():
        np.testing.assert_array_equal(found[name], column)
        assert found[name].dtype.kind == column.dtype.kind
    assert shapely.equals_exact(shapes, others).all()
    assert CRS(crs) == CRS(GRID["crs"])
    tags = tags_of(files[1])
    assert tags.pop("geo", "") or other == "fgb"
    assert tags.keys() == tags_of(files[0]).keys() >= {"MODEL", "SHAPED_BY", "SIEVE"}
    # QGIS takes its style from beside it, and from the definition.
    qml = (tmp_path / other / "field_polygons.qml").read_text(encoding="utf-8")
    assert qml == polygons_qml(MAPPING)
    shown = "field_polygons.fgb|layername=classes" in (tmp_path / other / "field.qlr").read_text()
    assert shown == (other == "fgb")
    # Nothing of the way there is left.
    assert not list((tmp_path / other).glob("*.gpkg"))


def test_a_photo_has_them_in_pixels_and_without_crs(
    brightest_file: Path, tmp_path: Path, other: str
) -> None:
    path = png(tmp_path / "photo", coloured(40, 50)[0])
    columns, shapes, crs = polygons_in(mapped(path, brightest_file, other, min_area=0))
    assert crs is None
    np.testing.assert_array_equal(shapely.total_bounds(shapes), [0, -40, 50, 0])
    assert columns["pixels"].sum() == 2000
    assert not np.isfinite(columns["m2"].astype(float)).any()


@pytest.mark.parametrize("crs", ["EPSG:4326", 'LOCAL_CS["site grid",UNIT["metre",1]]'])
def test_any_crs_is_kept(brightest_file: Path, tmp_path: Path, other: str, crs: str) -> None:
    bands = np.moveaxis(coloured(40, 50)[0], 2, 0)
    place = rasterio.Affine(1e-6, 0, 110, 0, -1e-6, -7)
    path = write_tiff(
        tmp_path / "field.tif", bands, crs=rasterio.CRS.from_user_input(crs), transform=place
    )
    _, shapes, found = polygons_in(mapped(path, brightest_file, other, min_area=0))
    assert CRS(found).name in ("WGS 84", "site grid")
    # x before y, whatever the CRS says.
    assert shapely.total_bounds(shapes)[:2] == pytest.approx([110, -7 - 40e-6])


def test_geoparquet_says_what_its_readers_need(brightest_file: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(60, 70)[0], 2, 0))
    found = mapped(path, brightest_file, "parquet")
    geo = json.loads(parquet.read_schema(found).metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    [about] = geo["columns"].values()
    assert (about["encoding"], about["geometry_types"]) == ("WKB", ["Polygon"])
    assert about["bbox"] == pytest.approx([434_000, 9e6 - 6, 434_007, 9e6])
    assert about["crs"]["id"] == {"authority": "EPSG", "code": 32748}


def test_no_polygon_is_a_file_too(brightest_file: Path, tmp_path: Path, other: str) -> None:
    path = write_tiff(tmp_path / "field.tif", np.zeros((3, 20, 30), np.uint8), nodata=0)
    found = mapped(path, brightest_file, other)
    columns, shapes, _ = polygons_in(found)
    assert len(shapes) == 0
    assert list(columns) == ["class", "class_index", "pixels", "m2", "hectares", "confidence"]
    assert "KEY" in tags_of(found)


def test_a_format_that_cannot_be_written_is_said_before_the_work(
    brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checked_format(None) == "gpkg"
    path = png(tmp_path / "photo", coloured(20, 20)[0])
    with pytest.raises(InputError, match=r"^--polygon-format shp: must be one of gpkg, fgb"):
        mapped(path, brightest_file, "shp")
    monkeypatch.setattr(polygon_files, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'needs pyarrow.*: pip install "salakseg\[parquet\]"'):
        mapped(path, brightest_file, "parquet")
    assert not (tmp_path / "parquet").exists()
    assert mapped(path, brightest_file, "fgb").exists()


def test_tags_of_what_is_no_file_of_polygons(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("a.gpkg", "a.fgb", "a.parquet"):
        assert tags_of(tmp_path / name) == {}
        (tmp_path / name).write_bytes(b"something else" * 100)
        assert tags_of(tmp_path / name) == {}
        assert not is_left_as_made(tmp_path / name)


def test_editing_is_seen_and_looking_is_not(brightest_file: Path, tmp_path: Path) -> None:
    path = png(tmp_path / "photo", coloured(40, 50)[0])
    found = mapped(path, brightest_file, "gpkg")
    meta, _, wkb, columns = pyogrio.raw.read(found, layer="classes")
    assert is_left_as_made(found)
    more = dict(zip(meta["fields"], (column[:1] for column in columns), strict=True))
    write_layer(found, "classes", "Polygon", shapely.from_wkb(wkb[:1]), more, None, {}, True)
    assert not is_left_as_made(found)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
@pytest.mark.parametrize("share", [0, 0.5, 0.99, 0.9999])
def test_a_disk_that_fills_is_never_passed_over(
    brightest_file: Path, tmp_path: Path, other: str, share: float
) -> None:
    import resource

    path = png(tmp_path / "photo", coloured(90, 90)[0])
    gpkg = mapped(path, brightest_file, "gpkg", min_area=0)
    found = tmp_path / f"found.{other}"
    write_other(gpkg, found, None, "")
    size = found.stat().st_size
    found.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), before[1]))
    try:
        with pytest.raises(WRITE_ERRORS):
            write_other(gpkg, found, None, "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
