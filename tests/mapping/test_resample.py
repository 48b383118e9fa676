"""Images of another resolution than the model's: seen at its own, mapped on theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping.classify import classify
from salakseg.mapping.predict import predict
from salakseg.mapping.resample import on_grid, resampled
from salakseg.model.weights import Model
from tests.mapping.samples import BrightestBand, coloured, smooth_image, source_of
from tests.rasters import write_tiff


@pytest.mark.parametrize("scale", [0.2, 0.37, 1.6, 3.0])
def test_windows_of_a_resampled_image_are_parts_of_the_whole(scale: float) -> None:
    small = resampled(source_of(smooth_image(200, 300)), scale)
    whole, valid = small.read(0, 0, small.height, small.width)
    assert whole.shape == (round(200 * scale), round(300 * scale), 3)
    assert valid.all()
    part, _ = small.read(11, 7, 25, 40)
    assert np.abs(part.astype(int) - whole[11:36, 7:47]).max() <= 1


def test_averaging_down_is_the_mean() -> None:
    image = smooth_image(60, 80)
    small, _ = resampled(source_of(image), 0.25).read(0, 0, 15, 20)
    mean = image.reshape(15, 4, 20, 4, 3).mean(axis=(1, 3))
    # Pillow rounds twice, once a direction.
    assert np.abs(small - mean).max() <= 1


@pytest.mark.parametrize("scale", [0.13, 0.5, 1.0, 2.3])
@pytest.mark.parametrize("shape", [(130, 90), (1, 200), (40, 1)])
def test_every_pixel_of_the_image_is_mapped_once(
    brightest: Model, scale: float, shape: tuple[int, int]
) -> None:
    source = source_of(smooth_image(*shape))
    small = resampled(source, scale)
    seen = np.zeros(shape, int)
    for block in on_grid(classify(brightest, small, tile=16, sums_bytes=1), small, source):
        height, width = block.labels.shape
        seen[block.row : block.row + height, block.column : block.column + width] += 1
        assert block.image.shape == (height, width, 3)
    assert (seen == 1).all()


def striped_field(tmp_path: Path, pixel: float) -> tuple[Path, Any]:
    """A field of stripes 2 m wide, at `pixel` metres."""
    labels = np.tile(np.arange(round(24 / pixel)) // round(2 / pixel) % 3, (round(12 / pixel), 1))
    image = np.where(labels[..., None] == np.arange(3), 220, 20).astype(np.uint8)
    transform = rasterio.Affine(pixel, 0, 434_000, 0, -pixel, 9e6)
    path = tmp_path / "field.tif"
    return write_tiff(path, np.moveaxis(image, 2, 0), transform=transform), labels


@pytest.mark.parametrize("pixel", [0.02, 0.5])
def test_an_orthomosaic_is_matched_to_the_models_pixel_size(
    brightest: Model,
    brightest_file: Path,
    tmp_path: Path,
    pixel: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    brightest.pixel_size = 0.1
    path, labels = striped_field(tmp_path, pixel)
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    assert f"{pixel} m a pixel, resampled for the network to the 0.1 m" in capsys.readouterr().out
    network = brightest.generator.network
    assert isinstance(network, BrightestBand)
    # 120 × 240 pixels of 0.1 m in tiles of 64 that overlap by 16.
    assert network.tiles == 3 * 5
    with rasterio.open(result.classes) as raster:
        assert raster.transform[0] == pixel
        assert (raster.read(1) != labels).mean() < 0.02


def test_near_enough_is_taken_as_it_is(
    brightest: Model, brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brightest.pixel_size = 0.105
    path = write_tiff(tmp_path / "field.tif", np.moveaxis(coloured(50, 50)[0], 2, 0))
    predict([path], model=brightest_file, out=tmp_path / "maps")
    brightest.pixel_size = 0.2
    predict([path], model=brightest_file, out=tmp_path / "own", resolution="own")
    assert "resampled" not in capsys.readouterr().out
    with pytest.raises(InputError, match="too far from"):
        predict([path], model=brightest_file, out=tmp_path / "far", resolution=30)
    with pytest.raises(InputError, match="--resolution fine: must be match, own, or metres"):
        predict([path], model=brightest_file, out=tmp_path / "far", resolution="fine")
    photo = tmp_path / "photo.png"
    Image.fromarray(coloured(20, 20)[0]).save(photo)
    with pytest.raises(InputError, match="say it with --gsd"):
        predict([photo], model=brightest_file, out=tmp_path / "photo", resolution=0.1)
