"""predict and classify, mostly with a network that names the brightest band of each pixel.

That network's answer is known exactly, so every pixel of a map can be checked: right place, right
class, nodata where it was and nowhere else.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

import salakseg
from salakseg import files
from salakseg.errors import InputError, WorkError
from salakseg.imagery.photo import read_photo
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.imagery.windows import plan_axis
from salakseg.mapping import classify as classify_module
from salakseg.mapping.classify import Block, classify, default_batch_size
from salakseg.mapping.inputs import find_inputs
from salakseg.mapping.outputs import Shrunk
from salakseg.mapping.predict import Prediction, predict
from salakseg.model.weights import Model, save_model
from tests.mapping.samples import GEO, MAPPING, BrightestBand, coloured, smooth_image, source_of
from tests.rasters import GRID, write_tiff


def whole(model: Model, source: ImageSource, **options: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels and confidence of all blocks; fails unless they cover each pixel once."""
    shape = source.height, source.width
    labels, confidence = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    seen = np.zeros(shape, int)
    for block in classify(model, source, **options):
        height, width = block.labels.shape
        window = np.s_[block.row : block.row + height, block.column : block.column + width]
        labels[window], confidence[window] = block.labels, block.confidence
        seen[window] += 1
        assert (block.image == source.read(block.row, block.column, height, width)[0]).all()
    assert (seen == 1).all()
    return labels, confidence


# classify


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (2, 65), (33, 257), (64, 64), (200, 129)]
)
def test_every_pixel_is_classified_once_in_its_place(
    brightest: Model, shape: tuple[int, int]
) -> None:
    image, expected = coloured(*shape)
    labels, confidence = whole(brightest, source_of(image))
    np.testing.assert_array_equal(labels, expected)
    assert confidence.min() > 90
    assert confidence.max() <= 100


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("tile", [32, 50, 96])
def test_any_tile_and_overlap_gives_every_pixel(
    brightest: Model, tile: int, overlap: float
) -> None:
    image, expected = coloured(230, 170)
    labels, _ = whole(brightest, source_of(image), tile=tile, overlap=overlap)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("sums_bytes", [1, 1_000_000])
def test_the_result_does_not_depend_on_how_the_image_is_cut_into_blocks(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, sums_bytes: int
) -> None:
    source = source_of(smooth_image(300, 400))
    labels, confidence = whole(tiny, source)
    monkeypatch.setattr(classify_module, "SUMS_BYTES", sums_bytes)
    blocks = list(classify(tiny, source))
    assert len(blocks) > 1
    cut_labels, cut_confidence = whole(tiny, source, batch_size=3)
    # A batch of another size may round the last bit of a probability differently.
    assert (labels != cut_labels).mean() < 1e-4
    assert np.abs(confidence.astype(int) - cut_confidence).max() <= 1


def test_a_batch_fits_the_memory_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_batch_size(torch.device("cpu"), 256) == 4
    assert default_batch_size(torch.device("cpu"), 5000) == 1
    for gigabytes, tile, tiles in ((8, 256, 16), (16, 256, 32), (16, 1024, 2), (80, 64, 64)):
        memory = (1, gigabytes << 30)  # free of it: next to nothing, which must not matter
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, memory=memory: memory)
        assert default_batch_size(torch.device("cuda"), tile) == tiles


def test_blocks_do_not_grow_with_the_image(
    brightest: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify_module, "SUMS_BYTES", 1)

    def largest(height: int, width: int) -> int:
        image = np.zeros((height, width, 3), np.uint8)
        return max(block.labels.size for block in classify(brightest, source_of(image)))

    assert largest(900, 1100) <= largest(300, 300)


def test_overlap_makes_the_map_depend_less_on_where_the_tiles_lie(tiny: Model) -> None:
    image = smooth_image(448, 448)

    def change(overlap: float) -> float:
        """Mean change of the confidence in the middle when all tiles move by half of one."""
        _, here = whole(tiny, source_of(image), overlap=overlap)
        _, moved = whole(tiny, source_of(image[32:, 32:]), overlap=overlap)
        inner = np.s_[128:-96, 128:-96]
        return float(np.abs(here[32:, 32:].astype(int) - moved)[inner].mean())

    assert change(0.25) < 0.75 * change(0)
    assert change(0.25) < 0.5


def test_tile_borders_are_no_likelier_places_of_class_changes(tiny: Model) -> None:
    image = smooth_image(480, 480)

    def changes(**options: Any) -> NDArray[Any]:
        """How often the class changes from a column or row to the next, beside the mean."""
        labels, _ = whole(tiny, source_of(image), **options)
        found = (np.diff(labels, axis=0) != 0).sum(axis=1) + (np.diff(labels) != 0).sum(axis=0)
        return found / found.mean()

    in_one = changes(tile=480, overlap=0)

    def excess(overlap: float) -> float:
        """Changes at the tiles' borders, beside those there where the image is one tile."""
        axis = plan_axis(len(image), tiny.patch_size, overlap)
        begins = [axis.begin(index) for index in range(1, axis.count)]
        ends = [axis.begin(index) + axis.tile for index in range(axis.count - 1)]
        borders = np.array(sorted({*begins, *ends})) - 1
        return float(changes(overlap=overlap)[borders].mean() / in_one[borders].mean())

    assert excess(0.25) < 1.15
    assert excess(0) > 3


def test_turns_and_mirror_images_are_averaged(tiny: Model) -> None:
    image = smooth_image(64, 64)
    _, confidence = whole(tiny, source_of(image), tta=True)
    turned = np.ascontiguousarray(np.rot90(image)[:, ::-1])
    _, confidence_turned = whole(tiny, source_of(turned), tta=True)
    back = np.rot90(confidence_turned[:, ::-1], -1).astype(int)
    assert np.abs(back - confidence).max() <= 1
    _, plain = whole(tiny, source_of(image))
    assert (plain != confidence).any()


def test_nodata_is_nodata_in_the_map_and_makes_up_no_edges(brightest: Model) -> None:
    image, expected = coloured(150, 150)
    valid = np.random.default_rng(3).random((150, 150)) > 0.3
    labels, confidence = whole(brightest, source_of(image, valid))
    np.testing.assert_array_equal(labels, np.where(valid, expected, 255))
    np.testing.assert_array_equal(confidence == 255, ~valid)


def test_tiles_without_any_data_are_not_computed(brightest: Model) -> None:
    image, _ = coloured(640, 640)
    valid = np.zeros((640, 640), bool)
    valid[:60, :60] = True
    whole(brightest, source_of(image, valid))
    network = brightest.generator.network
    assert isinstance(network, BrightestBand)
    assert 1 <= network.tiles <= 4


# predict


def png(path: Path, image: NDArray[Any]) -> Path:
    Image.fromarray(image).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def turned_jpeg(path: Path, image: NDArray[Any]) -> Path:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    return path.with_suffix(".jpg")


def striped(path: Path, image: NDArray[Any]) -> Path:
    bands = np.moveaxis(image, 2, 0)
    return write_tiff(path.with_suffix(".tif"), bands, blockysize=3, compress="lzw")


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


def test_a_geotiff_gives_cogs_on_its_own_grid_with_colours_and_names(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = striped(tmp_path / "field", coloured(600, 700)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == [
        "field_areas.csv",
        "field_classes.tif",
        "field_classes.tif.aux.xml",
        "field_confidence.tif",
        "field_preview.png",
    ]
    with rasterio.open(result.classes) as classes, rasterio.open(result.confidence) as confidence:
        for raster in (classes, confidence):
            assert raster.crs == rasterio.CRS.from_epsg(32748)
            assert raster.transform == GRID["transform"]
            assert raster.shape == (600, 700)
            assert (raster.dtypes[0], raster.nodata) == ("uint8", 255)
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert raster.overviews(1)
            assert raster.tags()["MODEL_SHA256"] == hashlib.sha256(b"").hexdigest()
            assert raster.tags()["ITERATION"] == "0"
            assert raster.tags()["TIFFTAG_SOFTWARE"] == f"salakseg {salakseg.__version__}"
            assert json.loads(raster.tags()["OPTIONS"])["tile"] == 64
            assert raster.tags()["CREATED"].endswith("+00:00")
        colors = classes.colormap(1)
        assert [colors[index][:3] for index in range(3)] == MAPPING.colors
        assert classes.tags()["MODEL"] == "brightest.pth"
        assert confidence.read(1).max() <= 100
    names = result.classes.with_name("field_classes.tif.aux.xml").read_text(encoding="utf-8")
    assert re.findall("<Category>(.*)</Category>", names) == ["red", "green &amp; blue", "B"]


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


def test_a_photo_without_crs_has_areas_in_pixels_and_says_why(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = png(tmp_path / "photo", coloured(70, 80)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert result.square_metres is None
    row = next(csv.DictReader(result.areas.open(encoding="utf-8")))
    assert (row["m2"], row["hectares"]) == ("", "")
    assert row["basis"].startswith("pixels only: the image has no CRS")


def test_the_preview_shows_the_image_and_the_classes_over_it(
    brightest_file: Path, tmp_path: Path
) -> None:
    image = np.zeros((900, 1260, 3), np.uint8)
    image[:, :630, 0] = 240
    image[:, 630:, 1] = 240
    [result] = predict(
        [png(tmp_path / "photo", image)], model=brightest_file, out=tmp_path / "maps"
    )
    preview = np.asarray(Image.open(result.preview))
    assert max(preview.shape) <= 2000
    width = 630  # half of the photo's
    np.testing.assert_array_equal(preview[100, 100], (240, 0, 0))
    np.testing.assert_array_equal(preview[100, width - 100], (0, 240, 0))
    np.testing.assert_array_equal(preview[100, -width + 100], (220, 15, 15))
    np.testing.assert_array_equal(preview[100, -100], (15, 220, 45))


def test_the_shrunk_image_is_the_mean_of_its_pixels_however_the_blocks_are_cut() -> None:
    image = smooth_image(1303, 2400)
    shrunk = Shrunk(*image.shape[:2])
    for top, bottom in ((0, 2), (2, 2), (2, 700), (700, 1303)):
        for left, right in ((0, 1201), (1201, 2400)):
            part = image[top:bottom, left:right]
            labels = part[..., 0]
            shrunk.add(Block(top, left, labels, labels, part, torch.empty(0)))
    step = shrunk.step
    assert (step, shrunk.picture().shape) == (3, (435, 800, 3))
    for row, column in ((0, 0), (233, 400), (434, 799)):  # of the last row a third is there
        mean = image[row * step :][:step, column * step :][:, :step].mean((0, 1))
        np.testing.assert_array_equal(shrunk.picture()[row, column], mean.round())


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


def test_a_real_model_file_is_found_in_checkpoints(tiny: Model, tmp_path: Path) -> None:
    save_model(Path("checkpoints/best_model.pth"), tiny)
    [result] = predict([png(tmp_path / "photo", coloured(70, 80)[0])])
    assert result.classes == Path("predictions/photo_classes.png")
    assert result.pixels.sum() == 70 * 80


# What goes wrong


def test_maps_that_are_there_are_not_replaced_unasked(brightest_file: Path, tmp_path: Path) -> None:
    path = striped(tmp_path / "field", coloured(80, 80)[0])
    out = tmp_path / "maps"
    predict([path], model=brightest_file, out=out)
    with pytest.raises(InputError, match=r"field_classes\.tif: exists already; --overwrite"):
        predict([path], model=brightest_file, out=out)
    striped(tmp_path / "field", coloured(80, 90)[0])
    [result] = predict([path], model=brightest_file, out=out, overwrite=True)
    assert result.pixels.sum() == 80 * 90


def test_two_images_of_one_name_are_both_named(brightest_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        png(tmp_path / folder / "DJI_0001", coloured(20, 20)[0])
    with pytest.raises(InputError, match=r"a.DJI_0001\.png and .*b.DJI_0001\.png: .*--out"):
        predict([tmp_path / "a", tmp_path / "b"], model=brightest_file, out=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_one_bad_image_does_not_stop_the_others(brightest_file: Path, tmp_path: Path) -> None:
    good = striped(tmp_path / "good", coloured(80, 80)[0])
    cut = striped(tmp_path / "cut", coloured(300, 300)[0])
    cut.write_bytes(cut.read_bytes()[:100_000])
    out = tmp_path / "maps"
    with pytest.raises(InputError, match=r"1 of 2 images could not be mapped .*cut\.tif"):
        predict([cut, good], model=brightest_file, out=out)
    assert {file.name.split("_")[0] for file in out.iterdir()} == {"good"}


@pytest.mark.parametrize("shape", [(1, 150), (150, 1)])
def test_an_image_that_is_a_line_of_pixels(
    brightest_file: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    image, labels = coloured(*shape)
    path = striped(tmp_path / "line", image)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps", polygons=True)
    with rasterio.open(result.classes) as raster:
        np.testing.assert_array_equal(raster.read(1), labels)


def test_a_rotated_image_keeps_its_grid(brightest_file: Path, tmp_path: Path) -> None:
    image, labels = coloured(60, 80)
    turned = Affine(0.09, 0.04, 434_000, 0.04, -0.09, 9e6)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0), transform=turned)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as raster:
        assert raster.transform.almost_equals(turned)
        np.testing.assert_array_equal(raster.read(1), labels)


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
