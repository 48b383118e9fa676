"""A folder with `images/` and `masks/` of any size to score on; images are seen as for a map."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from salakseg.band_set import BandSet
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
from salakseg.data.problems import plural
from salakseg.distributed import everyones, rank, world_size
from salakseg.errors import InputError
from salakseg.evaluation.pictures import CELL
from salakseg.evaluation.tally import Counter, ScoredSource, Tally, count_by_confidence
from salakseg.files import require_folder
from salakseg.imagery.alignment import lies_elsewhere
from salakseg.imagery.drawing import Picture
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.mapping.areas import ground_of
from salakseg.mapping.inputs import Input, require_on_scale
from salakseg.mapping.resample import classify_seen, seen_by
from salakseg.mask_sets import understood_files
from salakseg.metrics import confusion_matrix
from salakseg.model.weights import Model


class ImageFolder(ScoredSource):
    """Images and masks of the same names.

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
        self.facts = {
            "folder": str(folder),
            "images": len(self.pairs),
            "images_without_mask": without_mask,
            "base_images": len(found),
        }
        self.described = f"{plural(len(self.pairs), 'image')} of {folder}"
        self.notes = [f"images without a mask, left out: {without_mask}"] if without_mask else []
        if passed_over:
            self.notes.append(f"files of other kinds, not used: {', '.join(passed_over)}")
        if read is not None:
            self.notes += [f"the masks' numbers are read as {read.words}"] if read.words else []
            self.notes += [read.doubt] if read.doubt else []
        self._noted = False
        self._band_set: BandSet | None = None

    def score(self, model: Model, batch_size: int, num_workers: int, amp: bool | None) -> Tally:
        """One pass of a model."""
        self._band_set = model.band_set
        counter = Counter(self.owner, model.mapping.num_classes, torch.device("cpu"))
        thumbnails: dict[int, bytes] = {}
        resized, smeared = [], 0
        told: dict[str, list[str]] = {}
        with progress("Evaluating", len(self.pairs)) as bar:
            for entry in range(rank(), len(self.pairs), world_size()):
                image_path, mask_path = self.pairs[entry]
                reading = read_mask(mask_path, self.mapping)
                smeared += reading.smeared
                with open_image(
                    image_path, white_level=model.white_level, band_set=model.band_set
                ) as source:
                    require_on_scale(source)
                    shape = source.height, source.width
                    truth = _fit_truth(reading.labels, shape, image_path, mask_path)
                    if reading.labels.shape != shape:
                        resized.append(mask_path.name)
                    is_photo = Input(image_path, image_path.stem).is_photo
                    ground = ground_of(source, None, is_photo)
                    seen, notes = seen_by(model, source, ground)
                    for note in [*source.notes, *notes]:
                        told.setdefault(note, []).append(image_path.name)
                    confusion, by_confidence, prediction = _compare(
                        model, source, seen, truth, batch_size, amp
                    )
                counter.add(torch.tensor([entry]), confusion[None], by_confidence)
                thumbnails[entry] = _as_thumbnail(prediction)
                bar.advance()
        for number, theirs in enumerate(everyones((thumbnails, resized, smeared, told))):
            if number != rank():
                thumbnails |= theirs[0]
                resized += theirs[1]
                smeared += theirs[2]
                for note, names in theirs[3].items():
                    told.setdefault(note, []).extend(names)
        if not self._noted:  # the masks are the same for the next model
            self._noted = True
            self.notes += _notes_on_masks(resized, smeared)
        notes = [f"{_first_of(names)}: {note}" for note, names in told.items()]
        self.notes += [note for note in notes if note not in self.notes]
        tally = counter.tally()
        tally.thumbnails = [thumbnails[entry] for entry in range(len(self.pairs))]
        return tally

    def notes_on(self, model: Model) -> list[str]:
        """Nothing: which images a model has seen is not known here."""
        return []

    def show(self, entry: int) -> tuple[Picture, NDArray[np.uint8]]:
        """Image uint8 (H, W, 3) and truth uint8 (H, W)."""
        image_path, mask_path = self.pairs[entry]
        with open_image(image_path, band_set=self._band_set) as source:
            shape = source.height, source.width
            image, valid = source.read(0, 0, *shape)
            image = source.shown(image)
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
            f"{plural(len(resized), 'mask differs from its', 'masks differ from their')} image by "
            f"1 or {MASK_SIZE_TOLERANCE} pixels ({_first_of(resized)}); the common part was "
            "compared"
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
            f"{folder}: none of its {plural(len(images), 'image')} has a mask of the same name "
            "in masks/"
            + f" (files of other kinds are not used: {', '.join(passed_over)})"
            * bool(passed_over)
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
    """Confusion matrix, by_confidence and class map of one image; its nodata pixels do not count.

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
    by_confidence = count_by_confidence(whole_truth, whole_prediction, whole_percent / 100)
    return total, by_confidence, prediction
