"""A model's guess → polygons along the pixels' edges, as the programs take them that people correct
labels in; `patchify --labels` makes the same pixels of them.

Labelme and COCO know no holes: theirs are let into the outer ring by a cut there and back.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from salakseg.classes import IGNORE_INDEX, ClassMapping
from salakseg.errors import InputError
from salakseg.files import write_text
from salakseg.imagery.alignment import footprint
from salakseg.mapping.components import components
from salakseg.mapping.geopackage import write_layer, write_style
from salakseg.mapping.outlines import edges, polygons
from salakseg.mapping.styles import polygons_qml

MASKS, LABELS = "masks", "labels"
FORMATS = (MASKS, "geopackage", "coco", "labelme")
# Corners around one that are looked at before all are.
NEIGHBOURS = 256
# Of Labelme's files, which it looks at for its first number.
LABELME = "5.5.0"


class Writer(Protocol):
    """What one format makes of photographs."""

    def add(self, folder: str, image: str, file: Path, labels: NDArray[np.uint8]) -> None:
        """Write or keep the guess (H, W) of a photograph.

        Args:
            folder, image: of the data, and the photograph's name in its `images/`.
            file: where it lies, with its place on the ground.
        """

    def finish(self) -> None:
        """Write what was kept."""


def writer_of(kind: str, out: Path, name: str, mapping: ClassMapping) -> Writer | None:
    """What writes one of `FORMATS` into a folder, under a name; None for masks."""
    if kind == "geopackage":
        return _GeoPackage(out, name, mapping)
    if kind == "coco":
        return _Coco(out, name, mapping)
    return _Labelme(out, mapping) if kind == "labelme" else None


def areas_of(
    labels: NDArray[np.uint8], transform: Affine | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.object_]]:
    """Class and polygon of each connected area of `labels` (H, W), in pixels or by a transform."""
    # A row and a column of nothing all around close the outlines.
    framed = np.pad(labels, 1, constant_values=IGNORE_INDEX)
    found = components(framed[1:, 1:])
    ids = np.full(framed.shape, -1, np.int64)
    ids[1:, 1:] = found.ids
    corners = labels.shape[1] + 1
    shapes = polygons(edges(framed, ids, 0, 0, corners), corners, transform or Affine.identity())
    return found.labels, shapes


def in_one_ring(area: shapely.Polygon) -> NDArray[np.int64]:
    """Corners (N, 2) of a polygon in pixels, holes let in, each where an earlier ring is nearest.

    Filled by either rule, even-odd or non-zero, it is the same area.
    """
    rings = [np.array(ring.coords, np.int64)[:-1] for ring in (area.exterior, *area.interiors)]
    # From the left, so that short cuts lead on from hole to hole; each from its leftmost corner.
    holes = [np.roll(ring, -np.lexsort(ring.T[::-1])[0], 0) for ring in rings[1:]]
    holes.sort(key=lambda ring: tuple(ring[0]))
    points = np.concatenate([rings[0], *holes])
    begins = np.cumsum([len(ring) for ring in (rings[0], *holes)])
    then = [*range(1, len(points)), 0]
    then[begins[0] - 1] = 0
    nodes = list(range(len(points)))
    for first, end, near in zip(begins, begins[1:], _nearest_before(points, begins), strict=False):
        then[end - 1] = len(nodes)
        then += [len(nodes) + 1, then[near]]
        then[near] = int(first)
        nodes += [int(first), near]
    order, place = [nodes[0]], then[0]
    while place != 0:
        order.append(nodes[place])
        place = then[place]
    return points[order]


def _nearest_before(points: NDArray[np.int64], begins: NDArray[np.int64]) -> list[int]:
    """Of the rings that begin there, to the first corner the nearest one of all rings before."""
    firsts = begins[:-1]
    if not len(firsts):
        return []
    few = min(NEIGHBOURS, len(points))
    _, near = cKDTree(points).query(points[firsts], k=few)
    before = near < firsts[:, None]
    found = near[np.arange(len(firsts)), before.argmax(1)]
    for number in np.flatnonzero(~before.any(1)):
        first = firsts[number]
        found[number] = ((points[:first] - points[first]) ** 2).sum(1).argmin()
    return [int(place) for place in found]


class _GeoPackage:
    """One layer of all photographs, for each CRS a file."""

    def __init__(self, out: Path, name: str, mapping: ClassMapping) -> None:
        self._out, self._name, self._mapping = out, name, mapping
        self._files: dict[str, Path] = {}

    def add(self, folder: str, image: str, file: Path, labels: NDArray[np.uint8]) -> None:
        place = footprint(file)
        if not place.crs or not place.transform:
            raise InputError(
                f"{file}: has no place on the ground (CRS and geotransform), which a GeoPackage "
                "needs; --export-as coco and labelme are in its own pixels"
            )
        begun = place.crs in self._files
        number = f"_{len(self._files) + 1}" if self._files else ""
        path = self._files.setdefault(place.crs, self._out / f"{self._name}{number}.gpkg")
        self._out.mkdir(exist_ok=True)
        classes, shapes = areas_of(labels, Affine(*place.transform))
        columns = {"class": np.array(self._mapping.names, object)[classes]}
        write_layer(path, path.stem, "Polygon", shapes, columns, place.crs, {}, begun)

    def finish(self) -> None:
        for path in self._files.values():
            write_style(path, path.stem, polygons_qml(self._mapping, form=True))


class _Coco:
    """A file a folder."""

    def __init__(self, out: Path, name: str, mapping: ClassMapping) -> None:
        self._out, self._name = out, name
        self._categories = [
            {"id": number, "name": called, "supercategory": ""}
            for number, called in enumerate(mapping.names, 1)
        ]
        self._files: dict[str, dict[str, list[Any]]] = {}

    def add(self, folder: str, image: str, file: Path, labels: NDArray[np.uint8]) -> None:
        content = self._files.setdefault(
            folder, {"images": [], "annotations": [], "categories": self._categories}
        )
        images, annotations = content["images"], content["annotations"]
        height, width = labels.shape
        images.append({"id": len(images) + 1, "file_name": image, "width": width, "height": height})
        for label, area in zip(*areas_of(labels), strict=True):
            left, top, right, bottom = map(int, area.bounds)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": int(label) + 1,
                    "segmentation": [in_one_ring(area).ravel().tolist()],
                    "area": int(area.area),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )

    def finish(self) -> None:
        for folder, content in self._files.items():
            _write_json(self._out / folder / f"{self._name}.json", content)


class _Labelme:
    """A file a photograph."""

    def __init__(self, out: Path, mapping: ClassMapping) -> None:
        self._out, self._mapping = out, mapping

    def add(self, folder: str, image: str, file: Path, labels: NDArray[np.uint8]) -> None:
        shapes = [
            {
                "label": self._mapping.names[label],
                "points": in_one_ring(area).tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for label, area in zip(*areas_of(labels), strict=True)
        ]
        path = self._out / folder / f"{Path(image).stem}.json"
        up = len(path.relative_to(self._out).parent.parts) + 1
        content = {
            "version": LABELME,
            "flags": {},
            "shapes": shapes,
            "imagePath": (Path(*[".."] * up) / folder / "images" / image).as_posix(),
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        _write_json(path, content)

    def finish(self) -> None:
        pass


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")))
