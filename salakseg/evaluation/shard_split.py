"""One split of `shards/` to score on, and a model's predictions on its patches."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from salakseg.console import progress
from salakseg.data.problems import plural
from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, Patches, read_split
from salakseg.distributed import rank, summed, world_size
from salakseg.errors import InputError
from salakseg.evaluation.tally import Counter, ScoredSource, Tally, count_by_confidence
from salakseg.imagery.drawing import Picture
from salakseg.metrics import confusion_matrices
from salakseg.model.weights import Model

SCORED_SPLITS = ("train", "val", "test")
# Patches that are shown, kept from one picture to the next.
READ_TO_SHOW = 64


def most_likely(model: Model, images: Tensor, amp: bool | None) -> tuple[Tensor, Tensor]:
    """uint8 (B, C, H, W) → confidence float32 and class indices int64, both (B, H, W)."""
    # Not argmax(1): on a CPU it takes several times as long as max.
    confidence, prediction = model.probabilities(images, amp).max(1)
    return confidence, prediction


def predictions(
    model: Model, shards: Shards, split: str, batch_size: int, num_workers: int, amp: bool | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Entries int64 (B,), truth uint8, prediction int64 and confidence float32 (B, P, P), on the
    device. The generator is left in the mode (training or evaluation) that it was in."""
    device = model.generator.mean.device
    was_training = model.generator.training
    on_gpu = device.type == "cuda"
    try:
        for batch in read_split(
            shards, split, batch_size, num_workers, on_gpu, rank(), world_size()
        ):
            batch = batch.to(device)
            assert batch.masks is not None  # every patch of a scored split has one
            entries = batch.entries.to(device, non_blocking=True)
            confidence, prediction = most_likely(model, batch.images, amp)
            yield entries, batch.masks, prediction, confidence
    finally:
        model.generator.train(was_training)


def owners(patches: pd.DataFrame) -> tuple[NDArray[np.int64], list[tuple[str, str]]]:
    """The base image of each patch, int64 (N,), and (folder, name) of each base image, sorted."""
    owner, base_images = pd.factorize(
        pd.MultiIndex.from_frame(patches[["folder", "base_image"]]), sort=True
    )
    return owner.astype(np.int64), [(folder, name) for folder, name in base_images]


def confusions_on_split(
    model: Model,
    shards: Shards,
    split: str,
    *,
    batch_size: int,
    num_workers: int = 0,
    amp: bool | None = None,
    on_batch: Callable[[int], object] | None = None,
) -> NDArray[np.int64]:
    """Confusion matrices of a model on every patch of a split, in evaluation mode, by photograph;
    of several processes each counts its share, and gets the sum.

    They grow on the device and are fetched once, at the end. The generator is left in the mode
    (training or evaluation) that it was in.

    Args:
        on_batch: called with the number of patches of each batch once it is queued; in each
            process as often.

    Returns:
        int64 (G, K, K), in the order of (folder, base image); rows truth, columns prediction.
    """
    device, num_classes = model.generator.mean.device, model.mapping.num_classes
    owner, base_images = owners(shards.split(split))
    of_entry = torch.from_numpy(owner).to(device)
    total = torch.zeros(
        (len(base_images), num_classes, num_classes), dtype=torch.int64, device=device
    )
    found = predictions(model, shards, split, batch_size, num_workers, amp)
    for _ in range(-(-len(owner) // (batch_size * world_size()))):
        entries, truth, prediction, _ = next(found, (of_entry[:0],) * 4)
        if len(entries):
            confusions = confusion_matrices(truth, prediction, num_classes)
            total.index_add_(0, of_entry[entries], confusions)
        if on_batch is not None:
            on_batch(len(entries))
    return summed(total).cpu().numpy()


class ShardSplit(ScoredSource):
    """The patches of one split of shards.

    Attributes:
        leaky: bool (G,), whether other patches of the base image are in training.
    """

    def __init__(self, shards: Shards, split: str) -> None:
        """Raises `InputError` where the split has no patches with masks."""
        patches = shards.split(split)
        if split not in SCORED_SPLITS or patches.empty:
            sizes = {name: len(shards.split(name)) for name in SCORED_SPLITS}
            there = ", ".join(
                f"{name} ({plural(size, 'patch', 'patches')})"
                for name, size in sizes.items()
                if size
            )
            raise InputError(
                f"{shards.folder}: no patches with masks in a split {split!r}; "
                + (f"it has {there}" if there else "none of its splits has any")
            )
        owner, base_images = owners(patches)
        self.shards, self.split = shards, split
        self.mapping, self.pixel_size = shards.mapping, shards.pixel_size
        self.owner, self.base_images = owner, base_images
        self.names = patches.key.tolist()
        self.facts = {
            "shards": str(shards.folder),
            "split": split,
            "patches": len(patches),
            "base_images": len(base_images),
        }
        self.described = (
            f"{plural(len(patches), 'patch', 'patches')} of "
            f"{plural(len(base_images), 'base image')}, split {split} of {shards.folder}"
        )
        trained = shards.samples[shards.samples.split.isin(("train", "unlabeled"))]
        in_training = set(zip(trained.folder, trained.base_image, strict=True))
        self.leaky = np.array([base in in_training for base in self.base_images])
        self.notes = []
        if split != "train" and self.leaky.any():
            what_of_it = "so the scores are too good; --leak-check says by how much"
            if shards.apart_pixels is not None:
                what_of_it = (
                    f"at least {shards.apart_pixels} pixels from these patches: the scores are of "
                    "ground beside what was learnt, not of another flight"
                )
            self.notes.append(
                f"{self.leaky.sum()} of the {len(base_images)} base images are in training too, "
                f"{what_of_it}"
            )
        reader = Patches(shards, {split: split})

        # What is shown is predicted too, on the contact sheet and again in the report.
        @lru_cache(READ_TO_SHOW)
        def read(entry: int) -> Batch:
            return reader.read(split, np.array([entry]))

        self._read = read

    def score(self, model: Model, batch_size: int, num_workers: int, amp: bool | None) -> Tally:
        """One pass of a model."""
        num_classes = model.mapping.num_classes
        counter = Counter(self.owner, num_classes, model.generator.mean.device)
        with progress(f"Evaluating {self.split}", len(self.names)) as bar:
            for entries, truth, prediction, confidence in predictions(
                model, self.shards, self.split, batch_size, num_workers, amp
            ):
                confusions = confusion_matrices(truth, prediction, num_classes)
                counter.add(entries, confusions, count_by_confidence(truth, prediction, confidence))
                bar.advance(len(entries))
        return counter.tally()

    def notes_on(self, model: Model) -> list[str]:
        """Where the model has seen these patches."""
        if model.training.get("shards") != self.shards.fingerprint:
            return []
        name = Path(model.source).name
        if self.split == "train":
            return [f"{model.source} was trained on these patches: no measure of new images"]
        if self.split == "val" and name == "best_model.pth":
            return [
                f"{model.source} was picked on these patches, so its score here is a little too "
                "good"
            ]
        return []

    def show(self, entry: int) -> tuple[Picture, NDArray[np.uint8]]:
        """Image uint8 (P, P, 3) and truth uint8 (P, P) of a patch."""
        batch = self._read(entry)
        assert batch.masks is not None
        return self.shards.picture(batch.images[0].numpy()), batch.masks[0].numpy()

    def predicted(
        self, model: Model, tally: Tally, entry: int, amp: bool | None
    ) -> NDArray[np.uint8]:
        """A model's class map of a patch, uint8 (P, P)."""
        _, prediction = most_likely(
            model, self._read(entry).images.to(model.generator.mean.device), amp
        )
        return prediction[0].byte().cpu().numpy()
