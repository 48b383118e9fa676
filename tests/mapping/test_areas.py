"""Areas against independent calculations: the geodesic, and the paper's own example."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from pyproj import CRS, Geod, Transformer

from salakseg.errors import InputError
from salakseg.mapping.areas import error_adjusted, read_zones
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured
from tests.rasters import GRID, write_tiff

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


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Olofsson et al. 2014, table 8: rows the map, columns the reference.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
SHARES = np.array([0.020, 0.015, 0.320, 0.645])


def test_the_papers_own_example() -> None:
    adjusted = error_adjusted(SHARES, COUNTS.T)
    assert adjusted is not None
    # 235,086 ha of deforestation, ± 68,418, of ten million.
    assert adjusted[0, 0] * 1e7 == pytest.approx(235_086, abs=1)
    assert (adjusted[0, 2] - adjusted[0, 1]) / 2 * 1e7 == pytest.approx(68_418, abs=10)
    assert adjusted[:, 0].sum() == pytest.approx(1)


def test_no_interval_where_nothing_is_known_of_a_classs_errors() -> None:
    never = COUNTS.copy()
    never[1] = 0
    assert error_adjusted(SHARES, never.T) is None
    assert error_adjusted(SHARES, None) is None
    assert error_adjusted(np.zeros(4), COUNTS.T) is None
    # A class that the map does not hold needs no errors.
    adjusted = error_adjusted(np.array([0.1, 0, 0.3, 0.6]), never.T)
    assert adjusted is not None
    assert (adjusted[:, 1] <= adjusted[:, 0]).all()
    assert (adjusted[:, 0] <= adjusted[:, 2]).all()


def test_intervals_are_in_the_file_and_on_the_console(
    brightest: Any, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brightest.val_confusion = np.array([[90, 5, 5], [10, 80, 10], [0, 0, 50]])
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(80, 80)[0], 2, 0))
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert "independent random sample of this map's classes" in capsys.readouterr().out
    for row in rows_of(result.areas):
        low, middle, high = (float(row[f"adjusted_hectares{end}"]) for end in ("_low", "", "_high"))
        assert 0 < low < middle < high
        share = float(row["adjusted_share"])
        assert middle == pytest.approx(share * 64 / 1e4 * 1.0, rel=0.01)


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


@pytest.mark.parametrize(("gsd", "expected"), [(0.02, 0.0004), (0.1, 0.01)])
def test_the_pixel_size_of_a_photograph_can_be_said(
    brightest_file: Path, tmp_path: Path, gsd: float, expected: float
) -> None:
    photo = tmp_path / "photo.png"
    image: NDArray[Any] = coloured(40, 50)[0]
    Image.fromarray(image).save(photo)
    [result] = predict([photo], model=brightest_file, out=tmp_path / "maps", gsd=gsd)
    assert result.square_metres is not None
    np.testing.assert_allclose(result.square_metres, result.pixels * expected)
    assert result.area_basis == f"by --gsd {gsd:g}"
    assert GRID["crs"] not in result.areas.read_text(encoding="utf-8")
