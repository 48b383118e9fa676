import numpy as np
import pandas as pd

from salakseg.data.order import Order, blocks_of, repeats_for_rare_classes


def test_every_entry_of_an_epoch_exactly_once() -> None:
    blocks = np.repeat(np.arange(7), 11)
    repeats = np.arange(77) % 3 + 1
    order = Order(blocks, np.full(77, 1000), 0, "labeled", repeats)
    assert len(order) == repeats.sum()
    epochs = [order.at(np.arange(len(order)) + epoch * len(order)) for epoch in range(3)]
    for rows in epochs:
        assert (np.bincount(rows, minlength=77) == repeats).all()
    assert (epochs[0] != epochs[1]).any()


def test_a_window_is_a_gigabyte_from_all_over_the_shards() -> None:
    # Five flights of 8 shards of 256 MB, packed one after the other; samples of 100 KB.
    shard = np.repeat(np.arange(40), 2560)
    samples = pd.DataFrame(
        {"shard": [f"{n:06d}.tar" for n in shard], "image_offset": np.tile(np.arange(2560), 40)}
    )
    samples.image_offset *= 100_000
    flight = shard // 8
    blocks = blocks_of(samples)
    assert np.bincount(blocks).max() == 160  # of 16 MB
    order = Order(blocks, np.full(len(samples), 100_000), 0, "unlabeled")
    rows = order.at(np.arange(len(samples)))
    window = rows[:9600]
    assert len(np.unique(blocks[window])) * 16 <= 1000
    assert len(np.unique(shard[window])) > 30  # of whole shards it was three
    batches = flight[window[:9600]].reshape(-1, 16)
    assert np.mean([len(np.unique(batch)) for batch in batches]) > 4


def test_patches_with_a_rare_class_come_more_often() -> None:
    pixels = np.array([[1000, 0], [990, 10], [995, 5], [1000, 0], [1000, 0]])
    assert repeats_for_rare_classes(pixels).tolist() == [1, 4, 1, 1, 1]
    assert repeats_for_rare_classes(np.zeros((3, 2), np.int64)).tolist() == [1, 1, 1]
