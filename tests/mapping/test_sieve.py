"""The sieve against the rule that it states, area by area, on whole images."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from salakseg.mapping.sieve import _lot, sieve
from tests.mapping.samples import smooth_image
from tests.mapping.test_components import walked

WAYS = ((1, 0), (-1, 0), (1, 1), (-1, 1))


def lot(number: int) -> int:
    return int(_lot(np.array([number]))[0])


def by_the_rule(labels: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """The smallest area takes the class that most of its border touches, again and again."""
    labels = labels.copy()
    while True:
        ids = walked(labels)
        _, first, sizes = np.unique(ids[ids >= 0], return_index=True, return_counts=True)
        first = np.flatnonzero(ids >= 0)[first]
        near = [np.roll(np.pad(labels, 1, constant_values=255), *way) for way in WAYS]
        near = [there[1:-1, 1:-1] for there in near]
        for number in sorted(range(len(sizes)), key=lambda n: (sizes[n], lot(int(first[n])))):
            inside = ids == number
            others = np.concatenate([there[inside & (there != labels)] for there in near])
            border = np.bincount(others[others < 255], minlength=255)
            if border.any() and sizes[number] < smallest:
                break
        else:
            return labels
        # Of equal ones by lot.
        longest = np.flatnonzero(border == border.max()).tolist()
        labels[inside] = min(longest, key=lambda label: lot(int(first[number]) << 8 | label))


def sieved(labels: NDArray[np.uint8], path: Path, smallest: int, block: int) -> NDArray[np.uint8]:
    def read(row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        return labels[row : row + height, column : column + width]

    pixels = sieve(read, path, labels.shape, smallest, block)
    result = np.fromfile(path, np.uint8).reshape(labels.shape)
    for counts, values in zip(pixels, (labels, result), strict=True):
        expected = np.bincount(values[values < 255], minlength=256)
        np.testing.assert_array_equal(counts, expected)
    return result


def noisy(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Patches of some pixels under specks, some of it nodata."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(1, 5))
    labels = rng.integers(0, 4, (height, width)).repeat(side, 0).repeat(side, 1)[:height, :width]
    specks = rng.random(labels.shape) < 0.2
    labels = np.where(specks, rng.integers(0, 4, labels.shape), labels)
    labels[rng.random(labels.shape) < rng.choice([0, 0.1, 0.4])] = 255
    return labels.astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("smallest", [3, 20, 1000])
def test_it_is_the_rule_whatever_the_blocks(tmp_path: Path, seed: int, smallest: int) -> None:
    labels = noisy(seed, *((17, 13), (9, 20), (1, 25))[seed % 3])
    expected = by_the_rule(labels, smallest)
    for block in (1, 5, 8, 100):
        result = sieved(labels, tmp_path / "sieved.raw", smallest, block)
        np.testing.assert_array_equal(result, expected)


def test_nothing_below_the_size_stays_but_ground_with_nodata_around_it(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (300, 200)).astype(np.uint8)
    labels[40:47] = labels[:, 60] = 255
    labels[100:105, 100:105] = 255
    labels[102, 102] = 1
    results = [sieved(labels, tmp_path / "sieved.raw", 100, block) for block in (64, 1000)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0] == 255, labels == 255)
    assert results[0][102, 102] == 1
    sizes = np.bincount(walked(results[0])[results[0] < 255])
    assert np.sort(sizes)[:2].tolist()[0] == 1 and np.sort(sizes)[1] >= 100


def test_areas_that_are_large_enough_are_not_touched_at_the_seams(tmp_path: Path) -> None:
    labels = np.zeros((90, 110), np.uint8)
    labels[20:70, 15:95] = 1
    for block in (16, 32, 64):
        result = sieved(labels, tmp_path / "sieved.raw", 4000, block)
        np.testing.assert_array_equal(result, labels)
        assert not sieved(labels, tmp_path / "sieved.raw", 4001, block).any()


def test_larger_than_the_image_leaves_one_class(tmp_path: Path) -> None:
    labels = smooth_image(50, 60).argmax(2).astype(np.uint8)
    for smallest in (3001, 10**30):
        assert len(np.unique(sieved(labels, tmp_path / "sieved.raw", smallest, 32))) == 1


def test_no_class_is_favoured(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (400, 400)).astype(np.uint8)
    result = sieved(labels, tmp_path / "sieved.raw", 20, 128)
    shares = np.bincount(result.ravel()) / result.size
    np.testing.assert_allclose(shares, 0.25, atol=0.02)
