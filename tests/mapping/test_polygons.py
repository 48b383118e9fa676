"""Polygons: every pixel in one of them, shared edges, nothing of the blocks to be seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from numpy.typing import NDArray

from salakseg.imagery.raster import ImageSource
from salakseg.mapping import polygons
from salakseg.mapping.areas import Ground, ground_of
from salakseg.mapping.polygons import min_pixels, write_polygons
from salakseg.mapping.predict import predict
from tests.mapping.samples import MAPPING, coloured, smooth_image, source_of
from tests.rasters import GRID, write_tiff

TAGS = {"MODEL": "brightest.pth"}


def blobs(height: int, width: int) -> NDArray[np.uint8]:
    """Labels of all sizes, from specks to areas as long as the image; with nodata."""
    labels = (smooth_image(height, width).argmax(axis=2)).astype(np.uint8)
    labels[:20, 30:60] = 255
    labels[70:75] = 1
    return labels


def polygonise(
    labels: NDArray[np.uint8], path: Path, smallest: int = 0, source: ImageSource | None = None
) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """The geometries, and the columns by name."""
    confidence = (labels.astype(int) * 10 + 50).astype(np.uint8)

    def read(band: str, row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        bands = {"labels": labels, "confidence": confidence}
        return bands[band][row : row + height, column : column + width]

    source = source or source_of(np.zeros((*labels.shape, 3), np.uint8))
    ground = ground_of(source, None, False)
    sieved = path.with_suffix(".raw")
    write_polygons(path, read, sieved, source, ground, MAPPING, smallest, TAGS)
    meta, _, wkb, columns = pyogrio.raw.read(path)
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], columns, strict=True))


def drawn(geometries: NDArray[Any], columns: dict[str, Any], shape: Any) -> NDArray[np.uint8]:
    """The labels that the polygons (in pixels, rows negative) stand for."""
    shapes = zip(geometries, columns["class_index"].tolist(), strict=True)
    return rasterio.features.rasterize(
        list(shapes), shape, fill=255, transform=rasterio.Affine.scale(1, -1), dtype=np.uint8
    )


@pytest.mark.parametrize("block", [37, 64, 1000])
def test_the_polygons_are_the_raster_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", block)
    labels = blobs(150, 190)
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg")
    np.testing.assert_array_equal(drawn(geometries, columns, labels.shape), labels)
    assert shapely.is_valid(geometries).all()
    assert set(shapely.get_type_id(geometries)) == {shapely.GeometryType.POLYGON}
    np.testing.assert_array_equal(columns["pixels"], shapely.area(geometries))
    for index, name in enumerate(MAPPING.names):
        of_class = columns["class_index"] == index
        assert set(columns["class"][of_class]) <= {name}
        assert columns["pixels"][of_class].sum() == (labels == index).sum()
        np.testing.assert_allclose(columns["confidence"][of_class], 50 + 10 * index)
    # Nothing overlaps and nothing lies between: together they are as large as each alone.
    assert shapely.unary_union(geometries).area == (labels != 255).sum()
    # One for each connected area, so the seams have cut none.
    whole = list(rasterio.features.shapes(labels, mask=labels != 255, connectivity=4))
    assert len(geometries) == len(whole)


def test_specks_go_to_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = blobs(150, 190)
    results = []
    for block in (64, 1000):
        monkeypatch.setattr(polygons, "BLOCK", block)
        geometries, columns = polygonise(labels, tmp_path / f"{block}.gpkg", smallest=30)
        results.append(drawn(geometries, columns, labels.shape))
        assert (columns["pixels"] >= 30).all()
        assert columns["pixels"].sum() == (labels != 255).sum()
        np.testing.assert_array_equal(results[-1] == 255, labels == 255)
    # A speck between two neighbours of one size may go to either.
    assert (results[0] != results[1]).mean() < 0.005


def test_an_area_that_touches_itself_at_a_corner_is_valid(tmp_path: Path) -> None:
    labels = np.zeros((5, 5), np.uint8)
    labels[1, 1] = labels[2, 2] = labels[3, 1] = 1
    labels[0, 4] = labels[1, 3] = 255
    geometries, columns = polygonise(labels, tmp_path / "a.gpkg")
    assert shapely.is_valid(geometries).all()
    np.testing.assert_array_equal(drawn(geometries, columns, labels.shape), labels)


def test_an_image_without_data_has_a_layer_without_polygons(tmp_path: Path) -> None:
    geometries, columns = polygonise(np.full((9, 9), 255, np.uint8), tmp_path / "a.gpkg")
    assert len(geometries) == 0
    assert list(columns) == ["class", "class_index", "pixels", "m2", "hectares", "confidence"]


def test_before_the_sieve_they_sum_to_the_areas_of_the_map(
    brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polygons, "BLOCK", 50)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(90, 130)[0], 2, 0))
    [result] = predict(
        [path], model=brightest_file, out=tmp_path / "maps", polygons=True, min_area=0
    )
    found = tmp_path / "maps" / "field_polygons.gpkg"
    meta, _, wkb, columns = pyogrio.raw.read(found)
    of = dict(zip(meta["fields"], columns, strict=True))
    assert meta["crs"] == GRID["crs"]
    assert result.square_metres is not None
    for index in range(3):
        mine = of["class_index"] == index
        assert of["pixels"][mine].sum() == result.pixels[index]
        assert of["m2"][mine].sum() == pytest.approx(result.square_metres[index])
    box = shapely.total_bounds(shapely.from_wkb(wkb))
    np.testing.assert_allclose(box, [434_000, 9e6 - 9, 434_013, 9e6])


def test_min_area_is_in_square_metres_where_they_are_known() -> None:
    assert min_pixels(None, Ground("by --gsd 0.1", 0.1)) == polygons.MIN_PIXELS
    assert min_pixels(2, Ground("by --gsd 0.1", 0.1)) == 200
    assert min_pixels(2, Ground("pixels only: …")) == 2
