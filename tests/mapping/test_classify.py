"""classify: each pixel once, in its place, whatever the tiles, the blocks and the memory.

Mostly with a network that names the brightest band of each pixel: its answer is known exactly.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from salakseg.imagery.raster import ImageSource
from salakseg.imagery.tiles import plan_axis
from salakseg.mapping import classify as classify_module
from salakseg.mapping.classify import classify, default_batch_size, likeliest
from salakseg.model.weights import Model
from tests.mapping.samples import BrightestBand, coloured, smooth_image, source_of


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


def test_after_a_break_the_other_blocks_are_the_same(tiny: Model) -> None:
    source = source_of(smooth_image(200, 100))
    blocks = list(classify(tiny, source, tile=32, sums_bytes=1))
    assert len(blocks) > 3
    rest = list(classify(tiny, source, tile=32, sums_bytes=1, done=2, carried=blocks[1].carried))
    assert len(rest) == len(blocks) - 2
    for block, again in zip(blocks[2:], rest, strict=True):
        assert (block.row, block.column) == (again.row, again.column)
        np.testing.assert_array_equal(block.labels, again.labels)
        np.testing.assert_array_equal(block.confidence, again.confidence)
        assert torch.equal(block.carried, again.carried)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_shares_are_the_blocks_of_the_whole_image(tiny: Model, count: int) -> None:
    source = source_of(smooth_image(90, 170))
    options = {"tile": 32, "sums_bytes": 1, "batch_size": 1}
    blocks = list(classify(tiny, source, **options))
    shares = [list(classify(tiny, source, share=(n, count), **options)) for n in range(count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    together = [block for share in shares for block in share]
    assert len(together) == len(blocks)
    for block, other in zip(blocks, together, strict=True):
        assert (block.row, block.column) == (other.row, other.column)
        assert np.array_equal(block.labels, other.labels)
        assert np.array_equal(block.confidence, other.confidence)
    # A share goes on in its middle too.
    begun = shares[0]
    if len(begun) > 2:
        rest = classify(tiny, source, share=(0, count), done=2, carried=begun[1].carried, **options)
        assert [block.row for block in rest] == [block.row for block in begun[2:]]


def test_the_likeliest_class_is_the_first_of_equal_ones() -> None:
    shares = torch.rand(5, 70, 90, generator=torch.manual_seed(0))
    shares[3] = shares[1]
    shares = shares / shares.sum(0)
    found = likeliest(shares)
    confidence, labels = shares.max(0)
    assert torch.equal(found[0], labels.to(torch.uint8)) and (found[0] != 3).all()
    assert torch.equal(found[1], (confidence * 100).round().to(torch.uint8))
