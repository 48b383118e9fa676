import io
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from salakseg.data import patch_decoder
from salakseg.data import stream as stream_module
from salakseg.data.augment import color_view, plan, weak_view
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import (
    Patches,
    TrainingStream,
    read_split,
    reader_threads,
)
from salakseg.errors import InputError


def stream(shards: Shards, **options: object) -> TrainingStream:
    options = {"batch_size": 3, "seed": 5, "unlabeled_batch_size": 2} | options
    return TrainingStream(shards, **options)  # type: ignore[arg-type]


def augmented(source: TrainingStream, count: int) -> list[torch.Tensor]:
    views = []
    for batch, unlabeled in islice(source, count):
        assert unlabeled is not None
        for part in (batch, unlabeled):
            assert part.plan is not None
            view, masks, valid = weak_view(part.images, part.masks, part.valid, part.plan)
            views += [color_view(view, part.plan), masks, valid]
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


def test_a_batch_brings_the_draws_of_its_views(shards: Shards) -> None:
    batches = next(iter(stream(shards, num_workers=1, start={"labeled": 40, "unlabeled": 7})))
    for name, batch in zip(("labeled", "unlabeled"), batches, strict=True):
        assert batch is not None and batch.plan is not None
        assert np.array_equal(batch.plan.numpy(), plan(5, name, batch.positions.numpy()))


def test_going_on_from_a_state_gives_the_same_next_100_augmented_batches(shards: Shards) -> None:
    whole = stream(shards)
    list(islice(whole, 17))
    state = dict(whole.positions)
    assert state == {"labeled": 17 * 3, "unlabeled": 17 * 2}
    expected = augmented(whole, 100)
    resumed = augmented(stream(shards, start=state), 100)
    assert len(expected) == len(resumed) == 600
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_out_each_batch(shards: Shards, count: int) -> None:
    sizes = {"batch_size": 6, "unlabeled_batch_size": 6}
    whole = list(islice(stream(shards, **sizes), 4))
    ranks = [
        list(islice(stream(shards, **sizes, rank=rank, world_size=count), 4))
        for rank in range(count)
    ]
    for step, batches in enumerate(whole):
        for which, batch in enumerate(batches):
            assert batch is not None
            shares = [ranks[rank][step][which] for rank in range(count)]
            for name in ("images", "entries", "positions", "plan"):
                joined = torch.cat([getattr(share, name) for share in shares])
                assert torch.equal(joined, getattr(batch, name))


def test_a_batch_that_cannot_be_shared_out_is_refused(shards: Shards) -> None:
    with pytest.raises(InputError, match=r"--batch-size 6: .* 4 processes; take a multiple of 4"):
        TrainingStream(shards, 6, seed=5, world_size=4)


def test_processes_take_the_batches_of_a_split_in_turns(shards: Shards) -> None:
    count = len(shards.split("train"))
    seen = [
        [batch.entries for batch in read_split(shards, "train", 5, rank=rank, world_size=3)]
        for rank in range(3)
    ]
    every = torch.cat([entries for batches in seen for entries in batches])
    assert sorted(every.tolist()) == list(range(count))
    assert [len(batches) for batches in seen] == [3, 3, 2]


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


@pytest.mark.parametrize("workers", [0, 2])
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
    assert not readers()


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_threads_end_with_the_iteration(shards: Shards) -> None:
    source = iter(stream(shards, num_workers=2))
    next(source)
    assert len(readers()) == 2
    source.close()
    assert not readers()


def test_an_iteration_goes_on_where_the_one_before_was_left(shards: Shards) -> None:
    source = stream(shards, num_workers=2)
    positions = [int(batch.positions[0]) for _ in range(2) for batch, _ in islice(source, 3)]
    assert positions == [0, 3, 6, 9, 12, 15]


def test_readers_pin_batches_for_the_card_of_the_run(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, began, pinned = threading.current_thread(), [], set()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1 if here() == main else 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda card: began.append((here(), card)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.add(here()) or t)
    here = threading.current_thread
    source = iter(stream(shards, num_workers=2, pin_memory=True))
    next(source)
    source.close()
    # A thread begins as there is work for it: one may have done it all.
    assert {card for _, card in began} == {1}
    assert pinned and pinned <= {thread for thread, _ in began} and main not in pinned


def test_how_many_threads_read(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(stream_module, "cores", lambda: 6)
    assert [reader_threads(None, gpu), reader_threads(None, cpu), reader_threads(7, gpu)] == [
        *(3, 1, 7)
    ]
    monkeypatch.setattr(stream_module, "cores", lambda: 1)
    assert reader_threads(None, gpu) == 1
    with pytest.raises(InputError, match="--num-workers -1"):
        reader_threads(-1, cpu)


# Transparency


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def rgb_with_holes() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 250, (128, 128, 3)).astype(np.uint8)
    there = np.ones((128, 128), bool)
    there[:50, 30:] = False
    return pixels, there


def as_rgba() -> tuple[bytes, Any, Any]:
    pixels, there = rgb_with_holes()
    alpha = np.where(there, 255, 0).astype(np.uint8)
    return png(Image.fromarray(np.dstack([pixels, alpha]))), pixels, there


def as_grey_and_alpha() -> tuple[bytes, Any, Any]:
    pixels, there = rgb_with_holes()
    grey = Image.fromarray(pixels[..., 0])
    alpha = Image.fromarray(np.where(there, 200, 0).astype(np.uint8))
    return png(Image.merge("LA", (grey, alpha))), pixels[..., :1].repeat(3, 2), there


def as_palette() -> tuple[bytes, Any, Any]:
    pixels, there = rgb_with_holes()
    picture = Image.fromarray(pixels[..., 0] // 50)
    picture.putpalette([n for n in range(256) for _ in range(3)])
    index = np.where(there, np.asarray(picture), 7).astype(np.uint8)
    picture.frombytes(index.tobytes())
    return png(picture, transparency=7), index[..., None].repeat(3, 2), there


def as_a_colour_that_is_transparent() -> tuple[bytes, Any, Any]:
    pixels, there = rgb_with_holes()
    pixels[~there] = 255, 0, 255
    return png(Image.fromarray(pixels), transparency=(255, 0, 255)), pixels, there


def as_a_grey_that_is_transparent() -> tuple[bytes, Any, Any]:
    pixels, there = rgb_with_holes()
    grey = np.where(there, pixels[..., 0], 255).astype(np.uint8)
    return png(Image.fromarray(grey), transparency=255), grey[..., None].repeat(3, 2), there


def as_plain_grey() -> tuple[bytes, Any, Any]:
    pixels, _ = rgb_with_holes()
    grey = pixels[..., :1].repeat(3, 2)
    return png(Image.fromarray(pixels[..., 0])), grey, np.ones((128, 128), bool)


def as_sixteen_bits() -> tuple[bytes, Any, Any]:
    rasterio = pytest.importorskip("rasterio")
    pixels, _ = rgb_with_holes()
    with rasterio.open(
        "16.png", "w", driver="PNG", width=128, height=128, count=3, dtype="uint16"
    ) as raster:
        raster.write(np.moveaxis(pixels.astype(np.uint16) * 257, 2, 0))
    return Path("16.png").read_bytes(), pixels, np.ones((128, 128), bool)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("torchvision", [True, False])
@pytest.mark.parametrize(
    "made",
    [
        *(as_rgba, as_grey_and_alpha, as_palette, as_a_colour_that_is_transparent),
        *(as_a_grey_that_is_transparent, as_plain_grey, as_sixteen_bits),
    ],
)
def test_what_is_transparent_is_not_there(
    shards: Shards,
    made: Callable[[], tuple[bytes, Any, Any]],
    torchvision: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not torchvision:
        monkeypatch.setattr(patch_decoder, "_decoder", lambda: patch_decoder._by_pillow)
    content, pixels, there = made()
    sample = shards.split("train").iloc[:1]
    mask_file = (shards.folder / sample.shard[0]).read_bytes()
    mask = mask_file[sample.mask_offset[0] :][: sample.mask_bytes[0]]
    Path("x.tar").write_bytes(content + mask)
    sample = sample.assign(
        shard="x.tar",
        **{
            "image_offset": 0,
            "image_bytes": len(content),
            "image_crc": stream_module.zlib.crc32(content),
            "mask_offset": len(content),
        },
    )
    batch = Patches(replace(shards, folder=Path(), samples=sample), {"train": "train"}).read(
        "train", np.array([0])
    )
    image = batch.images[0].permute(1, 2, 0).numpy()
    assert batch.masks is not None
    assert (batch.valid[0].numpy() == there).all()
    assert (image[there] == pixels[there]).all()
    whole = np.asarray(Image.open(io.BytesIO(mask)))
    assert (batch.masks[0].numpy() == np.where(there, whole, 255)).all()
    if not there.all():
        # In the mean colour of what is there: no edge is made up, and nothing is learnt of it.
        assert (abs(image[~there] - pixels[there].mean(0)) <= 0.5).all()


def test_a_batch_larger_than_the_labelled_set(shards: Shards) -> None:
    with pytest.raises(InputError, match=r"--batch-size 37: .*\(36\)"):
        TrainingStream(shards, 37, seed=0)


def test_no_labelled_patches(shards: Shards) -> None:
    unlabeled = shards.samples[shards.samples.split == "unlabeled"]
    bare = Shards(shards.folder, shards.mapping, 128, None, unlabeled, "")
    with pytest.raises(InputError, match="S4GAN needs some masks"):
        TrainingStream(bare, 1, seed=0)
