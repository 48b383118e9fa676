"""What is mapped already stays."""

from pathlib import Path

import pytest
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured, striped

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_maps_that_are_there_are_not_replaced_unasked(brightest_file: Path, tmp_path: Path) -> None:
    path = striped(tmp_path / "field", coloured(80, 80)[0])
    out = tmp_path / "maps"
    predict([path], model=brightest_file, out=out)
    with pytest.raises(InputError, match=r"field_classes\.tif: exists already; --overwrite"):
        predict([path], model=brightest_file, out=out)
    striped(tmp_path / "field", coloured(80, 90)[0])
    [result] = predict([path], model=brightest_file, out=out, overwrite=True)
    assert result.pixels.sum() == 80 * 90


def test_a_killed_mapping_of_many_goes_on_with_those_that_are_left(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        Image.fromarray(coloured(40, 40)[0]).save(tmp_path / f"{name}.png")
    out = tmp_path / "maps"
    predict([tmp_path / "a.png"], model=brightest_file, out=out)
    first = (out / "a_classes.png").stat().st_mtime_ns
    capsys.readouterr()
    results = predict([tmp_path], model=brightest_file, out=out)
    assert "left as they are: 1 of 3 images" in capsys.readouterr().out
    assert [result.pixels.sum() for result in results] == [1600] * 3
    assert (out / "a_classes.png").stat().st_mtime_ns == first
    with pytest.raises(InputError, match=r"a_classes\.png: exists already.*--overwrite"):
        predict([tmp_path], model=brightest_file, out=out)
    with pytest.raises(InputError, match=r"a_classes\.png: exists already; --overwrite"):
        predict([tmp_path], model=brightest_file, out=out, tta=True)
    with pytest.raises(InputError, match=r"a_classes\.png: exists already; --overwrite"):
        predict([tmp_path], model=brightest_file, out=out, enlarge=2)


# One after the other; pixels, or metres of ten.
