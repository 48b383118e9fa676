"""Images of another resolution than the model's: seen at its own, mapped on theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.errors import InputError
from salakseg.mapping import resample
from salakseg.mapping.classify import classify
from salakseg.mapping.predict import predict
from salakseg.mapping.resample import on_grid, resampled
from salakseg.model.weights import Model
from tests.mapping.samples import BrightestBand, coloured, smooth_image, source_of
from tests.rasters import write_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


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


@pytest.mark.parametrize("scale", [0.13, 0.2, 0.5, 2 / 3, 0.9, 1.7, (0.4, 1.6), (2.0, 0.3)])
@pytest.mark.parametrize("tile", [16, 64])
def test_only_what_is_there_is_mapped_and_all_of_it(
    brightest: Model, scale: float | tuple[float, float], tile: int
) -> None:
    rows, columns = np.mgrid[:130, :190]
    valid = (columns + 2 * rows) % 90 > 30
    valid &= ~((columns % 4 == 1) & (rows < 40))
    valid[100:] = np.random.default_rng(0).random((30, 190)) < 0.02
    source = source_of(smooth_image(130, 190) * valid[..., None], valid)
    small = resampled(source, scale)
    mapped = np.zeros(valid.shape, int)
    for block in on_grid(classify(brightest, small, tile=tile, sums_bytes=1), small, source):
        height, width = block.labels.shape
        window = np.s_[block.row : block.row + height, block.column : block.column + width]
        mapped[window] += block.labels != 255
        np.testing.assert_array_equal(block.labels == 255, block.confidence == 255)
        # The preview is of the image, not of what the network saw of it.
        np.testing.assert_array_equal(
            block.image, source.read(block.row, block.column, height, width)[0]
        )
    np.testing.assert_array_equal(mapped, valid)


@pytest.mark.parametrize("scale", [0.2, 0.37, 0.5, 1.6])
def test_nodata_does_not_darken_what_is_beside_it(scale: float) -> None:
    rows, columns = np.mgrid[:120, :160]
    valid = rows + 2 * columns > 130
    image = np.where(valid[..., None], np.uint8(200), np.uint8(0)).repeat(3, 2)
    small = resampled(source_of(image, valid), scale)
    pixels, seen = small.read(0, 0, small.height, small.width)
    assert 0.3 < seen.mean() < 0.9
    assert (pixels[seen] == 200).all()


@pytest.mark.parametrize("scale", [0.3, 0.5, 2 / 3])
def test_a_window_with_nodata_is_resampled_as_one_without(scale: float) -> None:
    image = smooth_image(120, 160)
    valid = np.ones((120, 160), bool)
    valid[100:, 140:] = False
    whole, some = (
        resampled(source, scale) for source in (source_of(image), source_of(image, valid))
    )
    window = (0, 0, whole.height, whole.width)
    apart = np.abs(whole.read(*window)[0].astype(int) - some.read(*window)[0])
    assert apart[: int(99 * scale)].max() <= 1


def test_columns_and_rows_may_be_resampled_apart() -> None:
    image = smooth_image(60, 80)
    small = resampled(source_of(image), (0.25, 0.5))
    assert (small.height, small.width) == (30, 20)
    mean = image.reshape(30, 2, 20, 4, 3).mean(axis=(1, 3))
    assert np.abs(small.read(0, 0, 30, 20)[0] - mean).max() <= 1
    stretched = resampled(source_of(image), (3.0, 1.0))
    pixels, _ = stretched.read(0, 0, 60, 240)
    np.testing.assert_array_equal(pixels[:, 1:-1:3], image)


@pytest.mark.parametrize("model_size", [None, 0.15])
def test_pixels_that_are_not_square_on_the_ground_are_seen_square(
    brightest: Model,
    brightest_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_size: float | None,
) -> None:
    # At 60° N a degree of longitude is half as long as one of latitude.
    brightest.pixel_size = model_size
    shapes = []

    def watched(model: Model, seen: Any, **options: Any) -> Any:
        pixels, _ = seen.read(0, 0, seen.height, seen.width)
        round_pond = pixels[..., 2] > 128
        shapes.append((round_pond.any(axis=1).sum(), round_pond.any(axis=0).sum()))
        return classify(model, seen, **options)

    monkeypatch.setattr(resample, "classify", watched)
    rows, columns = np.mgrid[:100, :200]
    pond = (2 * (rows - 50)) ** 2 + (columns - 100) ** 2 < 80**2  # twice as many columns as rows
    bands = np.where(pond, 220, 20).astype(np.uint8)[None] * np.array([0, 0, 1])[:, None, None]
    bands[0] = np.where(pond, 20, 220)
    degrees = rasterio.Affine(1e-6, 0, 25, 0, -1e-6, 60)
    path = write_tiff(
        tmp_path / "pond.tif", bands.astype(np.uint8), crs="EPSG:4326", transform=degrees
    )
    [result] = predict([path], model=brightest_file, out=tmp_path / "maps")
    [(height, width)] = shapes
    assert width == pytest.approx(height, rel=0.05)
    with rasterio.open(result.classes) as raster:
        assert raster.shape == (100, 200)
        assert ((raster.read(1) == 2) != pond).mean() < 0.02
    predict([path], model=brightest_file, out=tmp_path / "own", resolution="own")
    assert shapes[1][1] == pytest.approx(2 * shapes[1][0], rel=0.05)


def test_a_pixel_size_that_the_model_does_not_know_is_spoken_of_once(
    brightest_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        write_tiff(tmp_path / f"{name}.tif", np.moveaxis(coloured(50, 50)[0], 2, 0))
    predict([tmp_path], model=brightest_file, out=tmp_path / "maps")
    assert (
        capsys.readouterr().out.count("its pixel size is known, but not the one that the model")
        == 1
    )


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
