"""The files of a finished map, read again as a user of it reads them."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

import salakseg
from salakseg.errors import InputError
from salakseg.imagery.drawing import scale_bar
from salakseg.imagery.raster import open_image
from salakseg.mapping.classify import Block
from salakseg.mapping.outputs import (
    Shrunk,
    key_of,
    make_tags,
    read_tags,
    write_preview,
    write_raster,
    write_table,
)
from salakseg.mapping.predict import predict
from salakseg.mapping.scratch import open_scratch
from salakseg.mapping.styles import classes_qml, confidence_qml
from salakseg.model.weights import Model, save_model
from tests.mapping.samples import MAPPING, coloured, png, smooth_image, striped
from tests.rasters import GRID, write_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_a_geotiff_gives_cogs_on_its_own_grid_with_colours_and_names(
    brightest_file: Path, tmp_path: Path
) -> None:
    path = striped(tmp_path / "field", coloured(600, 700)[0])
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == [
        "catalog.csv",
        "catalog.csvt",
        "field.qlr",
        "field_areas.csv",
        "field_areas.csvt",
        "field_classes.qml",
        "field_classes.tif",
        "field_classes.tif.aux.xml",
        "field_confidence.qml",
        "field_confidence.tif",
        "field_preview.png",
        "field_view",
        "index.html",
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


@pytest.mark.parametrize("options", [{}, {"tta": True}, {"resolution": 0.2}])
def test_probabilities_are_a_band_a_class(
    tiny: Model, tmp_path: Path, options: dict[str, Any]
) -> None:
    save_model(tmp_path / "model.pth", tiny)
    image = np.moveaxis(smooth_image(600, 700), 2, 0)
    image[:, :40, :90] = 0
    path = write_tiff(tmp_path / "field.tif", image, nodata=0)
    [result] = predict(
        [path], model=tmp_path / "model.pth", out=tmp_path / "maps", probabilities=True, **options
    )
    with (
        rasterio.open(tmp_path / "maps/field_probabilities.tif") as raster,
        rasterio.open(result.classes) as classes,
        rasterio.open(result.confidence) as confidence,
    ):
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert list(raster.descriptions) == MAPPING.names
        assert (raster.crs, raster.transform) == (classes.crs, classes.transform)
        assert raster.tags() == confidence.tags()
        assert set(raster.nodatavals) == {255}
        assert set(raster.offsets) == {0}
        there = classes.read(1) != 255
        assert 0 < (~there).sum() < there.sum()
        stored = raster.read()
        for band in stored:
            np.testing.assert_array_equal(band == 255, ~there)
        shares = stored[:, there] * np.array(raster.scales)[:, None]
        np.testing.assert_allclose(shares.sum(axis=0), 1, atol=0.01)
        # The class has the largest one, but for what is lost in rounding; confidence is that one.
        of_class = np.take_along_axis(shares, classes.read(1)[there][None].astype(int), 0)[0]
        assert (of_class >= shares.max(axis=0) - 1.01 / 254).all()
        np.testing.assert_allclose(100 * of_class, confidence.read(1)[there], atol=0.75)
        step = raster.overviews(2)[0]
        small = raster.read(2, out_shape=(600 // step, 700 // step))
        inside = stored[1, 100 : 100 + step, 100 : 100 + step].mean()
        assert abs(small[100 // step, 100 // step] - inside) <= 1


def test_probabilities_of_a_photograph(brightest_file: Path, tmp_path: Path) -> None:
    image, labels = coloured(70, 90)
    out = tmp_path / "maps"
    predict([png(tmp_path / "photo", image)], model=brightest_file, out=out, probabilities=True)
    with rasterio.open(out / "photo_probabilities.tif") as raster:
        assert raster.crs is None
        np.testing.assert_array_equal(raster.read().argmax(axis=0), labels)
    # They are no image to map.
    with pytest.raises(InputError, match="no image"):
        predict([out], model=brightest_file, out=tmp_path / "again")


def test_a_rotated_image_keeps_its_grid(brightest_file: Path, tmp_path: Path) -> None:
    image, labels = coloured(60, 80)
    turned = Affine(0.09, 0.04, 434_000, 0.04, -0.09, 9e6)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0), transform=turned)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as raster:
        assert raster.transform.almost_equals(turned)
        np.testing.assert_array_equal(raster.read(1), labels)


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


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_raster_holds_the_scratch_the_colours_and_the_tags(tmp_path: Path, suffix: str) -> None:
    image, labels = coloured(40, 50)
    labels[3:9, 20:30] = 255
    tags = {"TIFFTAG_SOFTWARE": "salakseg <1> & 2", "OPTIONS": json.dumps({"tile": 64})}
    nothing = np.zeros(0, np.uint32)
    with (
        open_image(striped(tmp_path / "field", image)) as source,
        open_scratch(tmp_path / "scratch", labels.shape, {}, nothing) as scratch,
    ):
        for band in ("labels", "confidence"):
            scratch.path(band).write_bytes(labels.tobytes())
        for band in ("labels", "confidence"):
            write_raster(scratch, band, tmp_path / f"{band}{suffix}", source, MAPPING, tags)
    for band in ("labels", "confidence"):
        path = tmp_path / f"{band}{suffix}"
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), labels)
            assert raster.nodata == 255
            if band == "labels":
                assert [raster.colormap(1)[index][:3] for index in range(3)] == MAPPING.colors
            else:
                assert raster.colorinterp[0] == rasterio.enums.ColorInterp.gray
            style = classes_qml(MAPPING) if band == "labels" else confidence_qml(3)
            assert path.with_suffix(".qml").read_text(encoding="utf-8") == style
        # Alone, without the files beside it, it still knows its classes.
        alone = path.rename(tmp_path / f"alone{suffix}")
        found = read_tags(alone)
        software = "Software" if suffix == ".png" else "TIFFTAG_SOFTWARE"
        assert (found[software], found["OPTIONS"]) == tuple(tags.values())
        names = [found.get(f"CLASS_{index}") for index in range(3)]
        assert names == (MAPPING.names if band == "labels" else [None] * 3)


def test_the_confidence_says_what_it_is_without_being_read(
    brightest_file: Path, tmp_path: Path
) -> None:
    image, _ = coloured(60, 80)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0), nodata=220)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.confidence) as raster:
        values = raster.read(1)
        valid = values[values < 255]
        assert (raster.descriptions, raster.units) == (("confidence",), ("%",))
        tags = raster.tags(1)
    expected = {
        "MINIMUM": valid.min(), "MAXIMUM": valid.max(), "MEAN": valid.mean(), "STDDEV": valid.std()
    }  # fmt: skip
    for name, value in expected.items():
        assert float(tags[f"STATISTICS_{name}"]) == pytest.approx(value)


def test_a_photograph_has_names_and_styles_too(brightest_file: Path, tmp_path: Path) -> None:
    path = png(tmp_path / "photo", coloured(70, 80)[0])
    mask = png(tmp_path / "mask", np.zeros((70, 80), np.uint8))
    predict([path], model=brightest_file, out=tmp_path / "maps", compare=mask)
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == [
        "catalog.csv",
        "catalog.csvt",
        "index.html",
        "photo.qlr",
        "photo_areas.csv",
        "photo_areas.csvt",
        "photo_classes.png",
        "photo_classes.png.aux.xml",
        "photo_classes.qml",
        "photo_confidence.png",
        "photo_confidence.qml",
        "photo_errors.png",
        "photo_errors.png.aux.xml",
        "photo_errors.qml",
        "photo_preview.png",
        "photo_scores.csv",
        "photo_scores.csvt",
        "photo_view",
    ]
    names = (tmp_path / "maps" / "photo_errors.png.aux.xml").read_text(encoding="utf-8")
    assert re.findall("<Category>(.*)</Category>", names) == ["right", "wrong"]


def test_a_table_tells_the_types_of_its_columns(tmp_path: Path) -> None:
    text = 'zone,class,pixels,m2,hectares,made_by\n007,"a, b",12,1.5,,x\n"1\n2",c,0,2,,x\n'
    write_table(tmp_path / "a.csv", text)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == text
    types = (tmp_path / "a.csvt").read_text(encoding="utf-8")
    assert types == '"String","String","Integer64","Real","Real","String"\n'
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "a.csv")
    found = dict(zip(meta["fields"], columns, strict=True))
    assert found["zone"].tolist() == ["007", "1\n2"]
    assert (found["pixels"].dtype, found["pixels"].tolist()) == (np.int64, [12, 0])
    assert np.isnan(found["hectares"]).all()


def test_what_is_no_map_has_no_tags(tmp_path: Path) -> None:
    for name in ("gone.tif", "gone.png"):
        assert read_tags(tmp_path / name) == {}
    for name in ("text.tif", "text.png"):
        (tmp_path / name).write_text("no image", encoding="utf-8")
        assert read_tags(tmp_path / name) == {}


def test_the_tags_tell_the_model_the_options_and_how_far_the_image_is(tiny: Model) -> None:
    tiny.source, tiny.iteration = "runs/best_model.pth", 1200
    key = {"model": "5e", "options": {"overlap": 0.25}}
    tags = make_tags(tiny, key, None)
    assert (tags["MODEL"], tags["MODEL_SHA256"], tags["ITERATION"]) == (
        "best_model.pth",
        "5e",
        "1200",
    )
    assert json.loads(tags["OPTIONS"]) == {"overlap": 0.25}
    assert "FAR" not in tags
    assert make_tags(tiny, key, 0.0)["FAR"] == "0.0"
    assert not {"IMAGE", "USERS_ACCURACY"} & tags.keys()
    confusion = np.array([[3, 0, 0], [1, 0, 2], [0, 0, 1]])
    more = make_tags(replace(tiny, val_confusion=confusion), key, None, "../field.tif")
    assert (more["IMAGE"], more["USERS_ACCURACY"]) == ("../field.tif", "[0.75, null, 0.3333]")
    other = {"model": "5e", "options": {"overlap": 0.3}}
    assert tags["KEY"] == key_of(key) != key_of(other)


def test_the_preview_has_a_scale_bar_where_the_pixel_size_is_known(tmp_path: Path) -> None:
    image, labels = coloured(1200, 600)
    shrunk = Shrunk(*labels.shape)
    shrunk.add(Block(0, 0, labels, labels, image, torch.empty(0)))

    def read(row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        return labels[row : row + height, column : column + width]

    sheets = []
    for side in (None, 0.1):
        path = tmp_path / f"{side}.png"
        write_preview(path, read, shrunk, MAPPING, side, {"MODEL": "brightest.pth"})
        with Image.open(path) as preview:
            assert preview.info["MODEL"] == "brightest.pth"
            sheets.append(np.asarray(preview))
    without, sheet = sheets
    np.testing.assert_array_equal(sheet[: len(without)], without)
    # The preview's pixels are of two of the image's.
    bar = scale_bar(0.2, sheet.shape[1])
    np.testing.assert_array_equal(sheet[len(without) :], bar)
