"""What patchify says of the pixel sizes of what it has cut."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from salakseg.data.patchify import patchify
from salakseg.errors import InputError
from salakseg.imagery.photo import ground_sampling
from tests.data.cutting import (
    NAMES,
    QUIET,
    layout,
    photos_and_masks,
    write_geotiff,
)

pytestmark = QUIET


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return photos_and_masks(tmp_path / "data")


DJI = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf drone-dji:RelativeAltitude="+%d.0" '
    b'drone-dji:GimbalPitchDegree="-90.0"/></x:xmpmeta>'
)


def write_drone_photo(path: Path, altitude: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.ExifImageWidth: 400,
            ExifTags.Base.ExifImageHeight: 300,
            ExifTags.Base.FocalLengthIn35mmFilm: 24,
        }
    )
    picture = Image.effect_noise((400, 300), 60).convert("RGB")
    picture.save(path, exif=exif, xmp=DJI % altitude)


def test_drone_photographs_tell_their_pixel_size(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, altitude in (("low", 10), ("high", 30)):
        write_drone_photo(data / "flight2/images" / f"{name}.jpg", altitude)
    patchify(data, out=tmp_path / "out", num_workers=1)
    sizes = {row["base_image"]: row["pixel_size"] for row in layout(tmp_path / "out/flight2")}
    known, _ = ground_sampling(data / "flight2/images/low.jpg", 400, 300)
    assert known is not None and float(sizes["low"]) == pytest.approx(known, rel=1e-5)
    assert float(sizes["high"]) == pytest.approx(3 * known, rel=1e-5)
    assert {row["pixel_size"] for row in layout(tmp_path / "out")} == {""}
    said = capsys.readouterr().out
    assert "Pixel size of 2 photos by their metadata, approximate: 0.0361 m to 0.108 m" in said
    assert said.count("not known") == 1 and "Pixel size of 3 photos not known (flight1/" in said


def test_a_pixel_size_that_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It holds where no place tells it, before what a drone's metadata say."""
    write_drone_photo(data / "images/drone.jpg", 10)
    write_geotiff(data / "images/placed.tif", np.ones((3, 64, 64), np.uint8))
    write_geotiff(data / "images/no_crs.tif", np.ones((3, 64, 64), np.uint8), crs=None)
    patchify(data, out=tmp_path / "out", gsd=0.05, num_workers=1)
    sizes = {row["base_image"]: row["pixel_size"] for row in layout(tmp_path / "out")}
    assert sizes["drone"] == sizes["no_crs"] == sizes[NAMES[0]] == "0.05"
    assert float(sizes["placed"]) == pytest.approx(0.1, rel=1e-3)
    assert "Pixel size of 5 photos by --gsd: 0.05 m" in capsys.readouterr().out
    for option, value, message in (
        ("gsd", 0, "--gsd 0: must be metres"),
        ("nodata", 1.5, "--nodata 1.5: no pixel can hold it"),
        ("nodata", 300, "--nodata 300: the photos' values are 8-bit"),
    ):
        with pytest.raises(InputError, match=message):
            patchify(data, out=tmp_path / "other", num_workers=1, **{option: value})
