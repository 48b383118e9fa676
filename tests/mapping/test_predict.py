"""predict, mostly with a network that names the brightest band of each pixel.

That network's answer is known exactly, so every pixel of a map can be checked: right place, right
class, nodata where it was and nowhere else.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint

from salakseg.errors import InputError
from salakseg.files import claims_in
from salakseg.imagery.photo import read_photo
from salakseg.imagery.raster import open_image
from salakseg.mapping.predict import Prediction, predict
from salakseg.model.weights import Model, save_model
from tests.mapping.samples import GEO, MAPPING, coloured, png, striped
from tests.processes import ended, started
from tests.rasters import write_tiff

SAMPLES = Path(__file__).parents[1] / "samples" / "dubai"
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def turned_jpeg(path: Path, image: NDArray[Any]) -> Path:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    return path.with_suffix(".jpg")


def tiled(path: Path, image: NDArray[Any]) -> Path:
    bands = np.moveaxis(image, 2, 0)
    return write_tiff(
        path.with_suffix(".tif"), bands, tiled=True, blockxsize=32, blockysize=48, bigtiff="YES"
    )


def sixteen_bit(path: Path, image: NDArray[Any]) -> Path:
    bands = np.moveaxis(image, 2, 0).astype(np.uint16) * 257
    return write_tiff(path.with_suffix(".tif"), bands)


def with_alpha(path: Path, image: NDArray[Any]) -> Path:
    alpha = np.full((1, *image.shape[:2]), 255, np.uint8)
    alpha[:, :40] = 0
    bands = np.concatenate([np.moveaxis(image, 2, 0), alpha])
    return write_tiff(path.with_suffix(".tif"), bands, photometric="RGB", alpha="YES")


def with_nodata(path: Path, image: NDArray[Any]) -> Path:
    bands = np.moveaxis(image, 2, 0).copy()
    bands[:, 50:90, 30:] = 220
    return write_tiff(path.with_suffix(".tif"), bands, nodata=220)


@pytest.mark.parametrize(
    "write", [png, turned_jpeg, striped, tiled, sixteen_bit, with_alpha, with_nodata]
)
def test_the_map_is_right_at_every_pixel_whatever_the_file(
    brightest_file: Path, tmp_path: Path, write: Callable[[Path, NDArray[Any]], Path]
) -> None:
    path = write(tmp_path / "field", coloured(150, 210)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    with open_image(path) as source:
        image, valid = source.read(0, 0, source.height, source.width)
    # JPEG smears the bands: where two are as bright the first wins in the network as well.
    expected = np.where(valid, image.argmax(axis=2), 255)
    labels = np.asarray(Image.open(result.classes)) if write in (png, turned_jpeg) else None
    if labels is None:
        with rasterio.open(result.classes) as raster:
            labels = raster.read(1)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(result.pixels, np.bincount(expected[valid].ravel(), minlength=3))
    if write is turned_jpeg:
        assert labels.shape == (210, 150)
        np.testing.assert_array_equal(image, read_photo(path))


def test_areas_are_of_the_ground(brightest_file: Path, tmp_path: Path) -> None:
    # A Mercator map at 14.6° N: "10 cm" are 9.7 cm on the ground.
    bands = np.moveaxis(coloured(100, 120)[0], 2, 0)
    transform = Affine(0.1, 0, 13_467_532, 0, -0.1, 1_632_019)
    path = write_tiff(tmp_path / "river.tif", bands, crs="EPSG:3395", transform=transform)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert result.square_metres is not None
    np.testing.assert_allclose(result.square_metres, result.pixels * 0.01 * 0.937, rtol=1e-3)
    rows = list(csv.DictReader(result.areas.open(encoding="utf-8")))
    assert [row["class"] for row in rows] == MAPPING.names
    assert [int(row["pixels"]) for row in rows] == result.pixels.tolist()
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-5)
    assert float(rows[0]["m2"]) == pytest.approx(result.square_metres[0], abs=0.001)
    assert float(rows[0]["hectares"]) == pytest.approx(result.square_metres[0] / 1e4, abs=1e-6)
    assert rows[0]["basis"] == "on the ellipsoid"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_photo_with_a_world_file_has_a_map_with_its_place(
    brightest_file: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"field.{suffix}"
    tiff = striped(tmp_path / "other", coloured(100, 120)[0])
    driver = {"jpg": "JPEG", "png": "PNG"}[suffix]
    rasterio.shutil.copy(tiff, path, driver=driver, worldfile="YES")
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert result.classes.name == "field_classes.tif"
    assert result.square_metres is not None
    with rasterio.open(tiff) as asked, rasterio.open(result.classes) as raster:
        assert raster.crs == asked.crs
        assert raster.transform.almost_equals(asked.transform)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        if suffix == "png":
            np.testing.assert_array_equal(raster.read(1), coloured(100, 120)[1])


@pytest.mark.parametrize("off", [0, 3])
def test_control_points_place_a_map_or_go_along_with_it(
    brightest_file: Path, tmp_path: Path, off: float, capsys: pytest.CaptureFixture[str]
) -> None:
    corners = [(0, 0), (0, 120), (100, 0), (100, 120)]
    points = [GroundControlPoint(r, c, 4e5 + c / 10, 9e6 - r / 10) for r, c in corners]
    points[3].x += off / 10
    bands = np.moveaxis(coloured(100, 120)[0], 2, 0)
    path = write_tiff(tmp_path / "field.tif", bands, crs=None, transform=None)
    with rasterio.open(path, "r+") as raster:
        raster.gcps = points, rasterio.CRS.from_epsg(32748)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True)
    with rasterio.open(result.classes) as raster:
        if off:
            assert raster.crs is None
            kept = [(point.row, point.col, point.x, point.y) for point in raster.gcps[0]]
            assert kept == [(point.row, point.col, point.x, point.y) for point in points]
            assert raster.gcps[1] == rasterio.CRS.from_epsg(32748)
        else:
            assert raster.transform.almost_equals(Affine(0.1, 0, 4e5, 0, -0.1, 9e6), 1e-6)
    assert (result.square_metres is None) == bool(off)
    assert ("gdalwarp" in capsys.readouterr().out) == bool(off)


def test_a_crs_without_a_place_gives_no_areas(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bands = np.moveaxis(coloured(60, 50)[0], 2, 0)
    path = write_tiff(tmp_path / "field.tif", bands, transform=None)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert result.square_metres is None
    assert "has a CRS, but no geotransform" in capsys.readouterr().out


def test_a_local_crs_has_areas_in_its_plane(brightest_file: Path, tmp_path: Path) -> None:
    crs = rasterio.CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')
    bands = np.moveaxis(coloured(60, 50)[0], 2, 0)
    path = write_tiff(
        tmp_path / "field.tif", bands, crs=crs, transform=Affine(0.2, 0, 5, 0, -0.2, 7)
    )
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    np.testing.assert_allclose(result.square_metres, result.pixels * 0.04)
    assert result.area_basis == "in the plane of its local CRS"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodata": float("nan")}, "^--nodata nan: no pixel can hold it"),
        ({"nodata": -1}, "^--nodata -1: no pixel can hold it"),
        ({"nodata": 300}, r"field\.tif: --nodata 300: its values are 8-bit, 0 to 255"),
        ({"batch_size": 0}, "^--batch-size 0: must be 1 or more"),
        ({"gsd": float("inf")}, "^--gsd inf: must be metres a pixel"),
        ({"min_area": 3}, "^--min-area 3: there are no --polygons whose it could be"),
        ({"simplify": 3}, "^--simplify 3: there are no --polygons whose it could be"),
        ({"polygon_format": "fgb"}, "^--polygon-format fgb: there are no --polygons whose"),
        ({"simplify": -1, "polygons": True}, "^--simplify -1: must be metres, 0 or more"),
    ],
)
def test_values_without_effect_are_refused(
    brightest_file: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = striped(tmp_path / "field", coloured(60, 50)[0])
    with pytest.raises(InputError, match=message):
        predict([path], model=brightest_file, out=tmp_path / "maps", **options)
    assert not (tmp_path / "maps").exists() or not list((tmp_path / "maps").iterdir())


def test_nodata_of_patches_and_of_16_bits(brightest_file: Path, tmp_path: Path) -> None:
    image = coloured(64, 64)[0]
    (tmp_path / "images").mkdir()
    for row in range(2):
        patch = Image.fromarray(image[32 * row : 32 * row + 32])
        patch.save(tmp_path / f"images/field_patch_{row}_0.png")
    with pytest.raises(InputError, match="--nodata 300: its values are 8-bit"):
        predict([tmp_path / "images"], model=brightest_file, out=tmp_path / "maps", nodata=300)
    wide = sixteen_bit(tmp_path / "wide", image)
    [result] = predict([wide], model=brightest_file, out=tmp_path / "maps", nodata=300)
    assert result.pixels.sum() == image[..., 0].size


def test_the_models_white_level_is_taken_and_another_may_be_asked_for(
    brightest: Model, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bands = np.moveaxis(coloured(60, 50)[0], 2, 0).astype(np.uint16) * 16
    path = write_tiff(tmp_path / "field.tif", bands)

    def told(out: str, **options: Any) -> str:
        predict([path], model=brightest_file, out=tmp_path / out, **options)
        return capsys.readouterr().out

    assert "of which 4095 is full brightness: the least usual level" in told("found")
    brightest.white_level = 10_000
    assert "of which 10000 is full brightness, as asked for or in training" in told("models")
    assert "of which 4095 is full brightness\n" in told("asked", white_level=4095)
    with pytest.raises(InputError, match="--white-level 0: must be a 16-bit value"):
        told("none", white_level=0)


def test_a_photo_without_crs_has_areas_in_pixels_and_says_why(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = png(tmp_path / "photo", coloured(70, 80)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert result.square_metres is None
    row = next(csv.DictReader(result.areas.open(encoding="utf-8")))
    assert (row["m2"], row["hectares"]) == ("", "")
    assert row["basis"].startswith("pixels only: the image has no CRS")


def test_a_real_model_file_is_found_in_checkpoints(tiny: Model, tmp_path: Path) -> None:
    save_model(Path("checkpoints/best_model.pth"), tiny)
    [result] = predict([png(tmp_path / "photo", coloured(70, 80)[0])])
    assert result.classes == Path("predictions/photo_classes.png")
    assert result.pixels.sum() == 70 * 80


# What goes wrong


def test_one_bad_image_does_not_stop_the_others(brightest_file: Path, tmp_path: Path) -> None:
    good = striped(tmp_path / "good", coloured(80, 80)[0])
    cut = striped(tmp_path / "cut", coloured(300, 300)[0])
    cut.write_bytes(cut.read_bytes()[:100_000])
    out = tmp_path / "maps"
    with pytest.raises(InputError, match=r"1 of 2 images could not be mapped .*cut\.tif"):
        predict([cut, good], model=brightest_file, out=out)
    stems = {file.name.split("_")[0] for file in out.iterdir()}
    assert stems == {"good", "good.qlr", "index.html", "catalog.csv", "catalog.csvt"}


@pytest.mark.parametrize("shape", [(1, 150), (150, 1)])
def test_an_image_that_is_a_line_of_pixels(
    brightest_file: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    image, labels = coloured(*shape)
    path = striped(tmp_path / "line", image)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True)
    with rasterio.open(result.classes) as raster:
        np.testing.assert_array_equal(raster.read(1), labels)


def test_an_out_that_is_a_file_is_refused(brightest_file: Path, tmp_path: Path) -> None:
    path = png(tmp_path / "photo", coloured(20, 20)[0])
    with pytest.raises(InputError, match="--out"):
        predict([path], model=brightest_file, out=path)


@pytest.mark.parametrize("options", [{"overlap": 0.9}, {"tile": 0}])
def test_an_option_out_of_range_is_no_fault_of_the_images(
    brightest_file: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    paths = [png(tmp_path / name, coloured(20, 20)[0]) for name in ("a", "b")]
    with pytest.raises(InputError, match=r"^--(overlap|tile)"):
        predict(paths, model=brightest_file, out=tmp_path / "maps", **options)
    assert not (tmp_path / "maps").exists()


# Real georeferenced imagery


@pytest.mark.skipif(not GEO.is_dir(), reason="needs ../shared/geo")
@pytest.mark.parametrize(
    "name", ["forest_utm_10cm.tif", "savanna_utm_2cm.tif", "river_mercator_10cm.tif"]
)
def test_real_orthomosaics_keep_their_grid_and_their_nodata(
    brightest_file: Path, tmp_path: Path, name: str
) -> None:
    [result] = predict([GEO / name], model=brightest_file, out=tmp_path / "maps")
    check_grid_and_nodata(result)


def check_grid_and_nodata(result: Prediction) -> None:
    with rasterio.open(result.image) as image, rasterio.open(result.classes) as classes:
        assert classes.crs == image.crs
        assert classes.transform == image.transform
        bands = image.read()
        missing = (bands == image.nodata).all(axis=0)
        expected = np.where(missing, 255, bands.argmax(axis=0))
        np.testing.assert_array_equal(classes.read(1), expected)


@pytest.mark.slow
def test_processes_share_the_images_out_and_all_know_all_of_them(
    tiny: Model, tmp_path: Path
) -> None:
    save_model(tmp_path / "tiny.pth", tiny)
    photos = tmp_path / "photos"
    photos.mkdir()
    for source in sorted((SAMPLES / "images").glob("*.jpg"))[:5]:
        shutil.copy(source, photos)
    words = [str(photos), "--model", str(tmp_path / "tiny.pth"), "--device", "cpu"]
    alone = predict([photos], model=tmp_path / "tiny.pth", out="alone", device="cpu")
    outputs = [out for code, out in ended(started(2, "-m", "salakseg", "predict", *words))]
    assert outputs[0].count(" → ") == 5 and outputs[1] == ""
    assert "5 maps" in outputs[0] and outputs[0].count("Next: ") == 1
    for one in alone:
        for file in (one.classes, one.confidence):
            with Image.open(file) as here, Image.open(Path("predictions") / file.name) as there:
                assert np.array_equal(here, there)

    # Without a launcher: one is with another process, which is killed.
    with claims_in(Path("plain")) as claims:
        assert claims.take(alone[1].image.stem)
        command = [sys.executable, "-m", "salakseg", "predict", *words, "--out", "plain"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        assert process.stdout is not None
        lines = [next(process.stdout)]
        while "1 image is with other processes: waiting" not in lines[-1]:
            lines.append(next(process.stdout))
        assert not (Path("plain") / alone[1].classes.name).exists()
    rest = process.communicate()[0]
    assert process.returncode == 0 and "5 maps" in rest
    assert (Path("plain") / alone[1].classes.name).exists()


@pytest.mark.slow
def test_an_image_alone_is_shared_out_by_its_parts(tiny: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "tiny.pth", tiny)
    values = np.random.default_rng(0).integers(0, 255, (3, 300, 260), dtype=np.uint8)
    write_tiff(tmp_path / "field.tif", values)
    script = (
        "import sys; from salakseg.cli import main; from salakseg.mapping import resample\n"
        "resample.SUMS_BYTES = 1 << 20; main(sys.argv[1:])"
    )
    words = [str(tmp_path / "field.tif"), "--model", str(tmp_path / "tiny.pth"), "--device", "cpu"]
    for count, out in ((1, "alone"), (2, "shared")):
        (code, said), *others = ended(started(count, "-c", script, "predict", *words, "--out", out))
        assert code == 0 and said.count("Next: ") == 1, said
        assert others in ([], [(0, "")])
    for kind in ("classes", "confidence"):
        whole, shared = (rasterio.open(f"{out}/field_{kind}.tif") for out in ("alone", "shared"))
        assert np.array_equal(whole.read(), shared.read())
    assert not list(Path("shared").glob(".*"))
