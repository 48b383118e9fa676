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

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of affine, whose @ is new
]


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


def write_placed_patches(
    folder: Path, image: np.ndarray, transform: rasterio.Affine, dtype: str = "uint8"
) -> None:
    """Four GeoTIFFs, by rows and columns of 32 pixels; the last ones begin further inside."""
    folder.mkdir(parents=True)
    for row, y in enumerate((0, 28)):
        for column, x in enumerate((0, 20)):
            bands = np.moveaxis(image[y : y + 32, x : x + 32], 2, 0).astype(dtype)
            place = transform * rasterio.Affine.translation(x, y)
            write_tiff(folder / f"a_patch_{row:03d}_{column:03d}.tif", bands, transform=place)


@pytest.mark.parametrize("angle", [0, 30])
def test_patches_with_a_place_of_their_own_are_put_there(
    brightest_file: Path, tmp_path: Path, angle: float
) -> None:
    image, labels = coloured(60, 52)
    transform = GRID["transform"] * rasterio.Affine.rotation(angle)
    write_placed_patches(tmp_path / "images", image, transform)
    [result] = predict([tmp_path / "images"], model=brightest_file, out=tmp_path / "maps")
    assert result.square_metres is not None
    with rasterio.open(result.classes) as raster:
        assert raster.crs == rasterio.CRS.from_user_input(GRID["crs"])
        assert raster.transform.almost_equals(transform, 1e-6)
        np.testing.assert_array_equal(raster.read(1), labels)


def test_patches_on_several_grids_are_put_together_by_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, _ = coloured(60, 52)
    write_placed_patches(tmp_path / "images", image, GRID["transform"])
    half = GRID["transform"] * rasterio.Affine.translation(20.5, 28)
    with rasterio.open(tmp_path / "images/a_patch_001_001.tif", "r+") as raster:
        raster.transform = half
    [mosaic] = find_inputs([tmp_path / "images"])
    assert "a_patch_001_001.tif: lies elsewhere than on the grid" in capsys.readouterr().out
    with open_input(mosaic) as source:
        assert (source.crs, source.transform) == (None, None)
        assert (source.height, source.width) == (64, 64)


@pytest.mark.parametrize("pattern", ["a_x{x}_y{y}", "a_y{y}_x{x}"])
def test_patches_are_placed_by_names_of_other_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pattern: str
) -> None:
    image, _ = coloured(64, 96)
    (tmp_path / "images").mkdir()
    for row, column in np.ndindex(2, 3):
        y, x = 32 * row, 32 * column
        name = pattern.format(x=x, y=y, row=row, column=column)
        Image.fromarray(image[y : y + 32, x : x + 32]).save(tmp_path / "images" / f"{name}.png")
    [mosaic] = find_inputs([tmp_path / "images"])
    assert "by their names, 6 images are patches of a" in capsys.readouterr().out
    with open_input(mosaic) as source:
        np.testing.assert_array_equal(source.read(0, 0, 64, 96)[0], image)


@pytest.mark.parametrize("pattern", ["a_{y}_{x}", "a_r{row}_c{column}"])
def test_rows_and_columns_of_other_names_need_a_place_of_their_own(
    tmp_path: Path, pattern: str
) -> None:
    image, _ = coloured(60, 52)
    write_placed_patches(tmp_path / "images", image, GRID["transform"])
    for path in (tmp_path / "images").iterdir():
        _, _, row, column = path.stem.split("_")
        y, x = 32 * int(row), 32 * int(column)
        name = pattern.format(x=x, y=y, row=int(row), column=int(column))
        path.rename(path.with_name(f"{name}.tif"))
    [mosaic] = find_inputs([tmp_path / "images"])
    with open_input(mosaic) as source:
        np.testing.assert_array_equal(source.read(0, 0, 60, 52)[0], image)
    for path in (tmp_path / "images").iterdir():
        with Image.open(path) as patch:
            patch.save(path.with_suffix(".png"))
        path.unlink()
    # Which of two numbers goes down? And photographs of a trial are named by its plots.
    assert [image.mosaic for image in find_inputs([tmp_path / "images"])] == [None] * 4


@pytest.mark.parametrize("y", [9_160_000, 64])
def test_names_in_metres_place_no_patches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], y: int
) -> None:
    """How large a metre is, and that north is up, no name tells."""
    (tmp_path / "images").mkdir()
    for row, column in np.ndindex(2, 2):
        name = f"field_x{434_000 + 32 * column}_y{y + 32 * row}.png"
        Image.fromarray(coloured(32, 32)[0]).save(tmp_path / "images" / name)
    assert [image.mosaic for image in find_inputs([tmp_path])] == [None] * 4
    said = capsys.readouterr().out
    assert said.count("coordinates, not pixels; its images are mapped one by one") == 1
    assert "are patches of field" not in said


def test_large_tiles_are_images_of_their_own(tmp_path: Path) -> None:
    for column in range(2):
        place = rasterio.Affine.translation(4e5 + 110 * column, 9e6) * rasterio.Affine.scale(
            0.1, -0.1
        )
        path = tmp_path / f"area_r0_c{column}.tif"
        write_tiff(path, np.zeros((1, 1100, 1100), np.uint8), transform=place)
    assert [image.mosaic for image in find_inputs([tmp_path])] == [None, None]


def test_patches_of_16_bits_have_one_white_level(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(52) * 70, 3).reshape(1, 52, 3).repeat(60, 0)
    write_placed_patches(tmp_path / "images", ramp, GRID["transform"], "uint16")
    [mosaic] = find_inputs([tmp_path / "images"])
    with open_input(mosaic) as source:
        assert source.white_level == 4095
        assert len(source.notes) == 1
        pixels, _ = source.read(0, 0, 60, 52)
    np.testing.assert_array_equal(pixels, np.round(ramp * 255 / 4095))
    with open_input(mosaic, white_level=10_000) as source:
        assert source.white_level == 10_000


def test_transparent_pixels_of_patches_are_not_valid(tmp_path: Path) -> None:
    image, _ = coloured(64, 64)
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[10:40, 20:50] = 0
    write_patches(tmp_path, "base", np.concatenate([image, alpha], 2), 32)
    [mosaic] = find_inputs([tmp_path])
    with open_input(mosaic) as source:
        pixels, valid = source.read(0, 0, 64, 64)
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(valid, alpha[..., 0] > 0)
