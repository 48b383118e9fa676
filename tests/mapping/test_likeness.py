"""An image that is like nothing labelled is told from one that is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from salakseg import predict
from salakseg.data.shards import Shards
from salakseg.data.stream import Patches
from salakseg.imagery.raster import ImageSource, open_image, quiet_gdal
from salakseg.mapping.likeness import LEAST, MOST, _some_tiles, distances
from salakseg.model.applicability import applicability_of
from salakseg.model.features import features_of
from salakseg.model.generator import create_generator
from salakseg.model.weights import Model, save_model
from tests.conftest import SAMPLES


@pytest.fixture(scope="module")
def model(shards: Shards) -> Model:
    """A network with random weights that knows the labelled patches of four photographs."""
    torch.manual_seed(0)
    generator = create_generator("tiny", shards.mapping.num_classes, "none")
    model = Model(generator, shards.mapping, shards.patch_size, source="model.pth")
    samples = shards.split("train")
    images = Patches(shards, {"train": "train"}).read("train", np.arange(len(samples))).images
    photo = samples.groupby(["folder", "base_image"]).ngroup().to_numpy()
    return replace(model, applicability=applicability_of(features_of(model, images), photo))


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """An image like no photograph."""
    path = tmp_path / "stripes.png"
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:, ::2] = 255, 0, 255
    Image.fromarray(pixels).save(path)
    return path


KNOWN = SAMPLES / "images" / "tile3_part005.jpg"


def test_stripes_are_far_a_known_photograph_is_not(model: Model, stripes: Path) -> None:
    with open_image(stripes) as source:
        assert (distances(model, source) >= 1).all()
    with open_image(KNOWN) as source:
        found = distances(model, source)
        assert len(found) == 9 and (found < 1).all()
        np.testing.assert_allclose(distances(model, source, batch_size=1), found, rtol=1e-3)
        assert not len(distances(replace(model, applicability=None), source))


@pytest.mark.parametrize(("height", "width"), [(50, 60), (128, 129), (900, 300), (4000, 6000)])
def test_tiles_are_spread_over_the_image(height: int, width: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 // height, columns * 255 // width, rows * 0], 2).astype(np.uint8)
    valid = np.ones((height, width), bool)

    def read(row: int, column: int, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
        assert row >= 0 and column >= 0 and row + h <= height and column + w <= width
        place = np.s_[row : row + h, column : column + w]
        return image[place], valid[place]

    source = ImageSource(Path("a"), height, width, None, None, read)
    tiles = _some_tiles(source, 64)
    whole = -(-height // 64) * -(-width // 64)
    assert min(whole, LEAST) <= len(tiles) <= 1.3 * MOST
    centres = tiles.mean((1, 2))[:, :2]
    np.testing.assert_allclose(centres.mean(0), 127, atol=4)
    assert len(np.unique(centres, axis=0)) == len(tiles)
    # Tiles of little but nodata are passed over.
    valid[: height // 2] = False
    assert len(_some_tiles(source, 64)) < len(tiles) or whole <= 2
    valid[:] = False
    assert _some_tiles(source, 64).shape == (0, 64, 64, 3)


def test_predict_says_it_and_the_map_keeps_it(
    model: Model, stripes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(Path("model.pth"), model)
    known, unknown = predict([KNOWN, stripes], model="model.pth", device="cpu")
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "stripes.png: 100% of it looks like nothing that the model was trained on" in printed
    assert printed.count("expect errors") == 1
    assert known.far == 0 and unknown.far == 1
    with Image.open(unknown.classes) as image:
        assert image.info["FAR"] == "1.0"
    # Asked again, the map that is there says it.
    known.classes.unlink()
    for path in Path("predictions").glob("tile3*.*"):
        path.unlink()
    assert [one.far for one in predict([KNOWN, stripes], model="model.pth", device="cpu")] == [0, 1]


def test_a_model_that_does_not_know_says_nothing(model: Model, stripes: Path) -> None:
    save_model(Path("model.pth"), replace(model, applicability=None))
    Image.open(stripes).save("stripes.tif")
    (result,) = predict(["stripes.tif"], model="model.pth", device="cpu")
    assert result.far is None
    with quiet_gdal(), rasterio.open(result.classes) as raster:
        assert "FAR" not in raster.tags()
