"""Labels that people drew (`patchify --labels`) → what of them lies on which photograph.

Files are read by `labels_files`, each format by a module of its own; all give the same shapes,
which `labels_draw` makes the rows of masks of.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import shapely

from salakseg.console import console
from salakseg.data.labels_classes import mapping_for, rows_by_name
from salakseg.data.labels_draw import Drawing, Shape
from salakseg.data.labels_files import LabelFiles, read_label_files
from salakseg.data.labels_geographic import (
    place_to_draw,
    read_ground_area,
    shapes_on,
    touches,
)
from salakseg.data.labels_image import Labelled
from salakseg.data.patch_names import composed
from salakseg.data.patchify_check import PhotoToCut
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError
from salakseg.imagery.photo import IMAGE_SUFFIXES
from salakseg.imagery.raster import header_of

# Of images that are labelled as these and cut as others.
OTHER_SUFFIXES = (".webp", ".bmp", ".jp2", ".gif")


@dataclass(frozen=True)
class LabelOptions:
    """What the options of `patchify` say of labels, with paths as text.

    Attributes:
        labels: a file or folder.
        label_field, label_layer: of polygons on the ground; None: as `labels_geographic` chooses.
        outside: the class of what no shape holds; None: no class.
        aoi: polygons on the ground, outside of which nothing has a class; None: no such.
    """

    labels: str
    label_field: str | None = None
    label_layer: str | None = None
    outside: str | None = None
    aoi: str | None = None

    def as_plain(self) -> dict[str, Any]:
        """For the record; paths that hold from everywhere."""
        plain = asdict(self)
        for name in ("labels", "aoi"):
            if plain[name] is not None:
                plain[name] = str(Path(plain[name]).resolve())
        return plain


class WithLabels(NamedTuple):
    """Photographs with what was drawn on them, and the text of a class mapping to write, if any."""

    photos: list[PhotoToCut]
    mapping: str | None


def with_labels(
    data: Path, out: Path, photos: Sequence[PhotoToCut], options: LabelOptions
) -> WithLabels:
    """Read labels, find the photographs that they lie on, and say what is odd.

    A photograph without any shape, and without area of interest, stays without a mask, whatever
    `outside` says: nobody has looked at it.

    Raises:
        InputError: files that cannot be read; photographs without a place where one is needed;
            labels of no photograph, of another size or of one that has a mask; classes that the
            mapping does not have.
    """
    path = Path(options.labels)
    files = read_label_files(path, options.label_field, options.label_layer)
    aoi = None if options.aoi is None else read_ground_area(Path(options.aoi))
    drawn = _in_pixels(photos, files, path)
    complete: dict[str, shapely.MultiPolygon] = {}
    for photo in photos if files.ground or aoi else ():
        wanted_by = files.ground[0].path if files.ground else Path(str(options.aoi))
        if not files.ground and photo.source not in drawn:
            continue
        place = place_to_draw(photo.path, wanted_by)
        for polygons in files.ground:
            if shapes := shapes_on(polygons, photo.path, place):
                drawn.setdefault(photo.source, []).extend(shapes)
        if aoi is not None:
            inside = [area for _, area in aoi.on(photo.path, place) if touches(area, place)]
            parts = [part for area in inside for part in shapely.get_parts(area)]
            complete[photo.source] = shapely.MultiPolygon(parts)
            if not parts:
                drawn.pop(photo.source, None)
            elif options.outside is not None and photo.mask is None:
                drawn.setdefault(photo.source, [])
    if not drawn:
        raise InputError(
            f"{path}: none of it lies on a photograph of {data}"
            + (f" within {options.aoi}" if aoi is not None else "")
            + ("; is its CRS the true one?" if files.ground else "")
        )
    for photo in photos:
        if photo.source in drawn and photo.mask is not None:
            raise InputError(
                f"{photo.path}: is labelled in {path} and has a mask, {photo.mask}; move one of "
                "them away"
            )
    names = [shape.name for shapes in drawn.values() for shape in shapes]
    wanted = names if options.outside is None else [*names, options.outside]
    has_masks = any(photo.mask is not None for photo in photos)
    rows, mapping, mapping_path = mapping_for(data, out, wanted, has_masks)
    row_of = rows_by_name(wanted, rows, mapping_path)
    outside = None if options.outside is None else row_of[options.outside]
    found = []
    for photo in photos:
        if photo.source in drawn:
            height, width = header_of(photo.path)[:2]
            areas = tuple((row_of[shape.name], shape.area) for shape in drawn[photo.source])
            drawing = Drawing(width, height, areas, rows, outside, complete.get(photo.source))
            photo = replace(photo, drawing=drawing)
        found.append(photo)
    bare = [photo.source for photo in found if not photo.has_mask]
    if bare:
        console.print(
            f"{path}: {plural(len(bare), 'photo')} without a label in it, used without a mask: "
            f"{first_of(bare)}"
        )
    return WithLabels(found, mapping)


def _in_pixels(
    photos: Sequence[PhotoToCut], files: LabelFiles, path: Path
) -> dict[str, list[Shape]]:
    """By photograph's source, the shapes of files that know images by their names."""
    by_stem: dict[str, list[PhotoToCut]] = defaultdict(list)
    for photo in photos:
        by_stem[composed(photo.path.stem).casefold()].append(photo)
    found: dict[str, Labelled] = {}
    lost: list[str] = []
    empty: list[str] = []
    for one in files.images:
        match = _photo_of(one, by_stem, path)
        if match is None:
            lost.append(one.names[0])
            continue
        if not one.shapes:
            empty.append(match.source)
            continue
        if other := found.get(match.source):
            where = one.path if one.path != other.path else f"{one.path}, twice"
            raise InputError(
                f"{match.path}: is labelled in {other.path} and {where}; move one away"
            )
        _require_size(one, match)
        found[match.source] = one
    if lost:
        console.print(
            f"{path}: {plural(len(lost), 'image')} that no photo is called after, passed over: "
            f"{first_of(lost)}"
        )
    if empty:
        console.print(
            f"{path}: {plural(len(empty), 'photo')} on which nothing is drawn, taken for not "
            f"labelled: {first_of(empty)}"
        )
    return {source: one.shapes for source, one in found.items()}


def _photo_of(one: Labelled, by_stem: dict[str, list[PhotoToCut]], path: Path) -> PhotoToCut | None:
    """The photograph of that name; of several that in whose folders the labels are."""
    for written in one.names:
        name = PurePosixPath(written.replace("\\", "/"))
        has_suffix = name.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)
        stem = name.stem if has_suffix else name.name
        photos = by_stem.get(composed(stem).casefold(), [])
        if len(photos) > 1:
            told = {*name.parent.parts, *one.path.relative_to(path).parent.parts}
            fits = [p for p in photos if p.folder != "." and set(p.folder.split("/")) <= told]
            if len(fits) != 1:
                raise InputError(
                    f"{one.path}: {written} may be {photos[0].path} or {photos[1].path}; put the "
                    "labels of each folder into a folder of the same name"
                )
            photos = fits
        if photos:
            return photos[0]
    return None


def _require_size(one: Labelled, photo: PhotoToCut) -> None:
    """Raise `InputError` where labels were drawn on an image of another size."""
    height, width = header_of(photo.path)[:2]
    if one.size is not None and one.size != (width, height):
        turned = ", turned" if one.size == (height, width) else ""
        raise InputError(
            f"{one.path}: was drawn on {one.names[0]} of {one.size[0]}×{one.size[1]} pixels, "
            f"{photo.path} has {width}×{height}{turned}; give the photo that was labelled"
        )
