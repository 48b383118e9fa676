"""The maps that are assessed: which are found, and when they are one population."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from salakseg.assessment.class_maps import find_class_maps, measured
from salakseg.assessment.plan import assess_plan
from salakseg.errors import InputError
from tests.assessment.samples import NAMES, class_map, labels_of


def test_several_maps_are_one_population(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    class_map(tmp_path / "maps" / "a", labels_of())
    far = {"transform": from_origin(500_000, 9e6, 0.2, 0.2)}
    class_map(tmp_path / "maps" / "b", labels_of(seed=1), **far)
    plan = assess_plan([tmp_path / "maps"], points=300)
    assert [one["name"] for one in plan.content["maps"]] == ["a", "b"]
    # Pixels of 20 cm are four times as large as those of 10.
    of_map = np.bincount([one["map"] for one in plan.content["sample"]])
    assert of_map[1] / 300 == pytest.approx(0.8, abs=0.06)
    assert plan.areas is not None
    pixels = (labels_of() < 3).sum() * 0.01 + (labels_of(seed=1) < 3).sum() * 0.04
    assert plan.areas.sum() == pytest.approx(pixels, rel=2e-3)


def test_maps_that_overlap_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = [class_map(tmp_path / name, labels_of()) for name in "ab"]
    assess_plan(maps, points=100)
    assert "overlap: ground that both show counts twice" in capsys.readouterr().out


def test_a_damaged_map_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "x_classes.tif").write_bytes(b"II*\0 nothing")
    with pytest.raises(InputError, match="the map cannot be read"):
        find_class_maps([tmp_path / "x_classes.tif"])


def test_files_folders_and_patterns_are_found_once(tmp_path: Path) -> None:
    (tmp_path / "flight").mkdir()
    maps = [class_map(tmp_path / "flight" / name, labels_of(9, 9)) for name in ("a", "b")]
    maps.append(class_map(tmp_path / "c", labels_of(9, 9)))
    given = [maps[2], tmp_path / "flight", tmp_path / "flight" / "*_classes.tif", tmp_path]
    found = find_class_maps(given)
    assert [one.path for one in found] == [maps[2], *maps[:2]]
    assert [one.name for one in found] == ["c", "a", "b"]
    assert found[0].mapping.names == NAMES
    assert found[0].image == tmp_path / "c.tif"
    with pytest.raises(InputError, match=r"x\*: fits no map"):
        find_class_maps([tmp_path / "x*"])
    with pytest.raises(InputError, match="no maps given"):
        find_class_maps([])


def test_a_map_is_measured_class_by_class(tmp_path: Path) -> None:
    labels = labels_of(60, 70)
    labels[-1, -1] = 7  # no class of the map
    [one] = find_class_maps([class_map(tmp_path / "field", labels)])
    found = measured([one], None)
    counts = np.bincount(labels[labels < 3], minlength=3)
    assert found.pixels.tolist() == counts.tolist()
    assert found.square_metres is not None
    np.testing.assert_allclose(found.square_metres, counts * 0.01, rtol=2e-3)
    np.testing.assert_allclose(found.weights, counts / counts.sum(), rtol=1e-5)
    with one.labels() as read:
        assert read(59, 69, 1, 1) == 255


def test_pixels_of_known_and_unknown_size_are_no_population(tmp_path: Path) -> None:
    paths = [class_map(tmp_path / name, labels_of(9, 9), crs=None, transform=None) for name in "ab"]
    maps = find_class_maps(paths)
    maps[1].tags["OPTIONS"] = '{"gsd": 0.5}'
    with pytest.raises(InputError, match=r"a_classes\.tif: how large its pixels are is not known"):
        measured(maps, None)
    found = measured(maps, 0.5).square_metres
    assert found is not None and found.sum() == 2 * 0.25 * (labels_of(9, 9) < 3).sum()
