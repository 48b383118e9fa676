"""assess_plan(): maps in, a random sample of their pixels to be checked out.

The strata are the map's classes. Zones are none: they may overlap, leave ground out and be many,
and a minimum of points in each class of each would be thousands. They are parts of the population
(domains) whose figures `score` makes from those points that happen to lie in them.

Out, in a folder: `points.gpkg`, `chips/`, `index.html` and `HOW-TO.md` for the interpreter,
`plan.json` for `score`. The folder gets its name when all of it is whole.
"""

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from salakseg.assessment.chips import find_images, open_image_of, write_chip
from salakseg.assessment.class_maps import ClassMap, Population, find_class_maps, measured
from salakseg.assessment.estimates import expected_error, points_for
from salakseg.assessment.page import write_how_to, write_page
from salakseg.assessment.points import (
    FORMAT,
    PLAN,
    POINTS,
    Plan,
    has_answers,
    read_plan,
    write_plan,
    write_points,
)
from salakseg.assessment.sampling import Draw, allocate
from salakseg.console import console, progress, quoted
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError, WorkError
from salakseg.files import old_folder, replace_folder
from salakseg.imagery.area import require_gsd
from salakseg.mapping.areas import Validation, strips
from salakseg.mapping.inputs import Input
from salakseg.mapping.zone_areas import measure_zones, zones_at
from salakseg.mapping.zones import Zones, place_zones, read_zones
from salakseg.version import VERSION

STANDARD_ERROR = 0.02
# Where validation says nothing of a class; and the most that it is believed of other ground.
USUAL_ACCURACY, MOST_ACCURACY = 0.8, 0.95
# Points in a zone below which `score` gives no figures of it.
LEAST_IN_ZONE = 30
LEAST = 30


def assess_plan(
    maps: Sequence[Path | str],
    *,
    points: int | None = None,
    standard_error: float | None = None,
    least: int = LEAST,
    zones: Path | str | None = None,
    zone_field: str | None = None,
    zones_layer: str | None = None,
    image: Sequence[Path | str] = (),
    gsd: float | None = None,
    seed: int = 0,
    out: Path | str = Path("assessment"),
    overwrite: bool = False,
) -> Plan:
    """Draw a stratified random sample of maps' pixels, to be checked one by one.

    Args:
        maps: class maps of `predict`, folders of them, patterns; together they are one population.
        points: how many; None: as many as `standard_error` needs.
        standard_error: wanted of the overall accuracy, as in 0.01; None: 0.02. How accurate each
            class will be is taken from the model's validation, which the map's tags tell, else 0.8.
        least: points in each class of the map, however rare.
        zones, zone_field, zones_layer: a vector layer, see `predict`; `score` then has figures of
            each zone with enough points in it.
        image: images of the maps, or folders of them; None given: those that the maps tell of.
        gsd: metres on the ground a pixel, for maps without a CRS.
        seed: another seed, another sample.
        out: folder to write.
        overwrite: replace an assessment that has answers.

    Returns:
        The plan.

    Raises:
        InputError: no map, maps that are no one population, too few points, an image that is not
            there, or `out` holds answers or something else.
        WorkError: it cannot be written.
    """
    out = Path(out)
    _require_options(points, standard_error, least, gsd)
    for name, value in (("--zone-field", zone_field), ("--zones-layer", zones_layer)):
        if zones is None and value is not None:
            raise InputError(f"{name} {value}: there is no --zones whose it could be")
    _require_free(out, overwrite)
    found = find_class_maps([Path(one) for one in maps])
    images = find_images(found, image)
    layer = None if zones is None else read_zones(Path(zones), zone_field, zones_layer)
    placed = [] if layer is None else [place_zones(layer, one.source) for one in found]
    population = measured(found, gsd)
    counts, expected = _sizes(population, points, standard_error, least)
    sample = _drawn(population, counts, seed)
    of_zones = _zones(population, placed, sample)
    content = _content(population, counts, expected, sample, layer, of_zones, seed, out)
    partial = out.with_name(f".partial-{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "chips").mkdir(parents=True)
        _write(partial, out.name, population, images, sample, content)
        replace_folder(partial, out)
    except (OSError, DataSourceError, DataLayerError) as error:
        raise WorkError(f"{out}: could not be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    plan = read_plan(out)
    if layer is not None:
        _tell_zones(layer, of_zones)
    console.print(
        f"Wrote {out}. Next: open {out / 'index.html'}, or {out / POINTS} in QGIS "
        f"({out / 'HOW-TO.md'} says how), and then: salakseg assess score {quoted(out)}"
    )
    return plan


def _require_options(
    points: int | None, standard_error: float | None, least: int, gsd: float | None
) -> None:
    if points is not None and standard_error is not None:
        raise InputError("--points and --standard-error: give one of them, each decides the other")
    if standard_error is not None and not 0 < standard_error < 0.5:
        raise InputError(f"--standard-error {standard_error:g}: must be a share such as 0.01")
    if least < 2:
        raise InputError(f"--least {least}: must be 2 or more, one point tells of no variance")
    require_gsd(gsd)


def _require_free(out: Path, overwrite: bool) -> None:
    """Raise `InputError` where `out` is something else, or somebody's work."""
    old = old_folder(out)
    if not out.exists() and old.exists():
        old.replace(out)  # killed between the two last steps of another plan
    if not out.exists():
        return
    if not out.is_dir() or (not (out / PLAN).exists() and any(out.iterdir())):
        raise InputError(f"{out}: holds something else; give a new folder with --out")
    if not overwrite and has_answers(out):
        raise InputError(
            f"{out}: holds answers; --out DIR plans elsewhere, --overwrite throws them away"
        )


def _sizes(
    population: Population, points: int | None, standard_error: float | None, least: int
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Points of each class, int64 (K,), and what accuracies they go by; said."""
    names = np.array(population.maps[0].mapping.names, object)
    there = np.flatnonzero(population.pixels)
    weights = population.weights[there]
    accuracies, whence = _expected(population.maps)
    accuracies = accuracies[there]
    wanted = points
    if wanted is None:
        error = STANDARD_ERROR if standard_error is None else standard_error
        wanted = points_for(weights, accuracies, error)
        console.print(
            f"{wanted} points give the overall accuracy a standard error of {error:g}, expecting "
            f"user's accuracies {whence}"
        )
        # Rare classes, too, are to have their minimum.
        wanted = max(wanted, 2 * least * len(there))
    if wanted < 2 * len(there):
        raise InputError(
            f"--points {wanted}: too few for {len(there)} classes; each needs two, better {least}"
        )
    counts = np.zeros(len(names), np.int64)
    counts[there] = allocate(weights, population.pixels[there], wanted, least)
    few = counts[there] < np.minimum(least, population.pixels[there])
    if few.any():
        console.print(
            f"{plural(int(few.sum()), 'class gets', 'classes get')} fewer than {least} points "
            f"({first_of(names[there][few].tolist())}), so that the common ones keep half of all; "
            f"with --points {2 * least * len(there)} there are enough for both"
        )
    given = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True) if count)
    console.print(f"{int(counts.sum())} points: {given}")
    return counts, {
        "users_accuracy": [round(float(value), 4) for value in accuracies],
        "from": whence,
        "standard_error": round(expected_error(weights, accuracies, counts[there]), 6),
    }


def _expected(maps: list[ClassMap]) -> tuple[NDArray[np.float64], str]:
    """The user's accuracy that is expected of each class, float64 (K,), and by what."""
    classes = maps[0].mapping.num_classes
    for one in maps:
        try:
            told = json.loads(one.tags.get("USERS_ACCURACY", "null"))
            known = [USUAL_ACCURACY if value is None else float(value) for value in told]
        except (ValueError, TypeError):
            continue
        if len(known) == classes:
            return np.clip(known, 0, MOST_ACCURACY), "as in the model's validation"
    return np.full(classes, USUAL_ACCURACY), f"of {USUAL_ACCURACY}"


def _drawn(population: Population, counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The sample, see `Draw.points`."""
    draw = Draw(seed, counts)
    with progress("Drawing the points", len(population.maps)) as bar:
        for number, (one, ground) in enumerate(
            zip(population.maps, population.grounds, strict=True)
        ):
            with one.labels() as read:
                for window in strips(0, 0, one.source.height, one.source.width):
                    row, column, height, width = window
                    areas = None
                    if ground.areas is not None:
                        areas = ground.areas(column, row, width, height)
                    draw.add(number, row, read(*window), areas)
            bar.advance()
    return draw.points()


def _zones(
    population: Population, placed: list[Zones], sample: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[int], list[float] | None]:
    """Of Z zones: which of them each point is in, bool (n, Z); their mapped pixels, and m²."""
    count = len(placed[0].fids) if placed else 0
    inside = np.zeros((len(sample), count), bool)
    pixels, metres = np.zeros(count, np.int64), np.zeros(count)
    unchecked = Validation(None, "not corrected")
    for number, zones in enumerate(placed):
        one, ground = population.maps[number], population.grounds[number]
        with one.labels() as read:
            found, _ = measure_zones(zones, read, one.source, ground, unchecked, one.mapping)
        pixels += [int(areas.pixels.sum()) for areas in found]
        metres += [0 if a.square_metres is None else a.square_metres.sum() for a in found]
        here = sample[:, 1] == number
        inside[here] = zones_at(zones, one.source, sample[here, 2], sample[here, 3])
    known = population.square_metres is not None
    return inside, pixels.tolist(), metres.tolist() if known else None


def _tell_zones(
    zones: Zones, found: tuple[NDArray[np.bool_], list[int], list[float] | None]
) -> None:
    points = found[0].sum(0)
    few = [str(name) for name, n in zip(zones.names, points, strict=True) if n < LEAST_IN_ZONE]
    if few:
        console.print(
            f"{zones.path}: {plural(len(few), 'zone has', 'zones have')} fewer than "
            f"{LEAST_IN_ZONE} points, too few for figures of their own: {first_of(few)}; more "
            "--points help, or a plan of a zone's own map"
        )


def _content(
    population: Population,
    counts: NDArray[np.int64],
    expected: dict[str, Any],
    sample: NDArray[np.int64],
    zones: Zones | None,
    of_zones: tuple[NDArray[np.bool_], list[int], list[float] | None],
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """`plan.json`; a pure function of the maps and the options."""
    pixels, metres = population.pixels, population.square_metres
    inside, zone_pixels, zone_metres = of_zones
    digits = max(3, len(str(len(sample))))
    x, y = _places(population, sample)
    content: dict[str, Any] = {
        "format": FORMAT,
        "made_by": f"salakseg {VERSION}",
        "seed": seed,
        "classes": population.maps[0].mapping.as_plain(),
        "unit": "pixels" if metres is None else "m2",
        "basis": sorted({one.basis for one in population.measured}),
        "maps": [
            {
                "name": one.name,
                "file": Input(one.path, one.name).path_from(out),
                "key": one.tags.get("KEY", ""),
                "labels_sha256": known.sha256,
                "width": one.source.width,
                "height": one.source.height,
                "crs": None if one.source.crs is None else one.source.crs.to_wkt(),
            }
            for one, known in zip(population.maps, population.measured, strict=True)
        ],
        "expected": expected,
        "strata": [
            {
                "class": name,
                "pixels": int(pixels[index]),
                "m2": None if metres is None else round(float(metres[index]), 3),
                "weight": round(float(population.weights[index]), 9),
                "points": int(counts[index]),
            }
            for index, name in enumerate(population.maps[0].mapping.names)
        ],
        "zones": []
        if zones is None
        else [
            {
                "zone": name,
                "zone_fid": fid,
                "pixels": zone_pixels[index],
                "m2": None if zone_metres is None else round(zone_metres[index], 3),
            }
            for index, (name, fid) in enumerate(
                zip(zones.names.tolist(), zones.fids.tolist(), strict=True)
            )
        ],
        "sample": [
            {
                "id": f"{index + 1:0{digits}d}",
                "map": int(number),
                "row": int(row),
                "column": int(column),
                "x": float(x[index]),
                "y": float(y[index]),
                "class": int(label),
                "zones": np.flatnonzero(inside[index]).tolist(),
            }
            for index, (label, number, row, column) in enumerate(sample)
        ],
    }
    return {"id": sha256(json.dumps(content).encode()).hexdigest()[:12]} | content


def _places(
    population: Population, sample: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the points' middles."""
    x, y = np.zeros(len(sample)), np.zeros(len(sample))
    for number, one in enumerate(population.maps):
        here = sample[:, 1] == number
        x[here], y[here] = one.places(sample[here, 2] + 0.5, sample[here, 3] + 0.5)
    return x, y


def _write(
    folder: Path,
    name: str,
    population: Population,
    images: list[Input],
    sample: NDArray[np.int64],
    content: dict[str, Any],
) -> None:
    """Everything but the name of the folder, which will be `name`."""
    mapping = population.maps[0].mapping
    ids = [one["id"] for one in content["sample"]]
    with progress("Cutting the pictures", len(ids)) as bar:
        for number, (one, image) in enumerate(zip(population.maps, images, strict=True)):
            # Row by row, for what is decoded of a large image is of use to the next point too.
            here = np.flatnonzero(sample[:, 1] == number)
            here = here[np.argsort(sample[here, 2], kind="stable")]
            with open_image_of(one, image) as source:
                for point in here.tolist():
                    row, column = sample[point, 2:].tolist()
                    chip = folder / "chips" / f"{ids[point]}.jpg"
                    write_chip(chip, source, row, column, population.grounds[number].side)
                    bar.advance()
    x, y = (np.array([one[axis] for one in content["sample"]]) for axis in "xy")
    crs = content["maps"][0]["crs"]
    of_maps = [population.maps[number].name for number in sample[:, 1]]
    tags = {"SOFTWARE": content["made_by"], "PLAN": content["id"]}
    write_points(folder / POINTS, ids, of_maps, x, y, crs, mapping, tags)
    write_page(folder, content["id"], ids, mapping)
    write_how_to(folder, name, len(ids), mapping)
    write_plan(folder, content)
