"""Claims: the training stream costs little more than decoding and outruns a loader of single files.

    python benchmarks/speed/stream.py [--patches N]

Cuts N patches of 256 pixels from the test samples (PNG, every one labelled), indexes and packs
them, and compares batches of `TrainingStream` (uint8, not yet augmented) with

- decoding the same bytes from memory, and nothing else;
- the published loader: a Dataset of single files (Pillow, convert, numpy), with their pages dropped
  from memory where the system lets a program do so, and with all of them in memory;
- plain webdataset on the same shards.

Then, for reference: augmentation, which the stream leaves to the training loop, and decoders. The
stream's workers are threads, the published loader's are processes.
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image, decode_jpeg, decode_png

import salakseg
from salakseg.data.augment import color_view, weak_view
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import TrainingStream

sys.path.append(str(Path(__file__).parents[1]))
from claims import drop_pages, ratios, report, take_turns
from samples import draw_patches

BATCH = 16
TURNS = 3
DECODED = 100  # patches in a turn of the decoders


class Files(Dataset[tuple[Tensor, Tensor]]):
    """A file a patch and a file a mask. That masks still are colours is not counted against it."""

    def __init__(self, data: Path) -> None:
        self.images = sorted((data / "images").iterdir())

    def __len__(self) -> int:
        """Patches."""
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """uint8 (H, W, 3) each."""
        path = self.images[number]
        pair = []
        for file in (path, path.parents[1] / "masks" / path.name):
            with Image.open(file) as image:
                pair.append(torch.from_numpy(np.array(image.convert("RGB"))))
        return pair[0], pair[1]


def read_stream(shards: Shards, count: int, workers: int, cold: bool = False) -> None:
    """Batches of the training stream."""
    if cold:
        drop_pages(shards.folder, "*.tar")
    stream = TrainingStream(shards, BATCH, seed=0, num_workers=workers)
    for _ in islice(stream, count // BATCH):
        pass


def read_files(data: Path, count: int, workers: int, cold: bool = False) -> None:
    """Batches of single files, in random order."""
    if cold:
        drop_pages(data)
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(Files(data), BATCH, shuffle=True, num_workers=workers, generator=order)
    for _ in islice(loader, count // BATCH):
        pass


def read_webdataset(shards: Shards, count: int) -> None:
    """Batches of webdataset's own decoding."""
    tars = sorted(str(path) for path in shards.folder.glob("*.tar"))
    samples = webdataset.WebDataset(tars, shardshuffle=False).shuffle(100).decode("torchrgb8")
    for _ in islice(samples.to_tuple("png", "mask.png").batched(BATCH), count // BATCH):
        pass


def stored(shards: Shards) -> tuple[list[Tensor], list[Tensor]]:
    """The bytes of all images and masks, in memory."""
    images: list[Tensor] = []
    masks: list[Tensor] = []
    for row in shards.split("train").itertuples():
        with open(shards.folder / str(row.shard), "rb") as file:
            for part, found in (("image", images), ("mask", masks)):
                file.seek(getattr(row, f"{part}_offset"))
                content = bytearray(file.read(getattr(row, f"{part}_bytes")))
                found.append(torch.frombuffer(content, dtype=torch.uint8))
    return images, masks


def decoders(images: Sequence[Tensor]) -> None:
    """Rows for reference: what a patch takes to decode, as PNG and as JPEG of the same content."""
    some = images[:DECODED]
    pictures = [Image.open(io.BytesIO(content.numpy().tobytes())) for content in some]
    buffers = [io.BytesIO() for _ in pictures]
    for picture, buffer in zip(pictures, buffers, strict=True):
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
    jpegs = [
        torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8) for buffer in buffers
    ]

    def pillow(content: Tensor) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(content.numpy().tobytes())) as image:
            return np.asarray(image.convert("RGB"))

    def ours(content: Tensor) -> Tensor:
        return decode_image(content, ImageReadMode.RGB)

    others: dict[str, tuple[Sequence[Tensor], Callable[[Tensor], object]]] = {
        "PNG, Pillow": (some, pillow),
        "PNG, torchvision decode_png": (some, partial(decode_png, mode=ImageReadMode.RGB)),
        "JPEG, Pillow": (jpegs, pillow),
        "JPEG, torchvision decode_jpeg": (jpegs, partial(decode_jpeg, mode=ImageReadMode.RGB)),
    }
    try:
        import simplejpeg  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print("simplejpeg is not installed: no row for it")
    else:
        others["JPEG, simplejpeg"] = (
            jpegs,
            lambda content: simplejpeg.decode_jpeg(content.numpy()),
        )
    for name, (contents, decode) in others.items():
        compare(
            f"decoding a patch: {name}",
            lambda contents=contents: [ours(content) for content in contents],  # type: ignore[misc]
            lambda contents=contents, decode=decode: [decode(c) for c in contents],  # type: ignore[misc]
            DECODED,
        )


def compare(
    claim: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    count: int,
    at_least: float | None = None,
) -> None:
    """A row: how many times as fast as the other side, and the milliseconds a patch."""
    a, b = take_turns([ours, other], TURNS)
    mine, theirs = (f"{1000 * statistics.median(side) / count:.2f} ms" for side in (a, b))
    report(claim, mine, theirs, ratios(b, a), at_least=at_least)


def tell_augmentation(shards: Shards) -> None:
    """Print what the views of a batch take, on this processor."""
    batch, _ = next(iter(TrainingStream(shards, BATCH, seed=0)))
    assert batch.plan is not None

    def views(drawn: torch.Tensor = batch.plan) -> None:
        images, *_ = weak_view(batch.images, batch.masks, batch.valid, drawn)
        color_view(images, drawn)

    (taken,) = take_turns([views], TURNS)
    print(f"augmentation on the CPU: {1000 * statistics.median(taken) / BATCH:.2f} ms a patch")


def main() -> None:
    """Cut, index, pack, read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=800)
    parser.add_argument("--dir", type=Path, help="where everything goes for a while")
    options = parser.parse_args()
    count, workers = options.patches // BATCH * BATCH, os.cpu_count() or 1
    torch.set_num_threads(1)
    if not hasattr(os, "posix_fadvise"):
        print("no posix_fadvise here: files are read from memory")
    with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
        data, index, out = (Path(temporary, name) for name in ("DATA", "index", "shards"))
        draw_patches(data, count, labelled=1)
        salakseg.index(data, out=index, split_file=data / "split.csv")
        salakseg.shard(index_dir=index, out=out)
        if hasattr(os, "sync"):
            os.sync()  # only what is on disk can be dropped
        shards = read_shards(out)
        images, masks = stored(shards)
        order = [
            row
            for batch, _ in islice(TrainingStream(shards, BATCH, seed=0), count // BATCH)
            for row in batch.entries.tolist()
        ]

        def decode_only() -> None:
            for row in order:
                decode_image(images[row], ImageReadMode.RGB)
                decode_image(masks[row], ImageReadMode.UNCHANGED)

        files = partial(read_files, data, count)
        stream = partial(read_stream, shards, count)
        compare("stream against decoding alone", partial(stream, 0), decode_only, count, 0.9)
        compare(
            f"stream, {workers} workers, against single files, 0 workers, not in memory",
            partial(stream, workers, cold=True),
            partial(files, 0, cold=True),
            count,
            3,
        )
        for cold, where in ((True, "not in memory"), (False, "in memory")):
            for number in (0, workers):
                compare(
                    f"stream against single files, both {number} workers, {where}",
                    partial(stream, number, cold=cold),
                    partial(files, number, cold=cold),
                    count,
                    1,
                )
        compare(
            "stream against webdataset, 0 workers",
            partial(stream, 0),
            lambda: read_webdataset(shards, count),
            count,
        )
        decoders(images)
        tell_augmentation(shards)


if __name__ == "__main__":
    main()
