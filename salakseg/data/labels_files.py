"""The files of `--labels`, and which format each has, by what is in it."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salakseg.console import console
from salakseg.data.labels_coco import is_coco, read_coco
from salakseg.data.labels_cvat import read_cvat
from salakseg.data.labels_geographic import GroundPolygons, read_ground_labels
from salakseg.data.labels_image import Labelled
from salakseg.data.labels_label_studio import is_label_studio, read_label_studio
from salakseg.data.labels_labelme import is_labelme, read_labelme
from salakseg.data.labels_mask_zip import TABLES, read_mask_zip, tables_of
from salakseg.data.labels_supervisely import is_supervisely, read_supervisely
from salakseg.data.problems import first_of, plural
from salakseg.errors import InputError

GROUND_SUFFIXES = (".gpkg", ".geojson", ".shp", ".fgb", ".kml", ".kmz")
IN_PIXELS = (
    ("Labelme", is_labelme, read_labelme),
    ("COCO", is_coco, read_coco),
    ("Label Studio", is_label_studio, read_label_studio),
    ("Supervisely", is_supervisely, read_supervisely),
)
CVAT_FILE = "annotations.xml"
KNOWN = (
    "GeoPackage, GeoJSON, Shapefile, FlatGeobuf, KML, Labelme, COCO, CVAT for images or its masks, "
    "Label Studio, Supervisely or Roboflow's masks"
)


@dataclass
class LabelFiles:
    """What they hold: polygons on the ground, and labels in images' own pixels."""

    ground: list[GroundPolygons] = field(default_factory=list)
    images: list[Labelled] = field(default_factory=list)


def read_label_files(path: Path, label_field: str | None, layer: str | None) -> LabelFiles:
    """A file, or all of a folder and the folders in it, by name.

    Raises:
        InputError: none there, damaged, or of no known format.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; --labels takes {KNOWN}")
    found = LabelFiles()
    if path.is_file():
        if not _read(path, label_field, layer, found):
            raise InputError(f"{path}: no labels in a known format: {KNOWN}")
        return found
    unknown = []
    files = sorted(one for one in path.rglob("*") if not one.name.startswith(".") and one.is_file())
    for file in files:
        may_be = (*GROUND_SUFFIXES, ".json", ".xml", ".zip")
        if file.name in TABLES:
            _read(file, label_field, layer, found)
        elif file.suffix.lower() in may_be and not _read(file, label_field, layer, found):
            unknown.append(str(file))
    if unknown:
        console.print(
            f"{plural(len(unknown), 'file')} without labels in a known format passed over: "
            f"{first_of(unknown)}"
        )
    if not found.ground and not found.images:
        raise InputError(f"{path}: no labels in it; --labels takes files of {KNOWN}")
    return found


def _read(path: Path, label_field: str | None, layer: str | None, found: LabelFiles) -> bool:
    """Whether the file is of a known format, and was added."""
    suffix, kind = path.suffix.lower(), "JSON"
    try:
        if suffix == ".json":
            content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
            fitting = next((one for one in IN_PIXELS if one[1](content)), None)
            if fitting is not None:
                kind = fitting[0]
                found.images += fitting[2](path, content)
                return True
            if not (isinstance(content, dict) and isinstance(content.get("type"), str)):
                return False
        elif path.name in TABLES:
            kind = "masks with a table"
            return _read_masks(path, found)
        elif suffix in (".xml", ".zip"):
            kind = "CVAT for images"
            xml = _cvat_of(path)
            if xml is not None:
                found.images += read_cvat(path, xml)
                return True
            kind = "masks with a table"
            if suffix == ".zip" and _read_masks(path, found):
                return True
            if suffix == ".xml" or not _holds_ground(path):
                return False
    except InputError:
        raise
    # On damaged content a reader may raise anything.
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"no {reason}"
        raise InputError(f"{path}: damaged, or no file of {kind} ({reason})") from error
    found.ground.append(read_ground_labels(path, label_field, layer))
    return True


def _cvat_of(path: Path) -> bytes | None:
    """The XML, also out of the archive that CVAT exports; None where it is another program's."""
    if path.suffix.lower() == ".xml":
        content = path.read_bytes()
        return content if b"<image" in content or b"<track" in content else None
    with zipfile.ZipFile(path) as archive:
        return archive.read(CVAT_FILE) if CVAT_FILE in archive.namelist() else None


def _read_masks(path: Path, found: LabelFiles) -> bool:
    """Whether it is an archive of masks with a table, or such a table in a folder of them, and was
    added."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            tables = tables_of(names)
            for table in tables:
                found.images += read_mask_zip(path, table, names, archive.read)
            return bool(tables)
    folder = path.parent
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*.png")]
    if not tables_of([path.name, *names]):
        return False
    found.images += read_mask_zip(path, path.name, names, lambda name: (folder / name).read_bytes())
    return True


def _holds_ground(path: Path) -> bool:
    """Whether an archive has a vector file in it."""
    with zipfile.ZipFile(path) as archive:
        return any(name.lower().endswith(GROUND_SUFFIXES) for name in archive.namelist())
