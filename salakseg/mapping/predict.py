"""predict(): images in, maps out.

In: images (GeoTIFFs and the like, read by window; PNG and JPEG photos; folders of patches, put
together to their base images) and a model file. Out, for `field.tif`, in `predictions/`:
`field_classes.tif` and `field_confidence.tif` (COGs on the image's own grid; of a photo, PNGs),
`field_areas.csv`, `field_preview.png`, and what was asked for besides; beside them what tells QGIS
and GDAL of colours, names and types: `.qml`, `.tif.aux.xml`, `.csvt`, and `field.qlr`. Last, of
all maps in the folder, `index.html`, a page, with its pictures in `field_view/`; `catalog.csv`; and
`index.vrt`.

Here are the checks, the order of the images and what is said of all. `jobs` knows the files of a
map, `one_map` makes one, `parts` what can be made again of it, and `classify` is what pushes an
image through the network.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.errors import RasterioError

from salakseg.classes import read_class_mapping
from salakseg.console import console
from salakseg.data.problems import plural
from salakseg.device import out_of_memory_is, select_device
from salakseg.distributed import alone, from_first, is_first, joined, was_restarted
from salakseg.errors import InputError, WorkError
from salakseg.files import claims_in, sha256_of
from salakseg.imagery.area import require_gsd
from salakseg.imagery.bands import checked_bands, require_white_level
from salakseg.imagery.nodata import require_nodata
from salakseg.imagery.remote import ImagePath
from salakseg.imagery.tiles import plan_axis
from salakseg.mapping.against_mask import find_masks, require_understood
from salakseg.mapping.area_tables import print_areas
from salakseg.mapping.areas import Areas, validation_of
from salakseg.mapping.catalog import write_catalog
from salakseg.mapping.inputs import find_inputs, open_input, require_different_names
from salakseg.mapping.jobs import (
    Job,
    MapOptions,
    Prediction,
    finished_of,
    job_of,
    made_at,
    made_since,
    mapped,
)
from salakseg.mapping.one_map import make_map
from salakseg.mapping.parts import make_parts_again
from salakseg.mapping.polygon_files import checked_format
from salakseg.mapping.resample import checked_resolution
from salakseg.mapping.viewer import write_page
from salakseg.mapping.zones import read_zones
from salakseg.model.onnx_network import load_any_model as load_model
from salakseg.model.weights import enlarging, find_model

# What goes wrong in writing a map: a disk that is full, a name that a format cannot have.
T = TypeVar("T")
LOOK_AGAIN = 1.0  # seconds
WRITE_ERRORS = (RasterioError, DataSourceError, DataLayerError, OSError)


@joined()
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
    enlarge: float = 1.0,
    tta: bool = False,
    zones: Path | str | None = None,
    zone_field: str | None = None,
    zones_layer: str | None = None,
    probabilities: bool = False,
    polygons: bool = False,
    polygon_format: str | None = None,
    min_area: float | None = None,
    simplify: float | None = None,
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
    Several processes with the same call, on any machines that see the folders, share the images
    out, the largest first; what one had that is killed, another one takes over. One image alone is
    shared out by its parts among the processes of a torchrun.

    Args:
        images: files, folders and patterns, and as text URLs, see `find_inputs`.
        model: model file or what `export` wrote, or its name in `checkpoints/`.
        out: folder for the maps.
        overlap: share of a tile that the next one covers too, 0 to 0.5.
        tile: side of the tiles in pixels; None: the patch size that the model was trained with.
        batch_size: tiles that the network takes at a time; None: by device.
        nodata: a pixel is nodata where all its bands have this value; None: as the file says.
        bands: numbers, from 1, of the one or three bands to take; None: those that the file calls
            red, green and blue, or the first ones. Of a model of more bands: the numbers of these,
            in its order; None: by their names.
        white_level: the 16-bit value of full brightness; None: that which the model was trained
            with, or by each image's own values.
        resolution: "match": the pixel size that the model was trained at, where it and the image's
            are known; "own": the image's; or metres a pixel. The map is on the image's grid anyway.
        gsd: metres on the ground a pixel, for images without CRS.
        enlarge: how many times as large the network sees the tiles, 1 to 4, at the square of the
            cost. The areas are not corrected then.
        tta: average over eight turns and mirror images of each tile, at eight times the cost.
        zones: vector layer of polygons; the areas are given for each of them as well. Of a map that
            is there without these areas, or with those of other zones, they are made from it.
        zone_field, zones_layer: its column with their names, and the layer; None: see `read_zones`.
        probabilities: write those of all classes as well, a band each.
        polygons: write the classes' areas as a vector layer as well, see `mapping.polygons`. Of a
            map that is there without them, or with those of other options, likewise.
        polygon_format: "gpkg" (GeoPackage, as None), "fgb" (FlatGeobuf) or "parquet" (GeoParquet).
        min_area: specks of less are given to their neighbours in the polygons: m², or pixels where
            the pixels' size is not known; None: of `MIN_PIXELS` pixels.
        simplify: by how many metres, or pixels, the polygons' outlines may be off, neighbours'
            together; None: they are the pixels' edges.
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
        WorkError: disk full, out of memory, no answer from a URL.
    """
    inputs = find_inputs(images)
    out = Path(out)
    for name, value in (("--zone-field", zone_field), ("--zones-layer", zones_layer)):
        if zones is None and value is not None:
            raise InputError(f"{name} {value}: there is no --zones whose it could be")
    options = MapOptions(
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
        probabilities=probabilities,
        polygons=polygons,
        polygon_format=checked_format(polygon_format),
        min_area=min_area,
        simplify=simplify,
    )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: must be 1 or more")
    require_gsd(gsd)
    if min_area is not None and not 0 <= min_area < inf:
        raise InputError(f"--min-area {min_area}: must be square metres, 0 or more")
    if min_area is not None and not polygons:
        raise InputError(f"--min-area {min_area:g}: there are no --polygons whose it could be")
    if simplify is not None and not 0 <= simplify < inf:
        raise InputError(f"--simplify {simplify}: must be metres, 0 or more")
    if simplify is not None and not polygons:
        raise InputError(f"--simplify {simplify:g}: there are no --polygons whose it could be")
    if polygon_format is not None and not polygons:
        raise InputError(
            f"--polygon-format {polygon_format}: there are no --polygons whose it could be"
        )
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
    network = enlarging(network, enlarge)
    several = network.band_set is not None
    require_nodata(nodata, several)
    if not several and options.bands is not None and len(options.bands) > 3:
        raise InputError(
            f"--bands {','.join(map(str, options.bands))}: {model_path} takes red, green and blue: "
            "one or three bands"
        )
    # An option out of range is no fault of the images: say so once, before any of them.
    plan_axis(1, network.patch_size if tile is None else tile, overlap)
    model_hash = sha256_of(model_path)
    jobs = [
        job_of(image, out, network, model_hash, options, masks.get(image.name)) for image in inputs
    ]
    # All processes begin with the same: what is made from here on, one of them made.
    overwrite = overwrite and not was_restarted()
    finished, before = from_first(
        lambda: (
            {} if overwrite else finished_of(jobs),
            {job.image.path: made_at(job) for job in jobs},
        )
    )
    _require_writable(out)
    require_understood(masks.values(), network.mapping)
    level = network.white_level if white_level is None else white_level

    def one_map(job: Job, title: str) -> Prediction:
        path = job.image.path
        known = None if overwrite else ask(partial(mapped, job))
        try:
            with (
                out_of_memory_is(f"{path}: use a smaller --batch-size, or --device cpu"),
                open_input(
                    job.image, nodata, options.bands, skip_unreadable, level, network.band_set
                ) as source,
            ):
                if known is not None:  # without parts that are asked for
                    again = partial(make_parts_again, job, source, network, options, known)
                    return ask(again)
                return make_map(job, source, network, options, title, told)
        except WRITE_ERRORS as error:
            raise WorkError(f"{path}: its map could not be written ({error})") from error
        except KeyboardInterrupt:
            console.print(f"{path}: stopped; the same command goes on with it")
            raise

    done = dict(finished)
    failed: list[ImagePath] = []
    told: set[str] = set()
    left = [job for job in jobs if job.image.path not in done]
    left.sort(key=lambda job: job.image.bytes, reverse=True)
    # An image alone: all processes do the same, and the first one knows.
    together = len(jobs) == 1
    ask = from_first if together else _call
    with claims_in(out) as claims:
        waiting = False
        while left:
            elsewhere = []
            for job in left:
                path = job.image.path
                if not ask(partial(claims.take, job.image.name)):
                    elsewhere.append(job)
                    continue
                try:
                    found = ask(partial(made_since, job, before[path]))
                    if found is None:
                        number = len(done) + len(failed) + 1
                        title = (
                            f"{path.name} ({number} of {len(jobs)})" if len(jobs) > 1 else path.name
                        )
                        with nullcontext() if together else alone():
                            found = one_map(job, title)
                    done[path] = found
                except InputError as error:
                    if len(jobs) == 1:
                        raise
                    console.print(f"Left out: {error}")
                    failed.append(path)
                    continue
                finally:
                    claims.give_back(job.image.name)
                if len(jobs) > 1:
                    console.print(f"{path} → {done[path].classes}")
            if elsewhere and not waiting:
                count = plural(len(elsewhere), "image is", "images are")
                console.print(f"{count} with other processes: waiting")
            left, waiting = elsewhere, bool(elsewhere)
            if waiting:
                time.sleep(LOOK_AGAIN)
    results = [done[job.image.path] for job in jobs if job.image.path in done]
    if is_first():
        page = write_page(out)
        write_catalog(out)
        if results:
            print_areas(
                str(results[0].classes) if len(results) == 1 else f"{len(results)} maps",
                [Areas(result.pixels, result.square_metres) for result in results],
                [result.area_basis for result in results],
                network.mapping,
                validation_of(network, [result.far for result in results]),
            )
            look = page or results[0].preview
            console.print(f"Next: look at {look}; {results[0].classes} opens in QGIS")
    if failed:
        others = f" (the others are in {out})" if done else ""
        raise InputError(
            f"{len(failed)} of {len(jobs)} images could not be mapped{others}: "
            + ", ".join(map(str, failed))
        )
    return results


def _call(make: Callable[[], T]) -> T:
    return make()


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to ({error.strerror})") from error
