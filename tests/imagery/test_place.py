"""Where an image lies is what GIS software says, and nothing is invented."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from salakseg.imagery.place import Place, place_of
from tests.rasters import GRID, write_tiff

UTM = CRS.from_epsg(32748)
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of affine, whose @ is new
]


def place(path: Path, **options: Any) -> Place:
    write_tiff(path, np.zeros((1, 40, 60), np.uint8), **{"crs": None, "transform": None} | options)
    with rasterio.open(path) as raster:
        return place_of(raster)


def place_by_points(path: Path, transform: Affine, *off: float) -> Place:
    """Control points at the corners and in the middle, the last of them `off` pixels off."""
    corners = [(0, 0), (0, 60), (40, 0), (40, 60), (20, 30)]
    points = [
        GroundControlPoint(row, column, *(transform * (column, row))) for row, column in corners
    ]
    for axis, pixels in zip("xy", off, strict=False):
        setattr(points[-1], axis, getattr(points[-1], axis) + pixels * transform.a)
    write_tiff(path, np.zeros((1, 40, 60), np.uint8), crs=None, transform=None)
    with rasterio.open(path, "r+") as raster:
        raster.gcps = points, UTM
    with rasterio.open(path) as raster:
        return place_of(raster)


def test_a_geotransform_places(tmp_path: Path) -> None:
    assert place(tmp_path / "a.tif", **GRID) == Place(UTM, GRID["transform"])
    assert place(tmp_path / "a.tif", **GRID).known
    # A world file alone: no CRS, but a place that is kept.
    alone = place(tmp_path / "b.tif", transform=GRID["transform"])
    assert alone == Place(None, GRID["transform"])


def test_nothing_places_nothing(tmp_path: Path) -> None:
    assert place(tmp_path / "a.tif") == Place()
    assert not Place().known


def test_a_crs_alone_places_nothing(tmp_path: Path) -> None:
    found = place(tmp_path / "a.tif", crs=UTM)
    assert (found.crs, found.transform, found.known) == (None, None, False)
    assert "no geotransform" in found.note


@pytest.mark.parametrize("angle", [0, 33])
def test_control_points_on_a_grid_are_that_grid(tmp_path: Path, angle: float) -> None:
    transform = GRID["transform"] * Affine.rotation(angle)
    found = place_by_points(tmp_path / "a.tif", transform, 0.1)
    assert found.crs == UTM
    corners = [(0, 0), (60, 0), (60, 40)]
    for corner in corners:
        np.testing.assert_allclose(found.transform * corner, transform * corner, atol=0.01)
    assert "5 ground control points" in found.note


def test_other_control_points_are_kept_and_spoken_of(tmp_path: Path) -> None:
    found = place_by_points(tmp_path / "a.tif", GRID["transform"], 2.0)
    assert found.transform is None
    assert found.known
    assert len(found.gcps[0]) == 5
    assert found.gcps[1] == UTM
    assert "gdalwarp" in found.note


def test_control_points_on_a_line_place_nothing_else(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.zeros((1, 40, 60), np.uint8), crs=None, transform=None)
    with rasterio.open(tmp_path / "a.tif", "r+") as raster:
        raster.gcps = [GroundControlPoint(9 * n, 9 * n, 4e5 + n, 9e6 - n) for n in range(4)], UTM
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert place_of(raster).transform is None


def test_rpcs_are_spoken_of(tmp_path: Path) -> None:
    one, linear = [1.0] + [0.0] * 19, [0.0, 1.0] + [0.0] * 18
    write_tiff(tmp_path / "a.tif", np.zeros((1, 40, 60), np.uint8), crs=None, transform=None)
    with rasterio.open(tmp_path / "a.tif", "r+") as raster:
        raster.rpcs = RPC(100, 10, 30, 0.1, one, linear, 20, 20, 110, 0.1, one, linear, 30, 30)
    with rasterio.open(tmp_path / "a.tif") as raster:
        found = place_of(raster)
    assert not found.known
    assert "gdalwarp -rpc" in found.note
