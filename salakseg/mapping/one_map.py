"""One image → its map: checked, classified into a `Scratch`, and its files made from that.

The files get their names only when all of them are whole.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from salakseg.console import console, progress
from salakseg.distributed import from_first, rank, summed, world_size
from salakseg.errors import InputError
from salakseg.files import atomic_path, replace_folder, require_disk_space, write_text
from salakseg.imagery.raster import ImageSource
from salakseg.imagery.remote import RemoteImage
from salakseg.mapping.against_mask import (
    ERRORS,
    print_scores,
    require_fitting,
    score_map,
    scores_csv,
)
from salakseg.mapping.area_tables import areas_csv
from salakseg.mapping.areas import ground_of, measure_areas, validation_of
from salakseg.mapping.inputs import require_on_scale, suggest_nodata
from salakseg.mapping.jobs import Job, MapOptions, Prediction
from salakseg.mapping.likeness import share_far
from salakseg.mapping.outputs import (
    Shrunk,
    made_by,
    write_preview,
    write_probabilities,
    write_raster,
    write_table,
)
from salakseg.mapping.parts import OpenMap, definition, write_parts
from salakseg.mapping.resample import classify_seen, seen_by
from salakseg.mapping.scratch import Scratch, image_step, open_scratch
from salakseg.mapping.view_files import write_view
from salakseg.mapping.zones import place_zones
from salakseg.model.applicability import UNLIKE, is_far
from salakseg.model.weights import Model

# Scratch of both maps, and at worst the maps themselves with overviews; as large as the image is
# kept, its scratch, and at worst the pictures.
SCRATCH_BYTES, VIEW_BYTES = 5, 5
# A class's probabilities: scratch, overviews, and at worst as much again in the file.
PROBABILITY_BYTES = 3


def make_map(
    job: Job, source: ImageSource, network: Model, options: MapOptions, title: str, told: set[str]
) -> Prediction:
    """Classify an open image and write its files; say what is not in `told`. Several processes that
    call it together share the blocks out, and the first one writes."""
    path, classes = job.image.path, job.files["classes"]
    # What does not fit is said before the work, not after it.
    zones = None if options.zones is None else place_zones(options.zones, source)
    if job.mask is not None:
        require_fitting(job.mask, (source.height, source.width))
    eight_bits = source.white_level is None and source.band_set is None
    if options.nodata is not None and options.nodata > 255 and eight_bits:
        raise InputError(f"{path}: --nodata {options.nodata:g}: its values are 8-bit, 0 to 255")
    require_on_scale(source)
    ground = ground_of(source, options.gsd, job.image.is_photo)
    seen, notes = seen_by(network, source, ground, options.resolution)
    if options.gsd is not None and source.crs is not None and ground.side is not None:
        notes.append(f"--gsd {options.gsd:g} is not needed: its CRS tells {ground.side:.3g} m")
    for note in [*source.notes, *notes]:
        if note not in told:
            console.print(f"{path}: {note}")
            told.add(note)
    far = from_first(
        lambda: share_far(
            network, seen, tile=options.tile, batch_size=options.batch_size, amp=options.amp
        )
    )
    if far is not None and is_far(far):
        console.print(f"{path}: {far:.0%} of it looks {UNLIKE}: expect errors there")
    if options.nodata is None:
        suggest_nodata(source)
    folder = classes.parent / f".partial-{job.image.name.rpartition('/')[2]}"
    shape = source.height, source.width
    begun = any(folder.glob("state*.npz"))
    kept = network.mapping.num_classes if options.probabilities else 0
    each = SCRATCH_BYTES + options.polygons + PROBABILITY_BYTES * kept - (2 + kept) * begun
    needed = each * source.height * source.width
    needed += VIEW_BYTES * source.height * source.width // image_step(shape) ** 2
    require_disk_space(classes.parent, needed, f"the map of {path.name}")
    shrunk = Shrunk(*shape)
    with open_scratch(folder, shape, job.key, shrunk.sums, kept) as scratch:
        _classify_into(scratch, source, seen, network, options, shrunk, title)
        if isinstance(path, RemoteImage):
            from_first(path.require_unchanged)
        shrunk.sums[...] = summed(torch.from_numpy(shrunk.sums.astype(np.int64))).numpy()
        of = OpenMap(job, source, network, options, zones, ground, far)
        return from_first(lambda: _write(of, scratch, shrunk))


def _classify_into(
    scratch: Scratch,
    source: ImageSource,
    seen: ImageSource,
    network: Model,
    options: MapOptions,
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
        probabilities=options.probabilities,
        share=(rank(), world_size()),
        done=scratch.done,
        carried=None if scratch.carried is None else torch.from_numpy(scratch.carried),
    )
    size = source.height * source.width // world_size()
    total = max(1, size // 1_000_000)
    with progress(f"{title}, megapixels", total) as bar:
        if scratch.done:
            console.print(f"{source.path}: goes on at {scratch.pixels / size:.0%}")
            bar.advance(scratch.pixels // 1_000_000)
        for block in scratch.keep(blocks):
            shrunk.add(block)
            before = (scratch.pixels - block.labels.size) // 1_000_000
            bar.advance(scratch.pixels // 1_000_000 - before)


def _write(of: OpenMap, scratch: Scratch, shrunk: Shrunk) -> Prediction:
    """Make all files from the whole scratch, then give them their names."""
    job, source, ground, far, tags = of.job, of.source, of.ground, of.far, of.tags
    mapping, validation = of.network.mapping, validation_of(of.network, [far])
    folder = scratch.folder / "done"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = {kind: folder / path.name for kind, path in job.files.items()}

    def labels(row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
        return scratch.window("labels", row, column, height, width)

    with ThreadPoolExecutor(2, "write") as writers:
        # What GDAL and numpy do leaves the other cores to the rest.
        rasters = [
            writers.submit(write_raster, scratch, band, made[kind], source, mapping, tags)
            for kind, band in (("confidence", "confidence"), ("classes", "labels"))
        ]
        if "probabilities" in made:
            rasters.append(
                writers.submit(
                    write_probabilities, scratch, made["probabilities"], source, mapping, tags
                )
            )
        write_preview(made["preview"], labels, shrunk, mapping, ground.side, tags)
        areas = measure_areas(labels, scratch.shape, ground, mapping.num_classes)
        areas = areas.corrected(validation)
        for raster in rasters:
            raster.result()
    write_table(made["areas"], areas_csv(areas, mapping, ground.basis, made_by(tags)))
    write_parts(of, job.parts, made, scratch)
    if job.mask is not None:
        scored = score_map(job.mask, labels, scratch.shape, mapping, scratch.path("errors"))
        write_raster(scratch, "errors", made["errors"], source, ERRORS, tags)
        write_table(made["scores"], scores_csv(scored, mapping, made_by(tags)))
        print_scores(job.image.path, scored, mapping)
    write_text(made["layers"], definition(job, source, mapping))
    view = folder / job.view.name
    overviews = made["classes"].suffix != ".png"
    write_view(view, scratch, mapping, areas, ground, far, overviews=overviews)
    replace_folder(view, job.view)
    # By the map itself `finished_of` knows that the others are there: it comes last.
    for kind in sorted(made, key="classes".__eq__):
        with atomic_path(job.files[kind]) as final:
            made[kind].replace(final)
    return job.prediction(areas, ground.basis, far)
