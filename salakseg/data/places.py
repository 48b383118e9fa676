"""What patches say themselves of where they lie, as GeoTIFFs do, where there is no layout.csv.

A pixel's size on the ground travels on to the model. Patches of one image lie on its pixels, so
their coordinates give their places in it; and names of two numbers, `field_1_2` as gdal_retile
writes them, are those of patches where rows and columns go with these places.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.data.folders import number_bases
from salakseg.data.layout import LAYOUT, georeference, read_layout
from salakseg.data.patch_names import TWO_NUMBERS, composed
from salakseg.data.problems import Problems, plural

if TYPE_CHECKING:
    from salakseg.imagery.alignment import Footprint

Ground = tuple[Any, Any]  # a rasterio CRS, an affine transform


def take_places(
    patches: pd.DataFrame, footprints: Mapping[str, "Footprint"], problems: Problems
) -> pd.DataFrame:
    """Pixel sizes, places and base images of the patches that have a footprint, by image.

    Also notes the images that are each their own base image, since nothing says of what they are
    patches.
    """
    if footprints:
        patches = patches.copy()
        images = patches["image"].tolist()
        for (folder, base, parsed), rows in _groups(patches, footprints).items():
            found = [footprints[images[row]] for row in rows]
            patches.loc[rows, "pixel_size"] = [one.pixel_size or float("nan") for one in found]
            _place(patches, rows, found, base, parsed, problems)
            if not parsed and patches["parsed"].iat[rows[0]]:
                problems.handled(
                    "names of patches",
                    images[rows[0]],
                    f"{plural(len(rows), 'image')} of {folder}/ are patches of {base} by their own "
                    "coordinates",
                )
        patches = number_bases(patches)
    alone: dict[str, list[str]] = {}
    for row in patches[~patches["parsed"]].itertuples(index=False):
        alone.setdefault(str(row.folder), []).append(str(row.image))
    for folder, names in alone.items():
        problems.handled(
            "name without row and column",
            names[0],
            f"{plural(len(names), 'image')} of {folder}/ not named BASE_patch_ROW_COLUMN: each is "
            "its own base image",
        )
    return patches


def _groups(
    patches: pd.DataFrame, footprints: Mapping[str, "Footprint"]
) -> dict[tuple[str, str, bool], list[int]]:
    """(folder, base image, whether names say so) → rows of what may be patches of one image, all
    of them with a footprint."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    columns = (patches[name].tolist() for name in ("folder", "base_image", "parsed", "image"))
    without = set()
    for row, (folder, base, parsed, image) in enumerate(zip(*columns, strict=True)):
        match = None if parsed else TWO_NUMBERS.fullmatch(base)
        key = (folder, match[1] if match else base, parsed)
        groups.setdefault(key, []).append(row)
        if image not in footprints:
            without.add(key)
    return {key: rows for key, rows in groups.items() if key not in without}


def _place(
    patches: pd.DataFrame,
    rows: list[int],
    found: "list[Footprint]",
    base: str,
    parsed: bool,
    problems: Problems,
) -> None:
    """Put places into `patches`, and the base image where names alone do not say it."""
    from salakseg.imagery.alignment import offsets  # slow to import, and seldom needed

    places = offsets(found)
    if places is None:
        if parsed and len(rows) > 1:
            problems.handled(
                "places that do not fit",
                str(patches["image"].iat[rows[0]]),
                f"the {len(rows)} patches of {base} do not lie on the pixels of one image by their "
                "own coordinates: these are not used",
            )
        return
    if not parsed:
        names = [TWO_NUMBERS.fullmatch(str(patches["base_image"].iat[row])) for row in rows]
        numbers = [(int(match[2]), int(match[3])) for match in names if match]
        if len(rows) < 2 or len(numbers) < len(rows) or not _goes_with(numbers, places):
            return
        patches.loc[rows, "base_image"] = base
        patches.loc[rows, "parsed"] = True
    patches.loc[rows, "x"] = [x for x, _ in places]
    patches.loc[rows, "y"] = [y for _, y in places]


def _goes_with(numbers: Sequence[tuple[int, int]], places: Sequence[tuple[int, int]]) -> bool:
    """Whether two numbers count places up, one down and one across, each place once."""
    first, second = zip(*numbers, strict=True)
    across, down = zip(*places, strict=True)
    return len(set(places)) == len(places) and (
        (_in_step(first, down) and _in_step(second, across))
        or (_in_step(first, across) and _in_step(second, down))
    )


def _in_step(numbers: Sequence[int], places: Sequence[int]) -> bool:
    """Whether equal numbers are equal places, and larger ones larger."""
    pairs = sorted(set(zip(numbers, places, strict=True)))
    return all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


def note_masks_elsewhere(
    patches: pd.DataFrame, footprints: Mapping[str, "Footprint"], problems: Problems
) -> None:
    """Fatal: masks that lie on other ground than their images, by both files' own coordinates."""
    from salakseg.imagery.alignment import elsewhere

    found = []
    for image, mask in zip(patches["image"], patches["mask"], strict=True):
        if image in footprints and mask in footprints:
            words = elsewhere(footprints[image], footprints[mask])
            if words:
                found.append((mask, words))
    if found:
        mask, words = found[0]
        problems.fatal(
            "masks of other ground",
            mask,
            f"{words} ({plural(len(found), 'mask')} in all); give each image its own mask, or save "
            "masks that fit pixel by pixel without coordinates, as PNG",
        )


def grounds_of(
    data: Path, patches: pd.DataFrame, footprints: Mapping[str, "Footprint"]
) -> dict[int, Ground]:
    """Base image → CRS and transform from its pixels, those that x and y of patches count; of those
    alone that tell both, by layout.csv or by the patches themselves."""
    from affine import Affine
    from rasterio.crs import CRS  # slow to import, and seldom needed

    placed = patches[patches["x"].notna()].drop_duplicates("base")
    rows: dict[tuple[str, str], Mapping[str, str]] = {}
    paths = {folder: data / folder / LAYOUT for folder in placed["folder"].unique()}
    for folder, path in paths.items():
        for line in read_layout(path, ()).values() if path.is_file() else ():
            rows.setdefault((folder, composed(line.get("base_image") or "")), line)
    found: dict[int, Ground] = {}
    names = ["base", "folder", "base_image", "image", "x", "y"]
    for base, folder, name, image, x, y in placed[names].to_numpy(object).tolist():
        row, one = rows.get((folder, name)), footprints.get(image)
        if row is not None:
            crs, transform = georeference(row, paths[folder])
        elif one is not None and one.crs:
            crs = CRS.from_wkt(one.crs)
            a, b, c, d, e, f = one.transform
            transform = Affine(a, b, c - a * x - b * y, d, e, f - d * x - e * y)
        else:
            continue
        if crs is not None and transform is not None and transform.determinant:
            found[base] = crs, transform
    return found


def boxes_in(
    number: int, boxes: NDArray[np.float64], base: NDArray[np.int64], grounds: Mapping[int, Ground]
) -> NDArray[np.float64]:
    """Boxes (N, 4) of patches, left, top, right and bottom in pixels of their base images, in those
    of one of these; NaN where that is not known."""
    from rasterio.errors import RasterioError
    from rasterio.warp import transform as warp  # slow to import, and seldom needed

    found = np.full_like(boxes, np.nan)
    found[base == number] = boxes[base == number]
    if number not in grounds:
        return found
    crs, to_ground = grounds[number]
    kinds: dict[str, Any] = {}
    kind = np.full(base.max() + 1, -1)
    transforms = np.full((len(kind), 6), np.nan)
    for other, (there, transform) in grounds.items():
        kinds.setdefault(there.to_wkt(), there)
        kind[other] = list(kinds).index(there.to_wkt())
        transforms[other] = transform[:6]
    for place, there in enumerate(kinds.values()):
        here = (kind[base] == place) & (base != number)
        a, b, c, d, e, f = transforms[base[here]].T.repeat(4, axis=1)
        x, y = boxes[here][:, [[0, 1], [2, 1], [0, 3], [2, 3]]].reshape(-1, 2).T
        x, y = a * x + b * y + c, d * x + e * y + f
        if there != crs:
            try:
                x, y = (np.array(side) for side in warp(there, crs, x, y))
            except RasterioError:
                continue
        a, b, c, d, e, f = (~to_ground)[:6]
        corners = np.stack([a * x + b * y + c, d * x + e * y + f], 1).reshape(-1, 4, 2)
        found[here] = np.concatenate([corners.min(1), corners.max(1)], 1)
    return found
