"""The data set that the tests of `index` and its parts share."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import SAMPLES
from tests.data.samples import PHOTOS, cut_photo


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photographs in 12 patches each: six with masks in flight-1, two without in flight-2."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "DATA"
    for photo in PHOTOS[:6]:
        cut_photo(photo, folder / "flight-1")
    for photo in PHOTOS[6:]:
        cut_photo(photo, folder / "flight-2", mask=False)
    shutil.copy(SAMPLES / "class_mapping.csv", folder)
    return folder
