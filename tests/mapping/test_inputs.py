"""Folders of patches become their base images again."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from PIL import Image

from salakseg import patchify
from salakseg.errors import InputError
from salakseg.mapping.inputs import find_inputs, open_input
from salakseg.mapping.predict import predict
from tests.mapping.samples import coloured
from tests.rasters import GRID, write_tiff


def write_patches(folder: Path, base: str, image: np.ndarray, size: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in range(0, image.shape[0], size):
        for column in range(0, image.shape[1], size):
            name = f"{base}_patch_{row // size:03d}_{column // size:03d}.png"
            patch = image[row : row + size, column : column + size]
            Image.fromarray(patch).save(folder / "images" / name)


def test_patches_are_placed_by_row_and_column(brightest_file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    images = {}
    for number, folder in enumerate(["salak-1-1", "salak-1-2"]):
        image, labels = coloured(96, 64, number)
        write_patches(data / folder, "DJI_0001", image, 32)
        images[folder] = labels
    # One that is missing is nodata.
    (data / "salak-1-2/images/DJI_0001_patch_001_001.png").unlink()
    images["salak-1-2"][32:64, 32:] = 255
    results = predict([data], model=brightest_file, out=tmp_path / "maps")
    for result, (folder, labels) in zip(results, images.items(), strict=True):
        assert result.classes == tmp_path / "maps" / folder / "DJI_0001_classes.tif"
        with rasterio.open(result.classes) as raster:
            np.testing.assert_array_equal(raster.read(1), labels)
    # A single folder, or its images/, needs no folder in the names.
    [one] = find_inputs([data / "salak-1-1"])
    [same] = find_inputs([data / "salak-1-1" / "images"])
    assert (one.name, one.path) == ("DJI_0001", data / "salak-1-1/images/DJI_0001")
    assert one == same


def test_patches_are_placed_by_their_layout_and_keep_the_crs(
    brightest_file: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos" / "images"
    photos.mkdir(parents=True)
    image, labels = coloured(100, 90)
    write_tiff(photos / "field.tif", np.moveaxis(image, 2, 0))
    patchify(tmp_path / "photos", out=tmp_path / "patches", size=64, num_workers=1)
    assert len(list((tmp_path / "patches/images").iterdir())) == 4
    [result] = predict([tmp_path / "patches"], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as raster:
        np.testing.assert_array_equal(raster.read(1), labels)
        assert raster.crs == GRID["crs"]
        assert raster.transform == GRID["transform"]
    assert result.square_metres is not None


def test_windows_of_a_mosaic_are_parts_of_the_whole(tmp_path: Path) -> None:
    image, _ = coloured(96, 128)
    write_patches(tmp_path, "base", image, 32)
    [mosaic] = find_inputs([tmp_path])
    with open_input(mosaic) as source:
        assert (source.height, source.width) == (96, 128)
        pixels, valid = source.read(20, 30, 50, 70)
    np.testing.assert_array_equal(pixels, image[20:70, 30:100])
    assert valid.all()


def test_patches_must_be_as_large_as_their_places(tmp_path: Path) -> None:
    image, _ = coloured(64, 90)
    write_patches(tmp_path / "named", "base", image, 32)  # the last column is 26 wide
    [mosaic] = find_inputs([tmp_path / "named"])
    with (
        open_input(mosaic) as source,
        pytest.raises(
            InputError, match=r"patch_000_002\.png: 26 × 32 pixels, its place in base has 32 × 32"
        ),
    ):
        source.read(0, 0, 64, 90)
    # With a layout that tells their sizes they may differ.
    patches = "\n".join(
        f"base_patch_{row:03d}_{column:03d},base,{32 * column},{32 * row},{width},32,90,64"
        for row in range(2)
        for column, width in enumerate((32, 32, 26))
    )
    header = "patch,base_image,x,y,width,height,image_width,image_height"
    (tmp_path / "named/layout.csv").write_text(f"{header}\n{patches}\n", encoding="utf-8")
    [mosaic] = find_inputs([tmp_path / "named"])
    with open_input(mosaic) as source:
        pixels, valid = source.read(0, 0, 64, 90)
    np.testing.assert_array_equal(pixels, image)
    assert valid.all()


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
    assert "1 of 3 images are mapped already" in capsys.readouterr().out
    assert [result.pixels.sum() for result in results] == [1600] * 3
    assert (out / "a_classes.png").stat().st_mtime_ns == first
    with pytest.raises(InputError, match=r"a_classes\.png: exists already.*--overwrite"):
        predict([tmp_path], model=brightest_file, out=out)
    with pytest.raises(InputError, match=r"a_classes\.png: exists already; --overwrite"):
        predict([tmp_path], model=brightest_file, out=out, tta=True)


def test_damaged_patches_and_layouts_are_named(brightest_file: Path, tmp_path: Path) -> None:
    image, _ = coloured(64, 64)
    write_patches(tmp_path / "data", "base", image, 32)
    bad = tmp_path / "data/images/base_patch_001_001.png"
    bad.write_bytes(bad.read_bytes()[:500])
    with pytest.raises(InputError, match=r"base_patch_001_001\.png"):
        predict([tmp_path / "data"], model=brightest_file, out=tmp_path / "maps")
    [result] = predict(
        [tmp_path / "data"], model=brightest_file, out=tmp_path / "maps", skip_unreadable=True
    )
    assert result.pixels.sum() == 3 * 32 * 32
    (tmp_path / "data/layout.csv").write_text("patch,x\nbase_patch_000_000,0\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"layout\.csv: damaged"):
        find_inputs([tmp_path / "data"])


def test_a_vrt_is_an_image(brightest_file: Path, tmp_path: Path) -> None:
    image, labels = coloured(40, 60)
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(image, 2, 0))
    with rasterio.open(path) as raster, rasterio.vrt.WarpedVRT(raster) as warped:
        rasterio.shutil.copy(warped, tmp_path / "area.vrt", driver="VRT")
    [result] = predict([tmp_path / "*.vrt"], model=brightest_file, out=tmp_path / "maps")
    with rasterio.open(result.classes) as classes:
        np.testing.assert_array_equal(classes.read(1), labels)
