"""The drawn farm on disk."""

from pathlib import Path

import rasterio

from salakseg.classes import packaged_class_mapping, read_class_mapping, read_mask


def test_two_flights_in_the_layout_of_patch_folders(drawn: Path) -> None:
    mapping = read_class_mapping(drawn / "DATA" / "class_mapping.csv")
    assert mapping == read_class_mapping(packaged_class_mapping())
    for flight, masked in (("salak-1-1", 6), ("salak-1-2", 3)):
        images = sorted(path.name for path in (drawn / "DATA" / flight / "images").iterdir())
        masks = sorted((drawn / "DATA" / flight / "masks").iterdir())
        assert images[:2] == ["DJI_0001_patch_000_000.png", "DJI_0004_patch_000_000.png"]
        assert (len(images), len(masks)) == (8, masked)
        assert {path.name for path in masks} < set(images)
        for path in masks:
            reading = read_mask(path, mapping)
            assert reading.labels.shape == (256, 256) and not reading.unknown


def test_the_orthomosaic_lies_in_indonesia_and_has_ragged_edges(drawn: Path) -> None:
    with rasterio.open(drawn / "farm.tif") as raster:
        assert raster.crs == "EPSG:32749" and raster.res == (0.1, 0.1)
        east, north = raster.lnglat()
        assert 110 < east < 111 and -8 < north < -7
        valid = raster.read_masks(1) > 0
    assert not valid[0].any() and not valid[:, -1].any() and valid[200:300, 200:300].all()
    assert 0.7 < valid.mean() < 0.99
