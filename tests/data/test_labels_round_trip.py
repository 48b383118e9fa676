"""Real masks, written in each format and cut by `--labels`: every pixel of every class is back.

Masks are what `suggest --export` lays out too, so a guess that was corrected in any of these
programs comes home.
"""

import base64
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import rasterio.features
import shapely
from numpy.typing import NDArray
from PIL import Image

from salakseg import index, patchify
from salakseg.classes import read_mask
from salakseg.imagery.photo import read_photo
from tests.data.cutting import MAPPING, NAMES, QUIET, SAMPLES, labels_of, layout, write_geotiff
from tests.data.labelling import on_ground, write_json, write_layer
from tests.data.test_labels_coco import runs_of

pytestmark = QUIET
Masks = dict[str, NDArray[np.uint8]]


def classes(labels: NDArray[np.uint8]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Name, written otherwise than in the mapping, and pixels of each class."""
    found = np.unique(labels[labels != 255]).tolist()
    return [(f" {MAPPING.names[k].upper()}", labels == k) for k in found]


def png(inside: NDArray[np.bool_]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(inside).save(file, "PNG")
    return file.getvalue()


def as_coco(folder: Path, masks: Masks) -> Path:
    images, annotations, names = [], [], []
    for number, (name, labels) in enumerate(masks.items()):
        height, width = labels.shape
        images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
        for called, inside in classes(labels):
            names.append(called)
            rle = {"counts": runs_of(inside), "size": [height, width]}
            one = {"id": len(names), "category_id": len(names), "segmentation": rle}
            annotations.append(one | {"image_id": number, "iscrowd": 1})
    categories = [{"id": 1 + number, "name": name} for number, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return write_json(folder / "coco.json", content)


def as_cvat(folder: Path, masks: Masks) -> Path:
    text = "<annotations><version>1.1</version>"
    for name, labels in masks.items():
        height, width = labels.shape
        text += f'<image id="0" name="{name}.jpg" width="{width}" height="{height}">'
        for called, inside in classes(labels):
            runs = ", ".join(map(str, runs_of(inside.T)))
            text += f'<mask label={quoteattr(called)} rle="{runs}" left="0" top="0" z_order="0" '
            text += f'width="{width}" height="{height}"/>'
        text += "</image>"
    path = folder / "annotations.xml"
    path.write_text(text + "</annotations>", encoding="utf-8")
    return path


def as_labelme(folder: Path, masks: Masks) -> Path:
    for name, labels in masks.items():
        height, width = labels.shape
        shapes = [
            {
                "label": called,
                "shape_type": "mask",
                "points": [[0, 0], [width - 1, height - 1]],
                "mask": base64.b64encode(png(inside)).decode(),
            }
            for called, inside in classes(labels)
        ]
        size = {"imagePath": f"{name}.jpg", "imageWidth": width, "imageHeight": height}
        write_json(folder / "labelme" / f"{name}.json", {"shapes": shapes} | size)
    return folder / "labelme"


def as_supervisely(folder: Path, masks: Masks) -> Path:
    for name, labels in masks.items():
        height, width = labels.shape
        objects = [
            {
                "classTitle": called,
                "geometryType": "bitmap",
                "bitmap": {
                    "origin": [0, 0],
                    "data": base64.b64encode(zlib.compress(png(inside))).decode(),
                },
            }
            for called, inside in classes(labels)
        ]
        size = {"size": {"height": height, "width": width}}
        write_json(folder / "ds" / "ann" / f"{name}.jpg.json", {"objects": objects} | size)
    return folder / "ds"


def packed(inside: NDArray[np.bool_]) -> list[int]:
    """As `@thi.ng/rle-pack` packs RGBA, by runs alone, of 16 bits at most."""
    flat = np.repeat(np.where(inside, 255, 0).ravel(), 4)
    bits = [f"{len(flat):032b}", f"{7:05b}", *(f"{length - 1:04b}" for length in (3, 4, 8, 16))]
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] ^ 1))
    for start, end in zip(starts, [*starts[1:], len(flat)], strict=True):
        for first in range(start, end, 1 << 16):
            length = min(end - first, 1 << 16)
            bits.append(f"1{3:02b}{length - 1:016b}{flat[first]:08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def as_label_studio(folder: Path, masks: Masks) -> Path:
    tasks = []
    for name, labels in masks.items():
        height, width = labels.shape
        result = [
            {
                "type": "brushlabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": packed(inside), "brushlabels": [called]},
            }
            for called, inside in classes(labels)
        ]
        image = f"/data/upload/1/00c0ffee-{name}.jpg"
        tasks.append({"annotations": [{"result": result}], "data": {"image": image}})
    return write_json(folder / "studio.json", tasks)


def as_geopackage(folder: Path, masks: Masks) -> Path:
    """All photographs lie on one ground, so that one alone is taken."""
    labels = next(iter(masks.values()))
    areas, names = [], []
    for called, inside in classes(labels):
        for shape, _ in rasterio.features.shapes(inside.astype(np.uint8), inside):
            areas.append(on_ground(shapely.geometry.shape(shape)))
            names.append(called)
    return write_layer(folder / "field.gpkg", areas, kind="Polygon", what=names)


FORMATS = [as_coco, as_cvat, as_labelme, as_supervisely, as_label_studio, as_geopackage]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_pixel_is_back(tmp_path: Path, write: Callable[[Path, Masks], Any]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "images").mkdir(parents=True)
    (data / "class_mapping.csv").write_bytes((SAMPLES / "class_mapping.csv").read_bytes())
    names = NAMES[:1] if write is as_geopackage else NAMES
    for name in names:
        picture = SAMPLES / "images" / f"{name}.jpg"
        if write is as_geopackage:
            pixels = np.moveaxis(read_photo(picture), 2, 0)
            write_geotiff(data / "images" / f"{name}.tif", pixels)
        else:
            (data / "images" / picture.name).write_bytes(picture.read_bytes())
    masks = {name: labels_of(SAMPLES / "masks" / f"{name}.png") for name in names}
    labels = write(tmp_path, masks)
    counts = patchify(data, out=out, labels=labels, size=128, num_workers=2)
    assert counts["masked"] == counts["patches"] == 9 * len(names)
    for row in layout(out):
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        found = read_mask(out / "masks" / f"{row['patch']}.png", MAPPING).labels
        expected = masks[row["base_image"]][y : y + height, x : x + width]
        assert np.array_equal(found, expected)
    summary = index(out, num_workers=1, split_by="patch")
    assert (summary["masks"], summary["masks_without_class"]) == (counts["masked"], 0)
