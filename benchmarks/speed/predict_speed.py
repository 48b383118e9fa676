"""What a prediction costs beyond the network, and against MONAI's sliding window.

    pip install -e ".[bench]"
    python benchmarks/speed/predict_speed.py

`salakseg.predict` of an orthomosaic, from the GeoTIFF to all files of its map, takes turns with the
bare forward passes of the network over the same tiles in the same batches. Then the sweep alone,
image in memory, takes turns with MONAI's `sliding_window_inference`: same weights, tiles, batches
and overlap, up to class and confidence as bytes; MONAI blends with its Gaussian weights.
Random weights; `tiny` costs next to nothing, so its rows show what there is beside a network.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import salakseg
from salakseg.classes import packaged_class_mapping
from salakseg.console import console
from salakseg.device import autocast_dtype, select_device
from salakseg.imagery.photo import read_photo
from salakseg.imagery.raster import ImageSource, Pixels
from salakseg.mapping.classify import classify, default_batch_size
from salakseg.model.names import TINY_GENERATOR
from salakseg.model.weights import Model, load_model

sys.path.append(str(Path(__file__).parents[1]))
from claims import ratios, report, take_turns
from samples import REALISTIC, SAMPLES, make_mosaic, random_model

OVERLAP = 0.25


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4000, help="of the orthomosaic, in pixels")
    parser.add_argument("--strides", type=int, default=6, help="side of the image for MONAI")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    console.quiet = True
    device = select_device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        photos = [read_photo(path) for path in sorted((SAMPLES / "images").iterdir())]
        make_mosaic(work / "mosaic.tif", photos, options.side, "utm")
        for name in (REALISTIC, TINY_GENERATOR):
            file = random_model(work / f"{name}.pth", name, packaged_class_mapping())
            model = load_model(file, device)
            against_forwards(work / "mosaic.tif", model, options.turns)
            against_monai(work / "mosaic.tif", model, options.strides, options.turns)


def against_forwards(mosaic: Path, model: Model, turns: int) -> None:
    """`predict` and the forward passes in it."""
    device = model.generator.mean.device

    def ours() -> None:
        salakseg.predict(
            [mosaic],
            model=model.source,
            out=mosaic.parent / "maps",
            overwrite=True,
            device=str(device),
        )

    batches: list[Tensor] = []
    probabilities = Model.probabilities

    def noted(self: Model, images: Tensor, amp: bool | None = None) -> Tensor:
        batches.append(images)
        return probabilities(self, images, amp)

    with mock.patch.object(Model, "probabilities", noted):
        ours()
    dtype = autocast_dtype(device, None)

    @torch.inference_mode()
    def forwards() -> None:
        model.generator.eval()
        for images in batches:
            with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                model.generator(images.float() / 255)
        wait(device)

    mine, bare = take_turns([ours, forwards], turns)
    tiles = sum(map(len, batches))
    realistic = model.generator.name == REALISTIC
    report(
        f"predict: a map of {tiles} tiles, {model.generator.name}, against its forward passes",
        f"{statistics.median(mine):.2f} s",
        f"{statistics.median(bare):.2f} s",
        ratios(mine, bare),
        at_most=1.05 if realistic else None,
    )


def against_monai(mosaic: Path, model: Model, strides: int, turns: int) -> None:
    """The sweep over an image in memory, ours and MONAI's."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        print("MONAI is not installed (pip install monai): its rows are left out")
        return
    device, tile = model.generator.mean.device, model.patch_size
    # A whole number of strides: both then cover the image with the same tiles.
    side = round(tile * OVERLAP) + strides * round(tile * (1 - OVERLAP))
    image = part_of(mosaic, side)
    batch_size = default_batch_size(device, tile)

    def ours() -> NDArray[np.uint8]:
        result = np.empty((2, side, side), np.uint8)
        for block in classify(model, in_memory(image), overlap=OVERLAP, batch_size=batch_size):
            height, width = block.labels.shape
            place = np.s_[block.row : block.row + height, block.column : block.column + width]
            result[0][place], result[1][place] = block.labels, block.confidence
        return result

    @torch.inference_mode()
    def monai() -> NDArray[np.uint8]:
        whole = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float()
        blended = sliding_window_inference(
            whole, tile, batch_size, model.probabilities, OVERLAP, "gaussian"
        )
        assert isinstance(blended, Tensor)
        confidence, labels = blended[0].max(0)
        percent = (confidence * 100).round().to(torch.uint8)
        return torch.stack([labels.to(torch.uint8), percent]).cpu().numpy()

    results: dict[Callable[[], Any], NDArray[np.uint8]] = {}

    def keeping(side_of: Callable[[], NDArray[np.uint8]]) -> Callable[[], None]:
        def run() -> None:
            results[side_of] = side_of()

        return run

    mine, theirs = take_turns([keeping(ours), keeping(monai)], turns)
    report(
        f"predict: the sweep, {side} × {side} pixels in memory, {model.generator.name}, "
        "against MONAI's sliding window",
        f"{statistics.median(mine):.2f} s",
        f"{statistics.median(theirs):.2f} s",
        ratios(theirs, mine),
        at_least=1,
    )
    print(f"the same class in both: {(results[ours][0] == results[monai][0]).mean():.2%}")


def part_of(mosaic: Path, side: int) -> NDArray[np.uint8]:
    """The top left corner of it, as often as it takes: uint8 (side, side, 3)."""
    pixels = read_photo(mosaic)
    repeats = [-(-side // length) for length in pixels.shape[:2]]
    return np.ascontiguousarray(np.tile(pixels, (*repeats, 1))[:side, :side])


def in_memory(image: NDArray[np.uint8]) -> ImageSource:
    """An open image that is an array."""
    valid = np.ones(image.shape[:2], bool)

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        window = np.s_[row : row + height, column : column + width]
        return image[window], valid[window]

    return ImageSource(Path("array"), *valid.shape, None, None, read)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
