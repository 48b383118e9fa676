"""Images whose map is known, for all tests of mapping."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from salakseg.classes import ClassMapping
from salakseg.imagery.raster import ImageSource
from tests.rasters import write_tiff

GEO = Path(__file__).parents[2] / "../shared/geo"
MAPPING = ClassMapping(
    (("red", (200, 30, 30), False), ("green & blue", (30, 200, 90), False), ("B", (0, 0, 9), False))
)


class BrightestBand(nn.Module):
    """(B, 3, H, W) → logits (B, 3, H, W); counts the tiles that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles = 0

    def forward(self, x: Tensor) -> Tensor:
        self.tiles += len(x)
        return 20 * x


def coloured(height: int, width: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """An image (height, width, 3) in which each pixel has one brightest band, and which it is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (height, width))
    image = rng.integers(0, 120, (height, width, 3))
    np.put_along_axis(image, labels[..., None], 220, axis=2)
    return image.astype(np.uint8), labels.astype(np.uint8)


def source_of(image: NDArray[Any], valid: NDArray[Any] | None = None) -> ImageSource:
    """An open image that is an array."""
    known = np.ones(image.shape[:2], bool) if valid is None else valid

    def read(row: int, column: int, height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
        window = np.s_[row : row + height, column : column + width]
        assert image[window].shape[:2] == (height, width)
        return image[window], known[window]

    return ImageSource(Path("array.tif"), *image.shape[:2], None, None, read)


def smooth_image(height: int, width: int) -> NDArray[Any]:
    """Random blobs of a few to dozens of pixels, as in a photograph."""
    rng = np.random.default_rng(1)
    image = np.zeros((height, width, 3))
    for scale in (4, 16, 64):
        small = rng.integers(0, 256, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8)
        size = (small.shape[1] * scale, small.shape[0] * scale)
        image += np.asarray(Image.fromarray(small).resize(size))[:height, :width]
    return (image / 3).astype(np.uint8)


def png(path: Path, image: NDArray[Any]) -> Path:
    """Write it as a photograph without a place."""
    Image.fromarray(image).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def striped(path: Path, image: NDArray[Any]) -> Path:
    """Write it as a GeoTIFF in strips, on `GRID`."""
    bands = np.moveaxis(image, 2, 0)
    return write_tiff(path.with_suffix(".tif"), bands, blockysize=3, compress="lzw")
