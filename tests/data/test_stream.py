import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from salakseg.data.augment import color_view, weak_view
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import (
    Order,
    Patches,
    TrainingStream,
    read_split,
    repeats_for_rare_classes,
)
from salakseg.errors import InputError


def stream(shards: Shards, **options: object) -> TrainingStream:
    return TrainingStream(shards, 3, **({"seed": 5, "unlabeled_batch_size": 2} | options))  # type: ignore[arg-type]


def augmented(source: TrainingStream, count: int) -> list[torch.Tensor]:
    views = []
    for batch, unlabeled in islice(source, count):
        assert unlabeled is not None
        for name, part in (("labeled", batch), ("unlabeled", unlabeled)):
            view, masks = weak_view(part.images, part.masks, 5, name, part.positions.numpy())
            views.append(color_view(view, 5, name, part.positions.numpy()))
            if masks is not None:
                views.append(masks)
    return views


def test_the_order_is_the_same_with_any_number_of_workers(shards: Shards) -> None:
    seen = []
    for workers in (0, 1, 3):
        batches = islice(stream(shards, num_workers=workers), 12)
        seen.append(
            [
                (a.positions.tolist(), a.entries.tolist(), b.entries.tolist(), int(a.images.sum()))
                for a, b in batches
            ]
        )
    assert seen[0] == seen[1] == seen[2]


def test_going_on_from_a_state_gives_the_same_next_100_augmented_batches(shards: Shards) -> None:
    whole = stream(shards)
    list(islice(whole, 17))
    state = dict(whole.positions)
    assert state == {"labeled": 17 * 3, "unlabeled": 17 * 2}
    expected = augmented(whole, 100)
    resumed = augmented(stream(shards, start=state), 100)
    assert len(expected) == len(resumed) == 300
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


def test_ranks_share_one_order(shards: Shards) -> None:
    alone = [batch.entries for batch, _ in islice(stream(shards, unlabeled_batch_size=0), 4)]
    ranks = [
        [
            batch.entries
            for batch, _ in islice(TrainingStream(shards, 1, seed=5, rank=rank, world_size=3), 4)
        ]
        for rank in range(3)
    ]
    for step, entries in enumerate(alone):
        assert entries.tolist() == [int(ranks[rank][step]) for rank in range(3)]


def test_every_entry_of_an_epoch_exactly_once() -> None:
    shards = np.repeat(np.arange(7), 11)
    repeats = np.arange(77) % 3 + 1
    order = Order(shards, np.full(77, 1000), 0, "labeled", repeats)
    assert len(order) == repeats.sum()
    epochs = [order.at(np.arange(len(order)) + epoch * len(order)) for epoch in range(3)]
    for rows in epochs:
        assert (np.bincount(rows, minlength=77) == repeats).all()
    assert (epochs[0] != epochs[1]).any()


def test_reads_stay_inside_a_window_of_a_gigabyte_and_mix_its_shards() -> None:
    shards = np.repeat(np.arange(20), 100)
    order = Order(shards, np.full(2000, 3_000_000), 0, "unlabeled")  # shards of 300 MB: 3 a window
    visited = shards[order.at(np.arange(2000))]
    windows = [set(visited[start : start + 300]) for start in range(0, 1800, 300)]
    assert all(len(window) == 3 for window in windows)
    assert len(set.union(*windows)) == 18
    # Any 16 in a row come from all three.
    assert np.mean([len(set(visited[i : i + 16])) for i in range(0, 1600, 16)]) > 2.7


def test_a_batch_mixes_base_images(shards: Shards) -> None:
    train = shards.split("train")
    mixed = [
        train.base_image.iloc[batch.entries.numpy()].nunique()
        for batch, _ in islice(TrainingStream(shards, 8, seed=0), 10)
    ]
    assert np.mean(mixed) > 2


def test_left_out_rows_are_never_drawn(shards: Shards) -> None:
    left_out = np.array([0, 3, 5])
    source = TrainingStream(shards, 8, seed=0, left_out=left_out)
    drawn = torch.cat([batch.entries for batch, _ in islice(source, 20)])
    assert not set(left_out.tolist()) & set(drawn.tolist())
    assert set(drawn.tolist()) == set(range(36)) - set(left_out.tolist())


def test_patches_with_a_rare_class_come_more_often() -> None:
    pixels = np.array([[1000, 0], [990, 10], [995, 5], [1000, 0], [1000, 0]])
    assert repeats_for_rare_classes(pixels).tolist() == [1, 4, 1, 1, 1]
    assert repeats_for_rare_classes(np.zeros((3, 2), np.int64)).tolist() == [1, 1, 1]


def test_a_split_is_read_whole_and_in_order(shards: Shards) -> None:
    batches = list(read_split(shards, "val", 5))
    assert torch.cat([batch.entries for batch in batches]).tolist() == list(range(18))
    assert all(batch.masks is not None for batch in batches)
    pixels = torch.cat([batch.masks for batch in batches])  # type: ignore[misc]
    counted = [int((pixels == k).sum()) for k in range(shards.mapping.num_classes)]
    assert counted == shards.class_pixels(shards.split("val")).sum(0).tolist()


def test_small_patches_are_padded_and_the_padding_is_ignored(shards: Shards) -> None:
    larger = Shards(shards.folder, shards.mapping, 160, None, shards.samples, "")
    batch = Patches(larger, {"train": "train"}).read("train", np.array([0]))
    same = Patches(shards, {"train": "train"}).read("train", np.array([0]))
    assert batch.masks is not None and same.masks is not None
    assert torch.equal(batch.images[:, :, :128, :128], same.images)
    assert torch.equal(batch.masks[:, :128, :128], same.masks)
    assert (batch.masks[:, 128:] == 255).all() and (batch.masks[:, :, 128:] == 255).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_flipped_bit_in_a_shard_is_one_clear_error(
    shards_dir: Path, tmp_path: Path, workers: int
) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(shards_dir, copy)
    shards = read_shards(copy)
    sample = shards.split("val").iloc[4]
    content = bytearray((copy / sample.shard).read_bytes())
    content[sample.image_offset + sample.image_bytes // 2] ^= 1
    (copy / sample.shard).write_bytes(content)
    with pytest.raises(InputError, match=f"{sample.key}: damaged") as error:
        list(read_split(shards, "val", 4, num_workers=workers))
    assert "\n" not in str(error.value)


def test_a_batch_larger_than_the_labelled_set(shards: Shards) -> None:
    with pytest.raises(InputError, match=r"--batch-size 37: .*\(36\)"):
        TrainingStream(shards, 37, seed=0)


def test_no_labelled_patches(shards: Shards) -> None:
    unlabeled = shards.samples[shards.samples.split == "unlabeled"]
    bare = Shards(shards.folder, shards.mapping, 128, None, unlabeled, "")
    with pytest.raises(InputError, match="S4GAN needs some masks"):
        TrainingStream(bare, 1, seed=0)
