"""What there is to map: each image's files, what its pixels depend on, what is mapped already."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salakseg.console import console
from salakseg.errors import InputError
from salakseg.imagery.remote import ImagePath
from salakseg.mapping.against_mask import Truth
from salakseg.mapping.area_tables import read_areas
from salakseg.mapping.areas import Areas
from salakseg.mapping.inputs import Input
from salakseg.mapping.outputs import key_of, read_tags
from salakseg.mapping.polygon_files import SHAPED_BY, is_left_as_made, tags_of
from salakseg.mapping.polygons import LAYER
from salakseg.mapping.zones import Zones
from salakseg.model.weights import Model
from salakseg.version import VERSION


@dataclass(frozen=True)
class Part:
    """What can be made again of a finished map.

    Attributes:
        words: what it is called.
        kinds: of its files; the last one tells in its tag `SHAPED_BY` what it was made by.
        layer: of that one.
    """

    words: str
    kinds: tuple[str, ...]
    layer: str


PARTS = {
    "zones": Part(
        "areas by zone",
        ("types of zones", "zones", "types of zone_table", "zone_table", "zone_layer"),
        "zones",
    ),
    "polygons": Part("polygons", ("style of polygons", "polygons"), LAYER),
}


@dataclass(frozen=True)
class Prediction:
    """What was written for one image.

    Attributes:
        image: the image.
        classes, confidence, areas, preview: the files.
        pixels: int64 (K,), pixels of each class.
        square_metres: float64 (K,), their area on the ground; None where it cannot be known.
        area_basis: how the areas are known, or why they are not.
        far: share of the image that looks like nothing that the model was trained on, 0 to 1, see
            `mapping.likeness`; None where that is not known.
    """

    image: ImagePath
    classes: Path
    confidence: Path
    areas: Path
    preview: Path
    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    area_basis: str
    far: float | None


@dataclass(frozen=True)
class MapOptions:
    """What holds for all images of a call; see `predict`."""

    overlap: float
    tile: int | None
    batch_size: int | None
    nodata: float | None
    bands: tuple[int, ...] | None
    white_level: int | None
    skip_unreadable: bool
    resolution: str
    gsd: float | None
    amp: bool | None
    tta: bool
    zones: Zones | None
    probabilities: bool
    polygons: bool
    polygon_format: str
    min_area: float | None
    simplify: float | None


@dataclass(frozen=True)
class Job:
    """One image to map: its files by kind, the folder of what the page of all maps shows of it,
    what its pixels depend on, its mask or None, and by name what else each of its `PARTS` depends
    on, as text."""

    image: Input
    files: dict[str, Path]
    view: Path
    key: dict[str, Any]
    mask: Truth | None
    parts: dict[str, str]

    def prediction(self, areas: Areas, basis: str, far: float | None) -> Prediction:
        """What is said of it once it is mapped."""
        return Prediction(
            self.image.path,
            self.files["classes"],
            self.files["confidence"],
            self.files["areas"],
            self.files["preview"],
            areas.pixels,
            areas.square_metres,
            basis,
            far,
        )


def job_of(
    image: Input,
    out: Path,
    network: Model,
    model_hash: str,
    options: MapOptions,
    mask: Truth | None,
) -> Job:
    """An image, to be mapped into `out`."""
    files = {kind: out / name for kind, name in _names(image, options, mask).items()}
    key = _key(image, network, model_hash, options)
    parts = {}
    if options.zones is not None:
        parts["zones"] = options.zones.sha256
    if options.polygons:
        least = None if options.min_area is None else float(options.min_area)
        shaped = {"min_area": least, "simplify": float(options.simplify or 0)}
        parts["polygons"] = json.dumps(shaped)
    return Job(image, files, out / f"{image.name}_view", key, mask, parts)


def _names(image: Input, options: MapOptions, mask: Truth | None) -> dict[str, str]:
    """The files of a map, relative to the folder for maps, by kind."""
    suffix = ".png" if image.is_photo else ".tif"
    names = {
        "classes": f"{image.name}_classes{suffix}",
        "confidence": f"{image.name}_confidence{suffix}",
        "areas": f"{image.name}_areas.csv",
        "preview": f"{image.name}_preview.png",
        "layers": f"{image.name}.qlr",
    }
    if options.zones is not None:
        names["zones"] = f"{image.name}_areas_by_zone.csv"
        names["zone_table"] = f"{image.name}_zones.csv"
        names["zone_layer"] = f"{image.name}_zones.gpkg"
    if options.probabilities:
        # A PNG has four bands at most.
        names["probabilities"] = f"{image.name}_probabilities.tif"
    if options.polygons:
        names["polygons"] = f"{image.name}_polygons.{options.polygon_format}"
        if options.polygon_format != "gpkg":  # which has it in itself
            names["style of polygons"] = f"{image.name}_polygons.qml"
    if mask is not None:
        names["errors"] = f"{image.name}_errors{suffix}"
        names["scores"] = f"{image.name}_scores.csv"
    for kind, name in list(names.items()):
        stem = name.rpartition(".")[0]
        if kind in ("classes", "confidence", "errors"):
            names[f"style of {kind}"] = f"{stem}.qml"
        if kind in ("classes", "errors"):
            names[f"names of {kind}"] = f"{name}.aux.xml"
        if name.endswith(".csv"):
            names[f"types of {kind}"] = f"{stem}.csvt"
    return names


def _key(image: Input, network: Model, model_hash: str, options: MapOptions) -> dict[str, Any]:
    """Plain values that every pixel of a map depends on."""
    return {
        "image": image.fingerprint(),
        "model": model_hash,
        "version": VERSION,
        "options": {
            "overlap": options.overlap,
            "tile": network.patch_size if options.tile is None else options.tile,
            "batch_size": options.batch_size,
            "nodata": options.nodata,
            "bands": options.bands if options.bands is None else list(options.bands),
            "skip_unreadable": options.skip_unreadable,
            "resolution": options.resolution,
            "gsd": options.gsd,
            "amp": options.amp,
            "tta": options.tta,
            "device": network.generator.mean.device.type,
            # Maps that were made before there was such an option stay what they are.
            **({} if options.white_level is None else {"white_level": options.white_level}),
            **({} if network.enlarge == 1 else {"enlarge": network.enlarge}),
            # By it, who looks at the image later sees what the network saw.
            **({} if network.band_set is None else {"band_set": network.band_set.as_plain()}),
        },
    }


def mapped(job: Job) -> Prediction | None:
    """What is said of an image that is mapped already, whole and of the same key; else None.
    Whatever its parts are: those can be made of the map."""
    again = {kind for part in PARTS.values() for kind in part.kinds}
    if not all(path.exists() for kind, path in job.files.items() if kind not in again):
        return None
    tags = read_tags(job.files["classes"])
    if tags.get("KEY") != key_of(job.key):
        return None
    with suppress(OSError, KeyError, ValueError, IndexError):
        far = float(tags["FAR"]) if "FAR" in tags else None
        return job.prediction(*read_areas(job.files["areas"]), far)
    return None


def lacking_parts(job: Job) -> dict[str, str]:
    """Of the job's `parts` those that are not there: of this map, and by these options."""
    lacking = {}
    for name, shaped in job.parts.items():
        files = [job.files[kind] for kind in PARTS[name].kinds if kind in job.files]
        tags = tags_of(files[-1], PARTS[name].layer) if all(p.exists() for p in files) else {}
        if (tags.get("KEY"), tags.get(SHAPED_BY)) != (key_of(job.key), shaped):
            lacking[name] = shaped
    return lacking


def made_at(job: Job) -> list[int]:
    """When the map that is there and its parts were made, in nanoseconds; 0 for what is not."""
    times = []
    for kind in ("classes", *(part.kinds[-1] for part in PARTS.values())):
        try:
            times.append(job.files[kind].stat().st_mtime_ns)
        except (KeyError, OSError):
            times.append(0)
    return times


def made_since(job: Job, before: list[int]) -> Prediction | None:
    """What is said of an image that another process has mapped since its map was of this time."""
    return mapped(job) if made_at(job) != before and not lacking_parts(job) else None


def finished_of(jobs: list[Job]) -> dict[ImagePath, Prediction]:
    """The images whose maps are there already, of the same key and with the parts that are asked
    for; unless that is all of them.

    Raises:
        InputError: other maps of these names are there, or polygons that somebody has edited.
    """
    finished: dict[ImagePath, Prediction] = {}
    for job in jobs:
        there = [path for path in job.files.values() if path.exists()]
        if not there:
            continue
        if (prediction := mapped(job)) is not None:
            if lacking := lacking_parts(job):
                if "polygons" in lacking:
                    _require_left_as_made(job.files["polygons"])
                continue
            if len(jobs) > 1:
                finished[job.image.path] = prediction
                continue
        raise InputError(
            f"{there[0]}: exists already; --overwrite makes it anew, --out DIR puts it elsewhere"
        )
    if finished and len(finished) == len(jobs):
        raise InputError(
            f"{jobs[0].files['classes']}: exists already, and so do all others; --overwrite makes "
            "them anew, --out DIR puts them elsewhere"
        )
    if finished:
        console.print(
            f"Mapped already, with this model and these options, and left as they are: "
            f"{len(finished)} of {len(jobs)} images"
        )
    return finished


def _require_left_as_made(polygons: Path) -> None:
    if polygons.exists() and not is_left_as_made(polygons):
        raise InputError(
            f"{polygons}: was edited, or is not of this version, and would be made anew; move it "
            "away or give it another name"
        )
