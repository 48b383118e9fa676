"""What is made of classes, also of those of a finished map: polygons, and areas by zone.

In: the scratch of a map that is being made, or classes and confidence of one that is there. Out:
the files of these parts, and `NAME.qlr`, which names the polygons.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window

from salakseg.classes import ClassMapping
from salakseg.console import console
from salakseg.errors import InputError
from salakseg.files import atomic_path, require_disk_space, write_text
from salakseg.imagery.raster import ImageSource, quiet_gdal
from salakseg.imagery.reading import open_raster
from salakseg.imagery.remote import RemoteImage
from salakseg.mapping.areas import Ground, ground_of, strips, validation_of
from salakseg.mapping.jobs import PARTS, Job, MapOptions, Prediction, lacking_parts
from salakseg.mapping.outputs import made_by, make_tags
from salakseg.mapping.polygon_files import SHAPED_BY, write_other
from salakseg.mapping.polygons import LAYER, min_pixels, tolerance, write_polygons
from salakseg.mapping.scratch import Scratch
from salakseg.mapping.styles import Layer, classes_qml, confidence_qml, layers_qlr, polygons_qml
from salakseg.mapping.zone_areas import measure_zones, write_zones
from salakseg.mapping.zones import Zones, place_zones
from salakseg.model.weights import Model

# Of parts that are made again: classes, confidence, and sieved classes.
AGAIN_BYTES = 3


@dataclass(frozen=True)
class OpenMap:
    """The map of one open image, being made or made more of.

    Attributes:
        zones: in the image's CRS.
        far: share of the image that is like nothing labelled, see `likeness.share_far`.
    """

    job: Job
    source: ImageSource
    network: Model
    options: MapOptions
    zones: Zones | None
    ground: Ground
    far: float | None

    @property
    def tags(self) -> dict[str, str]:
        """What its files say of it."""
        image = self.job.image.path_from(self.job.files["classes"].parent)
        return make_tags(self.network, self.job.key, self.far, image)


def write_parts(
    of: OpenMap, parts: Mapping[str, str], made: dict[str, Path], scratch: Scratch
) -> None:
    """Write these of a job's `parts`, from the classes and confidence in the scratch.

    Args:
        made: where, by kind.
    """
    source, ground, options, tags = of.source, of.ground, of.options, of.tags
    mapping = of.network.mapping
    if "zones" in parts and of.zones is not None and options.zones is not None:
        by_zone, covered = measure_zones(
            of.zones,
            lambda *window: scratch.window("labels", *window),
            source,
            ground,
            validation_of(of.network, [of.far]),
            mapping,
        )
        told, basis = tags | {SHAPED_BY: parts["zones"]}, ground.basis
        write_zones(made, options.zones, by_zone, covered, mapping, basis, told, made_by(tags))
    if "polygons" in parts:
        path = made["polygons"]
        gpkg = path.with_suffix(".gpkg")
        write_polygons(
            gpkg,
            scratch.window,
            scratch.folder / "sieved.raw",
            source,
            ground,
            mapping,
            min_pixels(options.min_area, ground),
            tags | {SHAPED_BY: parts["polygons"]},
            tolerance(options.simplify, ground),
        )
        if path != gpkg:
            crs = None if source.crs is None else source.crs.to_wkt()
            write_other(gpkg, path, crs, polygons_qml(mapping))


def make_parts_again(
    job: Job, source: ImageSource, network: Model, options: MapOptions, known: Prediction
) -> Prediction:
    """Write the parts that a finished map lacks, from its classes and confidence; `known` is what
    is said of it, before and after."""
    path, parent = job.image.path, known.classes.parent
    zones = None if options.zones is None else place_zones(options.zones, source)
    parts = lacking_parts(job)
    words = " and ".join(PARTS[kind].words for kind in parts)
    console.print(f"{path}: is mapped already and stays; made from it, with these options: {words}")
    shape = source.height, source.width
    require_disk_space(parent, AGAIN_BYTES * prod(shape), f"making {words} of {path.name}")
    # Not where an unfinished map may be.
    folder = parent / f".parts-{job.image.name.rpartition('/')[2]}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        done = folder / "done"
        done.mkdir(parents=True)
        scratch = Scratch(folder, shape, job.key, np.zeros(0, np.uint32))
        for band, raster in (("labels", known.classes), ("confidence", known.confidence)):
            _copy_raster(raster, scratch.path(band))
        kinds = [kind for part in parts for kind in PARTS[part].kinds if kind in job.files]
        made = {kind: done / job.files[kind].name for kind in kinds}
        ground = ground_of(source, options.gsd, job.image.is_photo)
        of = OpenMap(job, source, network, options, zones, ground, known.far)
        write_parts(of, parts, made, scratch)
        if "polygons" in parts and _shown(job):
            made = {"layers": done / job.files["layers"].name} | made
            write_text(made["layers"], definition(job, source, network.mapping))
        # By the tags of the last one `lacking_parts` knows that the others are there.
        for kind, new in made.items():
            with atomic_path(job.files[kind]) as final:
                new.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return known


def _copy_raster(path: Path, raw: Path) -> None:
    """The first band of a finished map as a raw file, see `scratch.read_raw`."""
    try:
        with quiet_gdal(), open_raster(path) as raster, raw.open("wb") as file:
            for row, _, rows, width in strips(0, 0, raster.height, raster.width):
                file.write(raster.read(1, window=Window(0, row, width, rows)).tobytes())
    except RasterioError as error:
        raise InputError(f"{path}: cannot be read whole; --overwrite makes it anew") from error


def _shown(job: Job) -> bool:
    """Whether QGIS opens the polygons; Parquet only where its GDAL was built with Arrow."""
    return "polygons" in job.files and job.files["polygons"].suffix != ".parquet"


def definition(job: Job, source: ImageSource, mapping: ClassMapping) -> str:
    """What QGIS opens of a map at once: the classes over the image, the rest at hand."""
    files = job.files
    layers = [
        Layer("confidence", files["confidence"].name, confidence_qml(mapping.num_classes), False),
        Layer("classes", files["classes"].name, classes_qml(mapping), True),
    ]
    if _shown(job):
        polygons = f"{files['polygons'].name}|layername={LAYER}"
        layers.insert(0, Layer("polygons", polygons, polygons_qml(mapping), False))
    image = job.image
    shown = image.path_from(files["layers"].parent) if image.mosaic is None else None
    if isinstance(image.path, RemoteImage):
        shown = image.path.gdal_name
    if shown is not None:
        layers.append(Layer("image", shown, None, True))
    crs = None if source.crs is None else source.crs.to_wkt()
    return layers_qlr(files["layers"].stem, layers, crs)
