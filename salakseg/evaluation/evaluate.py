"""evaluate(): a model's scores on shards, or on a folder of full images and masks.

In go a model file and either one split of `shards/` or a folder with `images/` and `masks/`; out
come a table on the console and, in `eval/`: `metrics.json` (everything), `per_class.csv`,
`per_base_image.csv`, `confusion_matrix.csv` and `.png`, and `contact_sheet.png`. Ignored pixels
never count; a class that the truth does not hold is absent: in no mean, its false positives shown.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.table import Table
from torch import Tensor

from salakseg.classes import (
    IGNORE_INDEX,
    MASK_SIZE_TOLERANCE,
    ClassMapping,
    read_class_mapping,
    read_mask,
)
from salakseg.console import console, progress
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import Patches, read_split
from salakseg.device import select_device
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, require_folder, write_text
from salakseg.imagery.drawing import Picture, colorize, contact_sheet, fit
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.raster import ImageSource, open_image
from salakseg.mapping.classify import classify
from salakseg.metrics import confusion_matrix, scores
from salakseg.model.weights import Model, find_model, load_model

METRICS_FORMAT = "salakseg-metrics-1"
PICTURES = 8
CELL = 256
WRONG = (230, 25, 25)
SCORED_SPLITS = ("train", "val", "test")
# Beyond this many classes the numbers in the picture would be too small to read.
MOST_ANNOTATED = 20


@dataclass
class _Evaluated:
    """What a pass over the data leaves.

    `confusions` is int64 (G, K, K), one matrix for each of the G `base_images` (folder, name).
    """

    confusions: NDArray[np.int64]
    base_images: list[tuple[str, str]]
    data: dict[str, Any]
    described: str
    pictures: list[list[Picture]] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(
    model: Path | str = Path("best_model.pth"),
    *,
    shards_dir: Path | str = Path("shards"),
    split: str = "val",
    data: Path | str | None = None,
    out: Path | str = Path("eval"),
    device: str = "auto",
    batch_size: int = 16,
    num_workers: int = 0,
    generator: str | None = None,
    class_mapping: Path | str | None = None,
    amp: bool | None = None,
) -> dict[str, Any]:
    """Score a model and write the results into `out`.

    Args:
        model: a model file, or its name in `checkpoints/`.
        shards_dir: folder that `salakseg shard` wrote.
        split: which of its patches: train, val or test.
        data: a folder with `images/` and `masks/` of any size, to score on instead of the shards.
        generator: the network's name, for a bare state dict only.
        class_mapping: classes of a bare state dict, and how to read the masks of `data` (else
            DATA/class_mapping.csv, else the model's own).
        amp: mixed precision; None: where the device is fast at it.

    Returns:
        What `metrics.json` holds: plain values, None where there is no score.

    Raises:
        InputError: no such model, shards, split or masks; classes of model and data that differ;
            no pixel that has a class.
        WorkError: out of GPU memory.
    """
    model, shards_dir, out = Path(model), Path(shards_dir), Path(out)
    data, class_mapping = (None if path is None else Path(path) for path in (data, class_mapping))
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be 1 or more")
    if out.exists():
        require_folder(out, "--out takes a folder")
    path = find_model(model)
    target = select_device(device)
    given = None if class_mapping is None else read_class_mapping(class_mapping)
    try:
        if data is None:
            shards = read_shards(shards_dir)
            loaded = load_model(path, target, generator, given or shards.mapping)
            require_same_classes(loaded, shards.mapping, str(shards_dir))
            evaluated = _evaluate_shards(loaded, shards, split, batch_size, num_workers, amp)
        else:
            own = data / "class_mapping.csv"
            reading = given or (read_class_mapping(own) if own.is_file() else None)
            loaded = load_model(path, target, generator, reading)
            require_same_classes(loaded, reading or loaded.mapping, str(class_mapping or own))
            evaluated = _evaluate_folder(loaded, data, reading or loaded.mapping, batch_size, amp)
    except torch.OutOfMemoryError as error:
        raise WorkError(f"{target}: out of memory; use a smaller --batch-size") from error
    if not evaluated.confusions.any():
        raise InputError(f"{evaluated.described}: no pixel of the masks has a class to score")
    result = _summarise(loaded, evaluated)
    _write(out, result, evaluated, loaded.mapping)
    _show(result, evaluated, out)
    return result


def confusion_on_split(
    model: Model,
    shards: Shards,
    split: str,
    *,
    batch_size: int,
    num_workers: int = 0,
    amp: bool | None = None,
    on_batch: Callable[[int], object] | None = None,
) -> NDArray[np.int64]:
    """Confusion matrix of a model on every patch of a split, in evaluation mode.

    The matrix grows on the device and is fetched once, at the end. The generator is left in the
    mode (training or evaluation) that it was in.

    Args:
        on_batch: called with the number of patches of each batch once it is queued.

    Returns:
        int64 (K, K), rows truth, columns prediction.
    """
    num_classes = model.mapping.num_classes
    total = torch.zeros(
        (num_classes, num_classes), dtype=torch.int64, device=model.generator.mean.device
    )
    for entries, truth, prediction in _predictions(
        model, shards, split, batch_size, num_workers, amp
    ):
        total += confusion_matrix(truth, prediction, num_classes)
        if on_batch is not None:
            on_batch(len(entries))
    return total.cpu().numpy()


def require_same_classes(model: Model, mapping: ClassMapping, where: str) -> None:
    """Raise `InputError` unless `mapping` learns the model's classes in its order.

    Colours and ignored classes may differ: they change neither what is predicted nor its index.
    """
    ours, theirs = model.mapping.names, mapping.names
    if ours == theirs:
        return
    name = model.source or "the model"
    only_ours = [c for c in ours if c not in theirs]
    only_theirs = [c for c in theirs if c not in ours]
    differences = []
    if only_ours:
        differences.append(f"only the model has {', '.join(only_ours)}")
    if only_theirs:
        differences.append(f"only the data has {', '.join(only_theirs)}")
    if not differences:
        differences.append(f"the order is {', '.join(ours)} against {', '.join(theirs)}")
    raise InputError(
        f"{name} and {where} differ in their classes: {'; '.join(differences)}; "
        "use data with the class mapping that the model was trained with"
    )


def _predictions(
    model: Model, shards: Shards, split: str, batch_size: int, num_workers: int, amp: bool | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Entries int64 (B,), truth uint8 (B, P, P) and prediction int64 (B, P, P), on the device."""
    device = model.generator.mean.device
    was_training = model.generator.training
    on_gpu = device.type == "cuda"
    try:
        for batch in read_split(shards, split, batch_size, num_workers, pin_memory=on_gpu):
            batch = batch.to(device)
            assert batch.masks is not None  # every patch of a scored split has one
            yield (
                batch.entries.to(device, non_blocking=True),
                batch.masks,
                _predict(model, batch.images, amp),
            )
    finally:
        model.generator.train(was_training)


def _predict(model: Model, images: Tensor, amp: bool | None) -> Tensor:
    """uint8 (B, 3, H, W) → class indices int64 (B, H, W)."""
    # Not argmax(1): on a CPU it takes 25 times as long as max, nearly as long as a small network.
    return model.probabilities(images, amp).max(1).indices


def _evaluate_shards(
    model: Model,
    shards: Shards,
    split: str,
    batch_size: int,
    num_workers: int,
    amp: bool | None,
) -> _Evaluated:
    patches = shards.split(split)
    if split not in SCORED_SPLITS or patches.empty:
        sizes = {name: len(shards.split(name)) for name in SCORED_SPLITS}
        there = ", ".join(f"{name} ({size} patches)" for name, size in sizes.items() if size)
        raise InputError(
            f"{shards.folder}: no patches with masks in a split {split!r}; "
            + (f"it has {there}" if there else "none of its splits has any")
        )
    num_classes = model.mapping.num_classes
    device = model.generator.mean.device
    owner, base_images = pd.factorize(
        pd.MultiIndex.from_frame(patches[["folder", "base_image"]]), sort=True
    )
    owner_of_entry = torch.from_numpy(owner).to(device)
    confusions = torch.zeros(
        (len(base_images), num_classes, num_classes), dtype=torch.int64, device=device
    )
    accuracy = torch.zeros(len(patches), device=device)  # NaN where a patch has no scored pixel
    with progress(f"Evaluating {split}", len(patches)) as bar:
        for entries, truth, prediction in _predictions(
            model, shards, split, batch_size, num_workers, amp
        ):
            counts = torch.stack(
                [
                    confusion_matrix(one_truth, one_prediction, num_classes)
                    for one_truth, one_prediction in zip(truth, prediction, strict=True)
                ]
            )  # (B, K, K)
            confusions.index_add_(0, owner_of_entry[entries], counts)
            accuracy[entries] = counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2))
            bar.advance(len(entries))
    evaluated = _Evaluated(
        confusions.cpu().numpy(),
        [(folder, name) for folder, name in base_images],
        {
            "shards": str(shards.folder),
            "split": split,
            "patches": len(patches),
            "base_images": len(base_images),
        },
        f"{len(patches)} patches of {len(base_images)} base images, "
        f"split {split} of {shards.folder}",
    )
    if model.training.get("shards") == shards.fingerprint:
        name = Path(model.source).name
        if split == "train":
            evaluated.notes.append(f"{name} was trained on these patches: no measure of new images")
        elif split == "val" and name == "best_model.pth":
            evaluated.notes.append(
                f"{name} was picked on these patches, so its score here is a little too good"
            )
    chosen = _choose(accuracy.cpu().numpy(), owner)
    batch = Patches(shards, {split: split}).read(split, chosen)
    assert batch.masks is not None
    for entry, image, truth in zip(chosen.tolist(), batch.images, batch.masks, strict=True):
        prediction = _predict(model, image[None].to(device), amp)[0].byte()
        evaluated.pictures.append(
            _pictures(
                image.permute(1, 2, 0).numpy(),
                truth.numpy(),
                prediction.cpu().numpy(),
                model.mapping,
            )
        )
        evaluated.titles.append(f"{patches.key[entry]}: {accuracy[entry]:.1%} of its pixels right")
    return evaluated


def _choose(accuracy: NDArray[np.float32], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to `PICTURES` patches from the worst to the best, from many base images.

    The patches, sorted by accuracy, are cut into as many parts; of each part the first patch is
    taken whose base image (`owner`) was taken least often so far.
    """
    order = np.argsort(accuracy, kind="stable")
    order = order[~np.isnan(accuracy[order])]
    taken = np.zeros(owner.max() + 1, np.int64)
    chosen = []
    for part in np.array_split(order, min(PICTURES, max(1, len(order)))):
        if len(part):
            chosen.append(part[taken[owner[part]].argmin()])
            taken[owner[chosen[-1]]] += 1
    return np.array(chosen, np.int64)


def _evaluate_folder(
    model: Model, folder: Path, mapping: ClassMapping, batch_size: int, amp: bool | None
) -> _Evaluated:
    pairs, without_mask = _pair(folder)
    shown = np.linspace(0, len(pairs) - 1, min(PICTURES, len(pairs))).round()
    confusions = []
    rows: list[tuple[float, list[Picture], str]] = []
    resized, unknown, smeared = [], 0, 0
    with progress("Evaluating", len(pairs)) as bar:
        for place, (image_path, mask_path) in enumerate(pairs):
            reading = read_mask(mask_path, mapping)
            unknown += sum(reading.unknown.values())
            smeared += reading.smeared
            with open_image(image_path) as source:
                shape = source.height, source.width
                truth = _fit_truth(reading.labels, shape, image_path, mask_path)
                if reading.labels.shape != shape:
                    resized.append(mask_path.name)
                confusion, prediction = _compare(model, source, truth, batch_size, amp)
                confusions.append(confusion)
                if place in shown and confusion.any():
                    image, _ = source.read(0, 0, *shape)
                    accuracy = confusion.trace() / confusion.sum()
                    pictures = _pictures(image, truth, prediction, model.mapping)
                    title = f"{image_path.name}: {accuracy:.1%} of its pixels right"
                    rows.append((accuracy, pictures, title))
            bar.advance()
    rows.sort(key=lambda row: row[0])
    notes = []
    if without_mask:
        notes.append(f"images without a mask, left out: {without_mask}")
    if resized:
        notes.append(
            f"{len(resized)} masks differ from their image by 1 or {MASK_SIZE_TOLERANCE} pixels "
            f"({', '.join(resized[:3])}{', …' if len(resized) > 3 else ''}); "
            "the common part was compared"
        )
    if unknown:
        notes.append(f"{unknown:,} pixels of unknown colours in the masks were not scored")
    if smeared:
        notes.append(f"{smeared:,} pixels of JPEG masks were given to the nearest class")
    return _Evaluated(
        np.stack(confusions),
        [(".", image_path.name) for image_path, _ in pairs],
        {"folder": str(folder), "images": len(pairs), "images_without_mask": without_mask},
        f"{len(pairs)} images of {folder}",
        [pictures for _, pictures, _ in rows],
        [title for _, _, title in rows],
        notes,
    )


def _pair(folder: Path) -> tuple[list[tuple[Path, Path]], int]:
    """Image and mask of the same stem, by name; and the number of images without a mask."""
    require_folder(folder, "--data takes a folder with images/ and masks/ in it")
    found: dict[str, dict[str, Path]] = {}
    for kind in ("images", "masks"):
        inside = require_folder(
            folder / kind, "--data takes a folder with images/ and masks/ in it"
        )
        found[kind] = {}
        for path in sorted(inside.iterdir()):
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
                continue
            other = found[kind].setdefault(path.stem, path)
            if other != path:
                raise InputError(f"{path} and {other.name} beside it have one name; remove one")
    images, masks = found["images"], found["masks"]
    pairs = [(path, masks[stem]) for stem, path in images.items() if stem in masks]
    if not pairs:
        raise InputError(
            f"{folder}: none of its {len(images)} images has a mask of the same name in masks/"
        )
    return pairs, len(images) - len(pairs)


def _fit_truth(
    labels: NDArray[np.uint8], shape: tuple[int, int], image: Path, mask: Path
) -> NDArray[np.uint8]:
    """The labels at the image's size: cut off, or 255 where the mask ends a little earlier."""
    if max(abs(labels.shape[0] - shape[0]), abs(labels.shape[1] - shape[1])) > MASK_SIZE_TOLERANCE:
        raise InputError(
            f"{mask}: is {labels.shape[1]}×{labels.shape[0]} pixels and its image {image} "
            f"{shape[1]}×{shape[0]}; they must be of one size"
        )
    truth = np.full(shape, IGNORE_INDEX, np.uint8)
    common = labels[: shape[0], : shape[1]]
    truth[: common.shape[0], : common.shape[1]] = common
    return truth


def _compare(
    model: Model,
    source: ImageSource,
    truth: NDArray[np.uint8],
    batch_size: int,
    amp: bool | None,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Confusion matrix and predicted class map of one image; its nodata pixels do not count."""
    num_classes = model.mapping.num_classes
    total = torch.zeros((num_classes, num_classes), dtype=torch.int64)
    prediction = np.full_like(truth, IGNORE_INDEX)
    for block in classify(model, source, batch_size=batch_size, amp=amp):
        height, width = block.labels.shape
        window = (
            slice(block.row, block.row + height),
            slice(block.column, block.column + width),
        )
        prediction[window] = block.labels
        nodata = block.labels == IGNORE_INDEX
        total += confusion_matrix(
            torch.from_numpy(np.where(nodata, IGNORE_INDEX, truth[window])),
            torch.from_numpy(np.where(nodata, 0, block.labels)),
            num_classes,
        )
    return total.numpy(), prediction


def _pictures(
    image: Picture,
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    mapping: ClassMapping,
) -> list[Picture]:
    """Image, truth, prediction and errors, small enough for a cell of the contact sheet."""
    image = fit(image, CELL, CELL)
    size = image.shape[1], image.shape[0]
    truth, prediction = (
        # Labels have no values between: the nearest pixel.
        np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        for labels in (truth, prediction)
    )
    grey = np.repeat(image.mean(2, keepdims=True) / 2 + 100, 3, axis=2)
    scored = (truth != IGNORE_INDEX) & (prediction != IGNORE_INDEX)
    errors = np.where((scored & (truth != prediction))[..., None], WRONG, grey)
    errors = np.where(scored[..., None], errors, 0).astype(np.uint8)
    return [image, colorize(truth, mapping), colorize(prediction, mapping), errors]


def _summarise(model: Model, evaluated: _Evaluated) -> dict[str, Any]:
    confusion = evaluated.confusions.sum(0)
    result = scores(confusion)
    total = int(result.support.sum())
    return {
        "format": METRICS_FORMAT,
        "model": {
            "file": model.source,
            "generator": model.generator.name,
            "iteration": model.iteration,
        },
        "data": evaluated.data,
        "notes": evaluated.notes,
        "miou": result.miou,
        "pixel_accuracy": result.pixel_accuracy,
        "scored_pixels": total,
        "classes": [
            {
                "class_name": name,
                "present": bool(result.support[index]),
                **{
                    score: _plain(getattr(result, score)[index])
                    for score in ("iou", "precision", "recall", "f1")
                },
                "support": int(result.support[index]),
                "support_share": int(result.support[index]) / total,
                "false_positives": int(result.false_positives[index]),
            }
            for index, name in enumerate(model.mapping.names)
        ],
        "confusion_matrix": confusion.tolist(),
    }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write(out: Path, result: dict[str, Any], evaluated: _Evaluated, mapping: ClassMapping) -> None:
    names = mapping.names
    confusion = evaluated.confusions.sum(0)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False, indent=2)
    write_text(out / "metrics.json", text + "\n")
    _write_table(out / "per_class.csv", pd.DataFrame(result["classes"]))
    by_base = [scores(one) for one in evaluated.confusions]
    per_base_image = {
        "folder": [folder for folder, _ in evaluated.base_images],
        "base_image": [name for _, name in evaluated.base_images],
        "scored_pixels": [one.support.sum() for one in by_base],
        "miou": [one.miou for one in by_base],
        "pixel_accuracy": [one.pixel_accuracy for one in by_base],
    } | {f"iou {name}": [one.iou[index] for one in by_base] for index, name in enumerate(names)}
    _write_table(out / "per_base_image.csv", pd.DataFrame(per_base_image))
    matrix = pd.DataFrame(confusion, columns=names)
    matrix.insert(0, "truth \\ prediction", names, allow_duplicates=True)
    _write_table(out / "confusion_matrix.csv", matrix)
    with atomic_path(out / "confusion_matrix.png") as temporary:
        _draw_confusion(temporary, confusion, names)
    sheet = contact_sheet(
        evaluated.pictures,
        evaluated.titles,
        ["Image", "Truth", "Prediction", "Wrong in red, unscored in black"],
        mapping,
        CELL,
    )
    with atomic_path(out / "contact_sheet.png") as temporary:
        Image.fromarray(sheet).save(temporary)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _draw_confusion(path: Path, confusion: NDArray[np.int64], names: Sequence[str]) -> None:
    """Each row in percent of its truth, with the counts of pixels, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    count = len(names)
    support = confusion.sum(1, keepdims=True)
    share = np.where(support > 0, confusion / np.maximum(support, 1), np.nan)
    side = min(2.5 + 0.95 * count, 24)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.9")  # absent classes: NaN is not painted
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(
        range(count), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.set_yticks(range(count), names, parse_math=False)
    axes.set_xlabel("Prediction")
    axes.set_ylabel("Truth")
    axes.set_title("Share of each true class's pixels, and pixels")
    figure.colorbar(shown, ax=axes, shrink=0.8, format=lambda value, _: f"{value:.0%}")
    short = EngFormatter(places=1, sep=" ")
    if count <= MOST_ANNOTATED:
        for row, column in np.ndindex(count, count):
            if support[row, 0]:
                part = share[row, column]
                pixels = int(confusion[row, column])
                label = f"{part:.1%}\n{pixels if pixels < 1000 else short(pixels)}"
                color = "white" if part > 0.55 else "black"
            else:
                label, color = ("absent" if row == column else ""), "0.4"
            axes.text(column, row, label, ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, format="png")


def _show(result: dict[str, Any], evaluated: _Evaluated, out: Path) -> None:
    console.print(f"{result['model']['file']} on {evaluated.described}")
    # Without vertical lines 80 columns leave room for long names.
    table = Table("Class", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("IoU", "Prec.", "Recall", "F1", "Support px", "Share", "False pos."):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result["classes"]:
        if row["present"]:
            values = [f"{row[score]:.3f}" for score in ("iou", "precision", "recall", "f1")]
        else:
            values = ["absent", "", "", ""]
        table.add_row(
            row["class_name"],
            *values,
            f"{row['support']:,}",
            f"{row['support_share']:.1%}",
            f"{row['false_positives']:,}",
        )
    console.print(table)
    present = sum(row["present"] for row in result["classes"])
    console.print(
        f"mIoU:           {result['miou']:.4f}   (mean of the {present} classes in the truth)"
    )
    console.print(f"Pixel accuracy: {result['pixel_accuracy']:.4f}")
    for note in evaluated.notes:
        console.print(f"Note: {note}")
    console.print(
        f"Wrote metrics.json, per_class.csv, per_base_image.csv, confusion_matrix.csv, "
        f"confusion_matrix.png and contact_sheet.png to {out}"
    )
