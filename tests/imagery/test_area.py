"""Areas on the ground against geodesic polygons, an independent calculation."""

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Geod, Transformer

from salakseg.errors import InputError
from salakseg.imagery.area import (
    area_basis,
    ground_pixel_sides,
    ground_pixel_size,
    pixel_areas,
    require_gsd,
    unknown_area,
)

# CRS, transform, width, height: 10 cm to kilometres, near and far from where the map is true.
MAPS = {
    "UTM": ("EPSG:32748", Affine(0.1, 0, 434_000, 0, -0.1, 9_160_000), 9000, 7000),
    "UTM, edge of the zone": ("EPSG:32748", Affine(10, 0, 170_000, 0, -10, 9_160_000), 5000, 4000),
    "degrees": ("EPSG:4326", Affine(1e-6, 0, 110.4, 0, -1e-6, -7.6), 9000, 7000),
    "coarse degrees": ("EPSG:4326", Affine(0.01, 0, 100.0, 0, -0.01, 60.0), 900, 2000),
    "web Mercator": ("EPSG:3857", Affine(0.3, 0, 1_000_000, 0, -0.3, 6_800_000), 3000, 2000),
    "world Mercator": ("EPSG:3395", Affine(0.1, 0, 13_467_532, 0, -0.1, 1_632_019), 2048, 2048),
    "rotated": (
        "EPSG:32748",
        Affine(0.087, 0.1, 434_000, 0.05, -0.173, 9_160_000),
        4000,
        3000,
    ),
    "feet": ("EPSG:2229", Affine(0.3, 0, 6_500_000, 0, -0.3, 1_900_000), 4000, 3000),
    "degrees, across 180°": ("EPSG:4326", Affine(0.01, 0, 179.0, 0, -0.01, 0.0), 200, 100),
    "degrees, from the west of Paris": ("EPSG:4807", Affine(1e-4, 0, 2, 0, -1e-4, 52), 500, 400),
}


def geodesic_area(crs: CRS, transform: Affine, width: int, height: int) -> float:
    """Area of the map's outline as a polygon of geodesics between many points on it."""
    across, down = np.linspace(0, width, 400), np.linspace(0, height, 400)
    columns = np.concatenate([across, np.full(400, width), across[::-1], np.zeros(400)])
    rows = np.concatenate([np.zeros(400), down, np.full(400, height), down[::-1]])
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    # WGS 84 has the ellipsoid of all these but one to a part in 10⁵, degrees from Greenwich.
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize("name", MAPS)
def test_the_sum_over_the_pixels_is_the_geodesic_area(name: str) -> None:
    code, transform, width, height = MAPS[name]
    crs = CRS.from_user_input(code)
    assert unknown_area(crs, transform, width, height) is None
    total = sum(
        pixel_areas(crs, transform, 0, row, width, min(500, height - row)).sum()
        for row in range(0, height, 500)
    )
    assert total == pytest.approx(geodesic_area(crs, transform, width, height), rel=2e-4)


def test_the_nominal_pixel_size_would_be_wrong_in_mercator() -> None:
    code, transform, width, height = MAPS["world Mercator"]
    areas = pixel_areas(CRS.from_user_input(code), transform, 0, 0, width, height)
    assert areas.mean() / 0.1**2 == pytest.approx(0.937, abs=0.001)


def test_areas_do_not_depend_on_the_window() -> None:
    code, transform, _, _ = MAPS["coarse degrees"]
    crs = CRS.from_user_input(code)
    whole = pixel_areas(crs, transform, 0, 0, 60, 80)
    part = pixel_areas(crs, transform, 20, 30, 10, 5)
    np.testing.assert_allclose(whole[30:35, 20:30], part, rtol=1e-5)


def test_the_ground_pixel_size_of_a_map_in_degrees_is_in_metres() -> None:
    # One second of arc at the equator: 30.7 m north, 30.9 m east.
    transform = Affine(1 / 3600, 0, 110, 0, -1 / 3600, 0.01)
    assert ground_pixel_size(CRS("EPSG:4326"), transform, 10, 10) == pytest.approx(30.8, abs=0.1)


@pytest.mark.parametrize("west", [-180, 0])
def test_all_of_the_earth_has_an_area(west: float) -> None:
    """Its rows end at the poles, or a little beyond them by rounding."""
    crs, transform = CRS("EPSG:4326"), Affine(0.1, 0, west, 0, -0.1, 90 + 1e-9)
    assert unknown_area(crs, transform, 3600, 1800) is None
    assert pixel_areas(crs, transform, 0, 0, 3600, 1800).sum() == pytest.approx(5.1e14, rel=2e-3)


@pytest.mark.parametrize("gsd", [0, -0.05, 1e-300, 1e300, float("inf"), float("nan")])
def test_a_pixel_size_that_no_image_has_is_refused(gsd: float) -> None:
    with pytest.raises(InputError, match=r"^--gsd \S+: must be metres a pixel"):
        require_gsd(gsd)
    for usual in (None, 1e-4, 0.05, 30):
        require_gsd(usual)


def test_why_an_area_is_not_known_is_said() -> None:
    square = Affine(1, 0, 0, 0, -1, 0)
    assert unknown_area(None, None, 10, 10) == "the image has no CRS"
    unknown = CRS.from_wkt('LOCAL_CS["site grid",UNIT["pixel",1]]')
    assert "local, in units that are not known" in str(unknown_area(unknown, square, 10, 10))
    far = Affine(1, 0, 1e12, 0, -1, 1e12)
    assert "outside" in str(unknown_area(CRS("EPSG:32748"), far, 10, 10))
    flat = Affine(1, 0, 434_000, 0, 0, 9_160_000)
    assert "no area" in str(unknown_area(CRS("EPSG:32748"), flat, 10, 10))
    # Latitude and longitude in each other's place, metres called degrees, and 200° to -100°.
    for number, x, y in ((1e-6, 45, 120), (1, 434_000, 9_160_000), (1, 434_000, 80), (3, 0, 200)):
        image = CRS("EPSG:4326"), Affine(number, 0, x, 0, -number, y), 100, 100
        assert "outside" in str(unknown_area(*image))
        assert ground_pixel_size(*image) is None
    assert ground_pixel_size(unknown, square, 10, 10) is None
    assert ground_pixel_sides(unknown, square, 10, 10) is None


@pytest.mark.parametrize(
    ("wkt", "metres"),
    [
        ('LOCAL_CS["site grid",UNIT["metre",1]]', 1),
        ('LOCAL_CS["site grid",UNIT["foot",0.3048]]', 0.3048),
        (
            'COMPD_CS["site",LOCAL_CS["grid",UNIT["metre",1]],'
            'VERT_CS["height",VERT_DATUM["dam",2005],UNIT["metre",1]]]',
            1,
        ),
    ],
)
def test_a_local_crs_has_areas_in_its_plane(wkt: str, metres: float) -> None:
    crs, transform = CRS.from_wkt(wkt), Affine(0.3, 0.4, 100, -0.4, 0.3, 200)
    assert unknown_area(crs, transform, 50, 40) is None
    areas = pixel_areas(crs, transform, 3, 4, 50, 40)
    assert areas.shape == (40, 50)
    np.testing.assert_allclose(areas, (0.5 * metres) ** 2)
    assert ground_pixel_size(crs, transform, 50, 40) == pytest.approx(0.5 * metres)
    assert ground_pixel_sides(crs, transform, 50, 40) == pytest.approx((0.5 * metres,) * 2)
    assert "plane" in area_basis(crs)
    assert area_basis(CRS("EPSG:32748")) == "on the ellipsoid"


@pytest.mark.parametrize("name", MAPS)
def test_the_sides_of_a_pixel_are_geodesics(name: str) -> None:
    code, transform, width, height = MAPS[name]
    crs = CRS.from_user_input(code)
    columns, rows = width / 2 + np.array([0, 1, 0]), height / 2 + np.array([0, 0, 1])
    x = transform.a * columns + transform.b * rows + transform.c
    y = transform.d * columns + transform.e * rows + transform.f
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    _, _, metres = Geod(ellps="WGS84").inv([lon[0]] * 2, [lat[0]] * 2, lon[1:], lat[1:])
    assert ground_pixel_sides(crs, transform, width, height) == pytest.approx(metres, rel=3e-4)
