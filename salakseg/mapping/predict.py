"""predict(): images in, maps out.

In: images (GeoTIFFs and the like, read by window; PNG and JPEG photos; folders of patches, put
together to their base images) and a model file. Out, for `field.tif`, in `predictions/`:
`field_classes.tif` and `field_confidence.tif` (COGs on the image's own grid; of a photo, PNGs),
`field_areas.csv`, `field_preview.png`, and what was asked for besides; beside them what tells QGIS
and GDAL of colours, names and types: `.qml`, `.tif.aux.xml`, `.csvt`.

The map of an image is classified into a `Scratch`, everything else is made from that, and the files
get their names only when all of them are whole.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.errors import RasterioError

from salakseg.classes import read_class_mapping
from salakseg.console import console, progress
from salakseg.device import out_of_memory_is, select_device
from salakseg.errors import InputError, WorkError
from salakseg.files import atomic_path, require_disk_space, sha256_of
from salakseg.imagery.area import require_gsd
from salakseg.imagery.bands import checked_bands, require_white_level
from salakseg.imagery.nodata import require_nodata
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.windows import plan_axis
from salakseg.mapping.applicability import distances
from salakseg.mapping.areas import (
    Areas,
    Ground,
    areas_csv,
    ground_of,
    measure,
    print_areas,
    read_areas,
    validation_of,
)
from salakseg.mapping.compare import (
    ERRORS,
    Truth,
    find_masks,
    print_scores,
    require_fitting,
    require_understood,
    scores_csv,
)
from salakseg.mapping.compare import compare as compare_with
from salakseg.mapping.inputs import (
    Input,
    find_inputs,
    open_input,
    require_different_names,
    suggest_nodata,
)
from salakseg.mapping.outputs import (
    Shrunk,
    key_of,
    make_tags,
    read_tags,
    write_preview,
    write_raster,
    write_table,
)
from salakseg.mapping.polygons import min_pixels, write_polygons
from salakseg.mapping.resample import checked_resolution, classify_seen, seen_by
from salakseg.mapping.scratch import Scratch, open_scratch
from salakseg.mapping.zones import Zones, measure_zones, place_zones, read_zones, write_zones
from salakseg.model.applicability import FAR_PATCHES
from salakseg.model.weights import Model, find_model, load_model
from salakseg.version import VERSION

# What goes wrong in writing a map: a disk that is full, a name that a format cannot have.
WRITE_ERRORS = (RasterioError, DataSourceError, DataLayerError, OSError)
# Scratch of both maps, and at worst the maps themselves with overviews.
BYTES_PER_PIXEL = 5


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
            `mapping.applicability`; None where that is not known.
    """

    image: Path
    classes: Path
    confidence: Path
    areas: Path
    preview: Path
    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    area_basis: str
    far: float | None


@dataclass(frozen=True)
class Options:
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
    polygons: bool
    min_area: float | None


def predict(
    images: Sequence[Path | str],
    *,
    model: Path | str = Path("best_model.pth"),
    out: Path | str = Path("predictions"),
    overlap: float = 0.25,
    tile: int | None = None,
    batch_size: int | None = None,
    nodata: float | None = None,
    bands: Sequence[int] | str | None = None,
    white_level: int | None = None,
    resolution: str | float = "match",
    gsd: float | None = None,
    tta: bool = False,
    zones: Path | str | None = None,
    zone_field: str | None = None,
    zones_layer: str | None = None,
    polygons: bool = False,
    min_area: float | None = None,
    compare: Path | str | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    amp: bool | None = None,
    generator: str | None = None,
    class_mapping: Path | str | None = None,
) -> list[Prediction]:
    """Map images: classes, confidence, areas and a preview for each.

    Killed or stopped, the same call goes on: images that are mapped already are left as they are,
    the one that was being mapped goes on after its last saved block. Of several images, one that
    cannot be read does not stop the others: it is named when it comes and in the error at the end.

    Args:
        images: files, folders and patterns, see `find_inputs`.
        model: model file, or its name in `checkpoints/`.
        out: folder for the maps.
        overlap: share of a tile that the next one covers too, 0 to 0.5.
        tile: side of the tiles in pixels; None: the patch size that the model was trained with.
        batch_size: tiles that the network takes at a time; None: by device.
        nodata: a pixel is nodata where all its bands have this value; None: as the file says.
        bands: numbers, from 1, of the one or three bands to take; None: those that the file calls
            red, green and blue, or the first ones.
        white_level: the 16-bit value of full brightness; None: that which the model was trained
            with, or by each image's own values.
        resolution: "match": the pixel size that the model was trained at, where it and the image's
            are known; "own": the image's; or metres a pixel. The map is on the image's grid anyway.
        gsd: metres on the ground a pixel, for images without CRS.
        tta: average over eight turns and mirror images of each tile, at eight times the cost.
        zones: vector layer of polygons; the areas are given for each of them as well.
        zone_field, zones_layer: its column with their names, and the layer; None: see `read_zones`.
        polygons: write a GeoPackage of the classes' areas as well, see `mapping.polygons`.
        min_area: specks of less are given to their neighbours in the polygons: m², or pixels where
            the pixels' size is not known; None: of `MIN_PIXELS` pixels.
        compare: a mask to score the map against, or a folder of masks named as the images are.
        skip_unreadable: leave out, and name, what cannot be read of a damaged raster.
        overwrite: replace maps that are there.
        device: auto, cpu, cuda, cuda:1, mps.
        amp: mixed precision; None: where the device is fast at it.
        generator, class_mapping: network and classes of a bare state dict.

    Returns:
        One `Prediction` an image, in the order of `find_inputs`.

    Raises:
        InputError: nothing to map, no such model, maps that are there already, two images of one
            name, or images that cannot be read.
        WorkError: disk full, out of memory.
    """
    inputs = find_inputs([Path(image) for image in images])
    out = Path(out)
    for name, value in (("--zone-field", zone_field), ("--zones-layer", zones_layer)):
        if zones is None and value is not None:
            raise InputError(f"{name} {value}: there is no --zones whose it could be")
    options = Options(
        overlap=overlap,
        tile=tile,
        batch_size=batch_size,
        nodata=nodata,
        bands=checked_bands(bands),
        white_level=white_level,
        skip_unreadable=skip_unreadable,
        resolution=checked_resolution(resolution),
        gsd=gsd,
        amp=amp,
        tta=tta,
        zones=None if zones is None else read_zones(Path(zones), zone_field, zones_layer),
        polygons=polygons,
        min_area=min_area,
    )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be 1 or more")
    require_nodata(nodata)
    require_gsd(gsd)
    if min_area is not None and not 0 <= min_area < inf:
        raise InputError(f"--min-area {min_area}: must be square metres, 0 or more")
    if min_area is not None and not polygons:
        raise InputError(f"--min-area {min_area:g}: there are no --polygons whose it could be")
    require_white_level(white_level)
    require_different_names(inputs)
    masks = {} if compare is None else find_masks(Path(compare), inputs)
    model_path = find_model(Path(model))
    network = load_model(
        model_path,
        select_device(device),
        generator,
        read_class_mapping(Path(class_mapping)) if class_mapping is not None else None,
    )
    # An option out of range is no fault of the images: say so once, before any of them.
    plan_axis(1, network.patch_size if tile is None else tile, overlap)
    model_hash = sha256_of(model_path)
    jobs = [
        Job(
            image,
            {kind: out / name for kind, name in _names(image, options, masks).items()},
            _key(image, network, model_hash, options),
            masks.get(image.name),
        )
        for image in inputs
    ]
    finished = {} if overwrite else _finished(jobs)
    _require_writable(out)
    require_understood(masks.values(), network.mapping)
    level = network.white_level if white_level is None else white_level
    done: list[Prediction] = []
    failed: list[Path] = []
    told: set[str] = set()
    for number, job in enumerate(jobs, 1):
        path = job.image.path
        if path in finished:
            done.append(finished[path])
            continue
        title = path.name if len(jobs) == 1 else f"{path.name} ({number} of {len(jobs)})"
        try:
            with (
                out_of_memory_is(f"{path}: use a smaller --batch-size, or --device cpu"),
                open_input(job.image, nodata, options.bands, skip_unreadable, level) as source,
            ):
                done.append(_map(job, source, network, options, title, told))
        except InputError as error:
            if len(jobs) == 1:
                raise
            console.print(f"Left out: {error}")
            failed.append(path)
            continue
        except WRITE_ERRORS as error:
            raise WorkError(f"{path}: its map could not be written ({error})") from error
        except KeyboardInterrupt:
            console.print(f"{path}: stopped; the same command goes on with it")
            raise
        if len(jobs) > 1:
            console.print(f"{path} → {done[-1].classes}")
    if done:
        print_areas(
            str(done[0].classes) if len(done) == 1 else f"{len(done)} maps",
            [Areas(result.pixels, result.square_metres) for result in done],
            [result.area_basis for result in done],
            network.mapping,
            validation_of(network, [result.far for result in done]),
        )
        console.print(f"Next: look at {done[0].preview}; {done[0].classes} opens in QGIS")
    if failed:
        others = f" (the others are in {out})" if done else ""
        raise InputError(
            f"{len(failed)} of {len(jobs)} images could not be mapped{others}: "
            + ", ".join(map(str, failed))
        )
    return done


@dataclass(frozen=True)
class Job:
    """One image to map: its files by kind, what its pixels depend on, and its mask or None."""

    image: Input
    files: dict[str, Path]
    key: dict[str, Any]
    mask: Truth | None


def _map(
    job: Job, source: ImageSource, network: Model, options: Options, title: str, told: set[str]
) -> Prediction:
    """Classify an open image and write its files; say what is not in `told`."""
    path, classes = job.image.path, job.files["classes"]
    # What does not fit is said before the work, not after it.
    zones = None if options.zones is None else place_zones(options.zones, source)
    if job.mask is not None:
        require_fitting(job.mask, (source.height, source.width))
    if options.nodata is not None and options.nodata > 255 and source.white_level is None:
        raise InputError(f"{path}: --nodata {options.nodata:g}: its values are 8-bit, 0 to 255")
    ground = ground_of(source, options.gsd, job.image.is_photo)
    seen, notes = seen_by(network, source, ground, options.resolution)
    if options.gsd is not None and source.crs is not None and ground.side is not None:
        notes.append(f"--gsd {options.gsd:g} is not needed: its CRS tells {ground.side:.3g} m")
    for note in [*source.notes, *notes]:
        if note not in told:
            console.print(f"{path}: {note}")
            told.add(note)
    found = distances(
        network, seen, tile=options.tile, batch_size=options.batch_size, amp=options.amp
    )
    far = round(float((found >= 1).mean()), 3) if len(found) else None
    if far is not None and far > FAR_PATCHES:
        console.print(
            f"{path}: {far:.0%} of it looks like nothing that the model was trained on: expect "
            "errors there"
        )
    if options.nodata is None:
        suggest_nodata(source)
    folder = classes.parent / f".partial-{job.image.name.rpartition('/')[2]}"
    begun = (folder / "state.npz").exists()
    needed = (BYTES_PER_PIXEL + options.polygons - 2 * begun) * source.height * source.width
    require_disk_space(classes.parent, needed, f"the map of {path.name}")
    shrunk = Shrunk(source.height, source.width)
    shape = source.height, source.width
    with open_scratch(folder, shape, job.key, shrunk.sums) as scratch:
        _classify_into(scratch, source, seen, network, options, shrunk, title)
        return _write(job, scratch, source, network, options, zones, ground, shrunk, far)


def _classify_into(
    scratch: Scratch,
    source: ImageSource,
    seen: ImageSource,
    network: Model,
    options: Options,
    shrunk: Shrunk,
    title: str,
) -> None:
    """Fill the scratch, from where it stands; `seen` is the image at the network's pixel size."""
    if scratch.discarded:
        console.print(
            f"{source.path}: an unfinished map with another model or options is discarded"
        )
    blocks = classify_seen(
        network,
        source,
        seen,
        tile=options.tile,
        overlap=options.overlap,
        batch_size=options.batch_size,
        amp=options.amp,
        tta=options.tta,
        done=scratch.done,
        carried=None if scratch.carried is None else torch.from_numpy(scratch.carried),
    )
    size = source.height * source.width
    total = max(1, size // 1_000_000)
    with progress(f"{title}, megapixels", total) as bar:
        if scratch.done:
            console.print(f"{source.path}: goes on at {scratch.pixels / size:.0%}")
            bar.advance(scratch.pixels // 1_000_000)
        for block in scratch.keep(blocks):
            shrunk.add(block)
            before = (scratch.pixels - block.labels.size) // 1_000_000
            bar.advance(scratch.pixels // 1_000_000 - before)


def _write(
    job: Job,
    scratch: Scratch,
    source: ImageSource,
    network: Model,
    options: Options,
    zones: Zones | None,
    ground: Ground,
    shrunk: Shrunk,
    far: float | None,
) -> Prediction:
    """Make all files from the whole scratch, then give them their names."""
    mapping, validation = network.mapping, validation_of(network, [far])
    tags = make_tags(network, job.key, far)
    folder = scratch.folder / "done"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = {kind: folder / path.name for kind, path in job.files.items()}

    def labels(row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        return scratch.window("labels", row, column, height, width)

    with ThreadPoolExecutor(1, "write") as writer:
        # GDAL makes the overviews on one core: this map's are made beside the rest.
        beside = writer.submit(
            write_raster, scratch, "confidence", made["confidence"], source, mapping, tags
        )
        write_raster(scratch, "labels", made["classes"], source, mapping, tags)
        write_preview(made["preview"], labels, shrunk, mapping, ground.side, tags)
        areas = measure(labels, scratch.shape, ground, mapping.num_classes).corrected(validation)
        beside.result()
    made_by = f"{tags['TIFFTAG_SOFTWARE']}, {tags['MODEL']} {tags['MODEL_SHA256'][:12]}"
    write_table(made["areas"], areas_csv(areas, mapping, ground.basis, made_by))
    if zones is not None and options.zones is not None:
        by_zone, covered = measure_zones(zones, labels, source, ground, validation, mapping)
        write_zones(made, options.zones, by_zone, covered, mapping, ground.basis, tags, made_by)
    if options.polygons:
        smallest = min_pixels(options.min_area, ground)
        sieved = scratch.folder / "sieved.raw"
        write_polygons(
            made["polygons"], scratch.window, sieved, source, ground, mapping, smallest, tags
        )
    if job.mask is not None:
        scored = compare_with(job.mask, labels, scratch.shape, mapping, scratch.path("errors"))
        write_raster(scratch, "errors", made["errors"], source, ERRORS, tags)
        write_table(made["scores"], scores_csv(scored, mapping, made_by))
        print_scores(job.image.path, scored, mapping)
    # By the map itself `_finished` knows that the others are there: it comes last.
    for kind in sorted(made, key="classes".__eq__):
        with atomic_path(job.files[kind]) as final:
            made[kind].replace(final)
    return _prediction(job, areas, ground.basis, far)


def _prediction(job: Job, areas: Areas, basis: str, far: float | None) -> Prediction:
    return Prediction(
        job.image.path,
        job.files["classes"],
        job.files["confidence"],
        job.files["areas"],
        job.files["preview"],
        areas.pixels,
        areas.square_metres,
        basis,
        far,
    )


def _names(image: Input, options: Options, masks: dict[str, Truth]) -> dict[str, str]:
    """The files of a map, relative to the folder for maps, by kind."""
    suffix = ".png" if image.is_photo else ".tif"
    names = {
        "classes": f"{image.name}_classes{suffix}",
        "confidence": f"{image.name}_confidence{suffix}",
        "areas": f"{image.name}_areas.csv",
        "preview": f"{image.name}_preview.png",
    }
    if options.zones is not None:
        names["zones"] = f"{image.name}_areas_by_zone.csv"
        names["zone_table"] = f"{image.name}_zones.csv"
        names["zone_layer"] = f"{image.name}_zones.gpkg"
    if options.polygons:
        names["polygons"] = f"{image.name}_polygons.gpkg"
    if image.name in masks:
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


def _key(image: Input, network: Model, model_hash: str, options: Options) -> dict[str, Any]:
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
        },
    }


def _finished(jobs: list[Job]) -> dict[Path, Prediction]:
    """The images whose maps are there already, of the same key; unless that is all of them.

    Raises:
        InputError: other maps of these names are there.
    """
    finished = {}
    for job in jobs:
        there = [path for path in job.files.values() if path.exists()]
        if not there:
            continue
        tags = read_tags(job.files["classes"])
        same = len(there) == len(job.files) and tags.get("KEY") == key_of(job.key)
        if same and len(jobs) > 1:
            with suppress(OSError, KeyError, ValueError, IndexError):
                far = float(tags["FAR"]) if "FAR" in tags else None
                finished[job.image.path] = _prediction(job, *read_areas(job.files["areas"]), far)
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
            f"{len(finished)} of {len(jobs)} images are mapped already, with this model and these "
            "options: they stay"
        )
    return finished


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to ({error.strerror})") from error
