"""What is said and checked of one image before it is mapped."""

from pathlib import Path

import numpy as np
import pytest

from salakseg import files
from salakseg.errors import WorkError
from salakseg.mapping.predict import predict
from salakseg.model.weights import Model
from tests.mapping.samples import BrightestBand, coloured, striped

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_gsd_beside_a_crs_is_spoken_of(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = striped(tmp_path / "field", coloured(60, 50)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", gsd=5)
    assert "--gsd 5 is not needed: its CRS tells 0.1 m" in capsys.readouterr().out
    np.testing.assert_allclose(result.square_metres, result.pixels * 0.01, rtol=2e-3)


def test_the_disk_is_checked_before_the_start(
    brightest: Model, brightest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda _: files.shutil._ntuple_diskusage(9, 8, 1)
    )
    path = striped(tmp_path / "field", coloured(60, 80)[0])
    with pytest.raises(WorkError, match=r"the map of field\.tif needs"):
        predict([path], model=brightest_file, out=tmp_path / "maps")
    network = brightest.generator.network
    assert isinstance(network, BrightestBand)
    assert network.tiles == 0
