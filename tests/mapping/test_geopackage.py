"""GeoPackages on a full disk; what is in them is in the tests of polygons and zones."""

import sys
from pathlib import Path

import pytest

from salakseg.errors import WorkError
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured, striped

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
@pytest.mark.parametrize("kind", ["polygons", "zones"])
def test_a_disk_that_fills_while_a_geopackage_is_written(
    brightest_file: Path, tmp_path: Path, kind: str
) -> None:
    import resource

    path = striped(tmp_path / "field", coloured(60, 50)[0])
    predict([path], model=brightest_file, out=tmp_path / "first", polygons=True)
    layer = tmp_path / "first/field_polygons.gpkg"
    given = {"model": brightest_file, kind: layer if kind == "zones" else True}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(WorkError, match=r"field\.tif: its map could not be written \("):
            predict([path], out=tmp_path / "maps", **given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in (tmp_path / "maps").iterdir()] == [".partial-field"]
    predict([path], out=tmp_path / "maps", **given)
    assert not (tmp_path / "maps/.partial-field").exists()
