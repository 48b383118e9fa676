"""Areas in files and on the console."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salakseg.mapping.area_tables import print_areas
from salakseg.mapping.areas import Areas, validation_of
from salakseg.mapping.predict import predict
from tests.mapping.samples import MAPPING, coloured
from tests.mapping.test_areas import three_classes
from tests.rasters import write_tiff


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_intervals_are_in_the_file_and_on_the_console(
    brightest: Any, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brightest.val_confusions = three_classes(9)
    brightest.val_confusion = brightest.val_confusions.sum(0)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(80, 80)[0], 2, 0))
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    said = capsys.readouterr().out
    assert "photos)" in said and "On the 9 validation photographs, each left out in turn" in said
    for row in rows_of(result.areas):
        assert row["interval"] == "95% for a new photograph, by 9 of validation"
        low, high = (float(row[f"new_photo_hectares_{end}"]) for end in ("low", "high"))
        middle, share = (float(row[f"adjusted_{what}"]) for what in ("hectares", "share"))
        assert 0 <= low < middle < high
        assert middle == pytest.approx(share * 64 / 1e4 * 1.0, rel=0.01)
        assert float(row["new_photo_share_low"]) < share < float(row["new_photo_share_high"])


def test_maps_in_square_metres_and_in_pixels_have_a_table_each(
    brightest: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.array([10, 20, 30])
    maps = [Areas(pixels, pixels * 2.0), Areas(100 * pixels, None), Areas(pixels, pixels * 2.0)]
    bases = ["on the ellipsoid", *(f"approximate: {n} m above take-off" for n in range(9))]
    print_areas("3 maps", maps, bases, MAPPING, validation_of(brightest, [None, None, 0.7]))
    said = capsys.readouterr().out
    measured, counted = said.split("3 maps: 1 in pixels only")
    assert "3 maps: 2 whose ground is known" in measured and "m²" in measured
    assert "240.0" in measured and "6,000" in counted and "m²" not in counted
    # A line for each of a hundred photographs would be no help.
    assert said.count("above take-off") == 3 and "… and 7 more" in said
    assert "Not corrected: 1 of the maps look like nothing" in said
