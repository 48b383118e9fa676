"""Which images are meant, and which are not."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping.inputs import find_inputs
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured, png, striped
from tests.mapping.test_patch_mosaic import write_patches
from tests.rasters import write_tiff

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of affine, whose @ is new
]


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("given", ["folder", "pattern", "files"])
def test_its_own_maps_are_never_mapped(
    brightest_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    given: str,
) -> None:
    flight = tmp_path / "flight"
    flight.mkdir()

    def write(name: str) -> None:
        pixels = coloured(40, 50)[0]
        if suffix == "png":
            Image.fromarray(pixels).save(flight / f"{name}.png")
        else:
            write_tiff(flight / f"{name}.tif", np.moveaxis(pixels, 2, 0))

    write("a")
    predict([flight / f"a.{suffix}"], model=brightest_file, out=flight)
    (flight / f"a_confidence.{suffix}").rename(flight / f"sure.{suffix}")  # whatever it is called
    write("b")
    capsys.readouterr()
    every = sorted(path for path in flight.iterdir() if path.suffix in (".tif", ".png"))
    arguments = {"folder": [flight], "pattern": [flight / "*.[tp][in][fg]"], "files": every}[given]
    assert [image.path.stem for image in find_inputs(arguments)] == ["a", "b"]
    out = capsys.readouterr().out
    assert "Maps that predict made are no images, and left out: a_classes" in out
    assert f"sure.{suffix}" in out
    with pytest.raises(InputError, match=r"a_classes\.\w+: a map that predict made, and no image"):
        find_inputs([flight / f"a_classes.{suffix}"])


def test_maps_beside_patches_do_not_keep_them_apart(brightest_file: Path, tmp_path: Path) -> None:
    write_patches(tmp_path, "base", coloured(64, 64)[0], 32)
    predict([tmp_path / "images"], model=brightest_file, out=tmp_path / "images")
    [again] = find_inputs([tmp_path / "images"])
    assert again.mosaic is not None and len(again.mosaic.patches) == 4


def test_a_vrt_is_another_image_when_its_parts_are(tmp_path: Path) -> None:
    part = write_tiff(tmp_path / "part.tif", np.zeros((3, 9, 9), np.uint8))
    rasterio.shutil.copy(part, tmp_path / "area.vrt", driver="VRT")
    [image] = find_inputs([tmp_path / "area.vrt"])
    before = image.fingerprint()
    # What QGIS leaves beside an image that it showed changes nothing.
    (tmp_path / "area.vrt.aux.xml").write_text("<PAMDataset/>", encoding="utf-8")
    assert image.fingerprint() == before
    write_tiff(part, np.ones((3, 9, 9), np.uint8), compress="deflate")
    assert image.fingerprint() != before


def test_a_vrt_is_an_image(brightest_file: Path, tmp_path: Path) -> None:
    image, labels = coloured(40, 60)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    with rasterio.open(path) as raster, rasterio.vrt.WarpedVRT(raster) as warped:
        rasterio.shutil.copy(warped, tmp_path / "area.vrt", driver="VRT")
    [result] = predict([tmp_path / "*.vrt"], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as classes:
        np.testing.assert_array_equal(classes.read(1), labels)


def test_two_images_of_one_name_are_both_named(brightest_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        png(tmp_path / folder / "DJI_0001", coloured(20, 20)[0])
    with pytest.raises(InputError, match=r"a.DJI_0001\.png and .*b.DJI_0001\.png: .*--out"):
        predict([tmp_path / "a", tmp_path / "b"], model=brightest_file, out=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_images_are_files_folders_and_patterns(tmp_path: Path) -> None:
    def paths(arguments: list[Path]) -> list[Path]:
        return [image.path for image in find_inputs(arguments)]

    flight = tmp_path / "flight"
    (flight / "images").mkdir(parents=True)
    for name in ("images/b.JPG", "images/a.png", "images/notes.txt", "images/.hidden.png"):
        (flight / name).touch()
    a, b = flight / "images/a.png", flight / "images/b.JPG"
    odd = tmp_path / "photo [1].tif"
    odd.touch()
    assert paths([flight]) == [a, b]
    assert paths([flight / "images"]) == [a, b]
    assert paths([flight / "images" / "*"]) == [a, b]
    assert paths([b, flight, odd]) == [b, a, odd]
    for nothing in (tmp_path / "missing.tif", tmp_path / "*.bmp", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=re.escape(str(nothing))):
            paths([nothing])
    with pytest.raises(InputError, match="no images given"):
        paths([])


def test_a_plain_black_border_is_spoken_of_unless_it_is_known(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = coloured(100, 100)
    image[:, :40] = 0
    path = striped(tmp_path / "field", image)
    predict([path], model=brightest_file, out=tmp_path / "maps")
    assert "add --nodata 0" in capsys.readouterr().out
    [result] = predict([path], model=brightest_file, out=tmp_path / "known", nodata=0)
    assert "--nodata" not in capsys.readouterr().out
    assert result.pixels.sum() == 100 * 60
