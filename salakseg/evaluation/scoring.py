"""A model's pass over held-out patches or full images: predictions counted, nothing else kept.

`ShardSplit` is one split of `shards/`, `ImageFolder` a folder with `images/` and `masks/`. Both
give a `Tally` for a model: counts, from which all scores are made. What a pass holds does not grow
with the number of patches, but for three numbers a patch, one confusion matrix a base image and,
for full images, a few kilobytes of prediction each.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from salakseg.classes import (
    IGNORE_INDEX,
    MASK_SIZE_TOLERANCE,
    ClassMapping,
    at_size,
    read_mask,
    sizes_agree,
)
from salakseg.console import progress
from salakseg.data.folders import files_by_stem
from salakseg.data.patch_names import PatchName, composed, understood
from salakseg.data.shards import Shards
from salakseg.data.stream import Batch, Patches, read_split
from salakseg.errors import InputError
from salakseg.files import require_folder
from salakseg.imagery.alignment import lies_elsewhere
from salakseg.imagery.drawing import Picture
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.mapping.areas import ground_of
from salakseg.mapping.inputs import Input
from salakseg.mapping.resample import classify_seen, seen_by
from salakseg.mask_sets import understood_files
from salakseg.metrics import LEVELS, confusion_matrices, confusion_matrix, count
from salakseg.model.weights import Model

SCORED_SPLITS = ("train", "val", "test")
# Pictures are shown in cells of this side.
CELL = 256
# Patches that are shown, kept from one picture to the next.
READ_TO_SHOW = 64
# Calibration and boundaries are counted on every eighth row of pixels: neighbours say the same.
EVERY = 8
# Pixels no further than this from another class, up, down, left or right, are boundary; < EVERY.
BOUNDARY = 3


@dataclass
class Tally:
    """What a pass counts.

    Attributes:
        confusions: int64 (G, K, K), one matrix for each base image.
        right, scored: int64 (N,), pixels of each patch or image.
        diagnosis: int64 (2, 2, LEVELS + 1), pixels of every `EVERY`th row by interior or boundary,
            wrong or right, and confidence.
        examples: int64 (K, K), the patch with most pixels of each pair of truth and prediction.
        thumbnails: predictions of full images, small.
    """

    confusions: NDArray[np.int64]
    right: NDArray[np.int64]
    scored: NDArray[np.int64]
    diagnosis: NDArray[np.int64]
    examples: NDArray[np.int64]
    thumbnails: list[bytes] = field(default_factory=list)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """float64 (N,): share of right pixels; NaN where a patch has no scored pixel."""
        return np.where(self.scored > 0, self.right / np.maximum(self.scored, 1), np.nan)


class _Counter:
    """Adds up a `Tally` on the device; nothing is fetched before the end."""

    def __init__(self, owner: NDArray[np.int64], num_classes: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self.owner = torch.from_numpy(owner).to(device)
        self.confusions = zeros(int(owner.max()) + 1, num_classes, num_classes)
        self.right, self.scored = zeros(len(owner)), zeros(len(owner))
        self.diagnosis = zeros(2, 2, LEVELS + 1)
        self.most, self.examples = zeros(num_classes, num_classes), zeros(num_classes, num_classes)

    def add(self, entries: Tensor, confusions: Tensor, diagnosis: Tensor) -> None:
        """Entries int64 (B,) with their confusion matrices (B, K, K)."""
        self.confusions.index_add_(0, self.owner[entries], confusions)
        self.right[entries] = confusions.diagonal(dim1=1, dim2=2).sum(1)
        self.scored[entries] = confusions.sum((1, 2))
        self.diagnosis += diagnosis
        most, which = confusions.max(0)
        self.examples = torch.where(most > self.most, entries[which], self.examples)
        self.most = torch.maximum(self.most, most)

    def tally(self) -> Tally:
        """All of it, on the host."""
        return Tally(
            self.confusions.cpu().numpy(),
            self.right.cpu().numpy(),
            self.scored.cpu().numpy(),
            self.diagnosis.cpu().numpy(),
            self.examples.cpu().numpy(),
        )


def near_boundary(truth: Tensor) -> Tensor:
    """Which pixels of every `EVERY`th row are within `BOUNDARY` of another class, or of none.

    Args:
        truth: uint8 (B, H, W), class indices or 255.

    Returns:
        bool (B, ⌈H / EVERY⌉, W) on the same device.
    """
    here = truth[:, ::EVERY].contiguous()
    near = torch.zeros(here.shape, dtype=torch.bool, device=truth.device)
    for step in range(1, BOUNDARY + 1):
        below, above = truth[:, step::EVERY], truth[:, EVERY - step :: EVERY]
        rows = below.shape[1]
        near[:, :rows] |= below != here[:, :rows]
        near[:, 1:] |= above[:, : here.shape[1] - 1] != here[:, 1:]
        differ = here[:, :, :-step] != here[:, :, step:]
        near[:, :, :-step] |= differ
        near[:, :, step:] |= differ
    return near


def diagnose(truth: Tensor, prediction: Tensor, confidence: Tensor) -> Tensor:
    """Count by place, rightness and confidence on every `EVERY`th row.

    Args:
        truth: uint8 (B, H, W), class indices or 255.
        prediction: integer (B, H, W), class indices.
        confidence: float (B, H, W), 0 … 1.

    Returns:
        int64 (2, 2, LEVELS + 1): interior or boundary, wrong or right, confidence in steps.
    """
    near = near_boundary(truth)
    truth, prediction, confidence = (t[:, ::EVERY] for t in (truth, prediction, confidence))
    index = (confidence * LEVELS + 0.5).int().clamp_(0, LEVELS)
    index += (truth == prediction.to(torch.uint8)).int().mul_(LEVELS + 1)
    index += near.int().mul_(2 * (LEVELS + 1))
    index.masked_fill_(truth == IGNORE_INDEX, 4 * (LEVELS + 1))
    return count(index, 4 * (LEVELS + 1) + 1)[:-1].view(2, 2, LEVELS + 1)


def predict(model: Model, images: Tensor, amp: bool | None) -> tuple[Tensor, Tensor]:
    """uint8 (B, 3, H, W) → confidence float32 and class indices int64, both (B, H, W)."""
    # Not argmax(1): on a CPU it takes 25 times as long as max, nearly as long as a small network.
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
        for batch in read_split(shards, split, batch_size, num_workers, pin_memory=on_gpu):
            batch = batch.to(device)
            assert batch.masks is not None  # every patch of a scored split has one
            entries = batch.entries.to(device, non_blocking=True)
            confidence, prediction = predict(model, batch.images, amp)
            yield entries, batch.masks, prediction, confidence
    finally:
        model.generator.train(was_training)


def owners(patches: pd.DataFrame) -> tuple[NDArray[np.int64], list[tuple[str, str]]]:
    """The base image of each patch, int64 (N,), and (folder, name) of each base image, sorted."""
    owner, base_images = pd.factorize(
        pd.MultiIndex.from_frame(patches[["folder", "base_image"]]), sort=True
    )
    return owner.astype(np.int64), [(folder, name) for folder, name in base_images]


class ShardSplit:
    """The patches of one split of shards, to score on.

    Attributes:
        mapping: the classes, as the masks have them.
        base_images: (folder, name) of each of the G base images.
        owner: int64 (N,), the base image of each patch.
        names: of the N patches.
        facts: what `metrics.json` says of the data.
        described: the same in words.
        notes: what a reader must know of the data.
        pixel_size: metres on the ground, None where not known.
        leaky: bool (G,), whether other patches of the base image are in training.
    """

    def __init__(self, shards: Shards, split: str) -> None:
        """Raises `InputError` where the split has no patches with masks."""
        patches = shards.split(split)
        if split not in SCORED_SPLITS or patches.empty:
            sizes = {name: len(shards.split(name)) for name in SCORED_SPLITS}
            there = ", ".join(f"{name} ({size} patches)" for name, size in sizes.items() if size)
            raise InputError(
                f"{shards.folder}: no patches with masks in a split {split!r}; "
                + (f"it has {there}" if there else "none of its splits has any")
            )
        owner, base_images = owners(patches)
        self.shards, self.split = shards, split
        self.mapping, self.pixel_size = shards.mapping, shards.pixel_size
        self.owner, self.base_images = owner, base_images
        self.names: list[str] = patches.key.tolist()
        self.facts: dict[str, Any] = {
            "shards": str(shards.folder),
            "split": split,
            "patches": len(patches),
            "base_images": len(base_images),
        }
        self.described = (
            f"{len(patches)} patches of {len(base_images)} base images, "
            f"split {split} of {shards.folder}"
        )
        trained = shards.samples[shards.samples.split.isin(("train", "unlabeled"))]
        in_training = set(zip(trained.folder, trained.base_image, strict=True))
        self.leaky = np.array([base in in_training for base in self.base_images])
        self.notes: list[str] = []
        if split != "train" and self.leaky.any():
            self.notes.append(
                f"{self.leaky.sum()} of the {len(base_images)} base images are in training too, "
                "so the scores are too good; --leak-check says by how much"
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
        counter = _Counter(self.owner, num_classes, model.generator.mean.device)
        with progress(f"Evaluating {self.split}", len(self.names)) as bar:
            for entries, truth, prediction, confidence in predictions(
                model, self.shards, self.split, batch_size, num_workers, amp
            ):
                confusions = confusion_matrices(truth, prediction, num_classes)
                counter.add(entries, confusions, diagnose(truth, prediction, confidence))
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
        return batch.images[0].permute(1, 2, 0).numpy(), batch.masks[0].numpy()

    def predicted(
        self, model: Model, tally: Tally, entry: int, amp: bool | None
    ) -> NDArray[np.uint8]:
        """A model's class map of a patch, uint8 (P, P)."""
        _, prediction = predict(
            model, self._read(entry).images.to(model.generator.mean.device), amp
        )
        return prediction[0].byte().cpu().numpy()


class ImageFolder:
    """A folder with `images/` and `masks/` of any size, to score on; attributes as `ShardSplit`'s.

    An image named as a patch (see `data.patch_names`) belongs to its base image, any other is one.
    """

    def __init__(self, folder: Path, mapping: ClassMapping) -> None:
        """Raises `InputError` where no image has a mask, a mask is of other ground, or it is not
        clear what the masks hold."""
        self.pairs, without_mask, passed_over = _pair(folder)
        self.mapping, read = understood_files([mask for _, mask in self.pairs], mapping)
        self.folder, self.pixel_size = folder, None
        self.names = [image.name for image, _ in self.pairs]
        stems = [composed(image.stem) for image, _ in self.pairs]
        said = understood(stems)
        bases = [
            said.get(stem, PatchName(name)).base_image
            for stem, name in zip(stems, self.names, strict=True)
        ]
        owner, found = pd.factorize(np.array(bases, dtype=object), sort=True)
        self.owner = owner.astype(np.int64)
        self.base_images = [(".", str(name)) for name in found]
        self.facts: dict[str, Any] = {
            "folder": str(folder),
            "images": len(self.pairs),
            "images_without_mask": without_mask,
            "base_images": len(found),
        }
        self.described = f"{len(self.pairs)} images of {folder}"
        self.notes = [f"images without a mask, left out: {without_mask}"] if without_mask else []
        if passed_over:
            self.notes.append(f"files of other kinds, not used: {', '.join(passed_over)}")
        if read is not None:
            self.notes += [f"the masks' numbers are read as {read.words}"] if read.words else []
            self.notes += [read.doubt] if read.doubt else []
        self._noted = False

    def score(self, model: Model, batch_size: int, num_workers: int, amp: bool | None) -> Tally:
        """One pass of a model."""
        counter = _Counter(self.owner, model.mapping.num_classes, torch.device("cpu"))
        thumbnails = []
        resized, smeared = [], 0
        told: dict[str, list[str]] = {}
        with progress("Evaluating", len(self.pairs)) as bar:
            for entry, (image_path, mask_path) in enumerate(self.pairs):
                reading = read_mask(mask_path, self.mapping)
                smeared += reading.smeared
                with open_image(image_path, white_level=model.white_level) as source:
                    shape = source.height, source.width
                    truth = _fit_truth(reading.labels, shape, image_path, mask_path)
                    if reading.labels.shape != shape:
                        resized.append(mask_path.name)
                    is_photo = Input(image_path, image_path.stem).is_photo
                    ground = ground_of(source, None, is_photo)
                    seen, notes = seen_by(model, source, ground)
                    for note in [*source.notes, *notes]:
                        told.setdefault(note, []).append(image_path.name)
                    confusion, diagnosis, prediction = _compare(
                        model, source, seen, truth, batch_size, amp
                    )
                counter.add(torch.tensor([entry]), confusion[None], diagnosis)
                thumbnails.append(_as_thumbnail(prediction))
                bar.advance()
        if not self._noted:  # the masks are the same for the next model
            self._noted = True
            self.notes += _notes_on_masks(resized, smeared)
        notes = [f"{_first_of(names)}: {note}" for note, names in told.items()]
        self.notes += [note for note in notes if note not in self.notes]
        tally = counter.tally()
        tally.thumbnails = thumbnails
        return tally

    def notes_on(self, model: Model) -> list[str]:
        """Nothing: which images a model has seen is not known here."""
        return []

    def show(self, entry: int) -> tuple[Picture, NDArray[np.uint8]]:
        """Image uint8 (H, W, 3) and truth uint8 (H, W)."""
        image_path, mask_path = self.pairs[entry]
        with open_image(image_path) as source:
            shape = source.height, source.width
            image, valid = source.read(0, 0, *shape)
        labels = read_mask(mask_path, self.mapping).labels
        truth = _fit_truth(labels, shape, image_path, mask_path)
        return image, np.where(valid, truth, IGNORE_INDEX).astype(np.uint8)

    def predicted(
        self, model: Model, tally: Tally, entry: int, amp: bool | None
    ) -> NDArray[np.uint8]:
        """A model's class map of an image, at most `CELL` pixels wide and high."""
        with Image.open(io.BytesIO(tally.thumbnails[entry])) as thumbnail:
            return np.asarray(thumbnail)


def _as_thumbnail(labels: NDArray[np.uint8]) -> bytes:
    """A PNG of class indices that fits a cell."""
    image = Image.fromarray(labels)
    # Labels have no values between: the nearest pixel.
    image.thumbnail((CELL, CELL), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _notes_on_masks(resized: list[str], smeared: int) -> list[str]:
    notes = []
    if resized:
        notes.append(
            f"{len(resized)} masks differ from their image by 1 or {MASK_SIZE_TOLERANCE} pixels "
            f"({_first_of(resized)}); "
            "the common part was compared"
        )
    if smeared:
        notes.append(f"{smeared:,} pixels of JPEG masks were given to the nearest class")
    return notes


def _first_of(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _pair(folder: Path) -> tuple[list[tuple[Path, Path]], int, list[str]]:
    """Image and mask of the same stem, by name; the number of images without a mask; and a few of
    the files that are no images by their extension."""
    found: dict[str, dict[str, Path]] = {}
    passed_over = []
    for kind in ("images", "masks"):
        inside = require_folder(
            folder / kind, "--data takes a folder with images/ and masks/ in it"
        )
        by_stem, other = files_by_stem(path.name for path in inside.iterdir())
        passed_over += [f"{kind}/{name}" for name in other[:2]] + ["…"] * (len(other) > 2)
        for first, *more in by_stem.values():
            if more:
                raise InputError(
                    f"{inside / more[0]} and {first} beside it have one name; remove one"
                )
        found[kind] = {stem: inside / first for stem, (first, *_) in by_stem.items()}
    images, masks = found["images"], found["masks"]
    pairs = [(path, masks[stem]) for stem, path in images.items() if stem in masks]
    if not pairs:
        raise InputError(
            f"{folder}: none of its {len(images)} images has a mask of the same name in masks/"
            + f" (files of other kinds are not used: {', '.join(passed_over)})" * bool(passed_over)
        )
    for image, mask in pairs:
        if words := lies_elsewhere(image, mask):
            raise InputError(f"{mask}: {words}")
    return pairs, len(images) - len(pairs), passed_over


def _fit_truth(
    labels: NDArray[np.uint8], shape: tuple[int, int], image: Path, mask: Path
) -> NDArray[np.uint8]:
    """The labels at the image's size: cut off, or 255 where the mask ends a little earlier."""
    height, width = labels.shape
    if not sizes_agree((height, width), shape):
        raise InputError(
            f"{mask}: is {width}×{height} pixels and its image {image} "
            f"{shape[1]}×{shape[0]}; they must be of one size"
        )
    return at_size(labels, shape)


def _compare(
    model: Model,
    source: ImageSource,
    seen: ImageSource,
    truth: NDArray[np.uint8],
    batch_size: int,
    amp: bool | None,
) -> tuple[Tensor, Tensor, NDArray[np.uint8]]:
    """Confusion matrix, diagnosis and class map of one image; its nodata pixels do not count.

    `seen` is what `mapping.resample.seen_by` made of it, as for a map.
    """
    num_classes = model.mapping.num_classes
    total = torch.zeros((num_classes, num_classes), dtype=torch.int64)
    truth = truth.copy()
    prediction = np.full_like(truth, IGNORE_INDEX)
    percent = np.zeros_like(truth)
    for block in classify_seen(model, source, seen, batch_size=batch_size, amp=amp):
        height, width = block.labels.shape
        window = (
            slice(block.row, block.row + height),
            slice(block.column, block.column + width),
        )
        prediction[window] = block.labels
        percent[window] = block.confidence
        nodata = block.labels == IGNORE_INDEX
        truth[window][nodata] = IGNORE_INDEX
        total += confusion_matrix(
            torch.from_numpy(truth[window]),
            torch.from_numpy(np.where(nodata, 0, block.labels)),
            num_classes,
        )
    maps = (torch.from_numpy(part)[None] for part in (truth, prediction, percent))
    whole_truth, whole_prediction, whole_percent = maps
    diagnosis = diagnose(whole_truth, whole_prediction, whole_percent / 100)
    return total, diagnosis, prediction
