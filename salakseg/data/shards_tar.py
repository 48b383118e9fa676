"""One tar of shards/: the samples that go in, as they are or as PNG, and what it then holds."""

import io
import json
import os
import tarfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salakseg.classes import IGNORE_INDEX, ClassMapping, read_mask
from salakseg.data.image_checks import (
    EDGE_BYTES,
    EXIF_ORIENTATION,
    is_masked,
    says_nothing_more,
)
from salakseg.errors import InputError, WorkError
from salakseg.files import JPEG_START, atomic_path, jpeg_is_cut_off, sha256_of
from salakseg.imagery.photo import told_beside
from salakseg.imagery.raster import open_image
from salakseg.masks import PNG_START

TAR_BLOCK = 512
GREY, RGB, RGBA = 0, 2, 6  # colour types of PNG
AGAIN = "index the data again"


@dataclass(frozen=True)
class Packed:
    """What is in one tar: rows of samples.csv, and what did not go in or not as it was."""

    samples: pd.DataFrame
    sha256: str
    left_out: list[str]
    re_encoded: int


def pack_tar(
    data: Path,
    mapping: ClassMapping,
    white_level: int | None,
    out: Path,
    planned: tuple[str, pd.DataFrame],
) -> Packed:
    """Write one tar, planned as name and rows, unless it is there; describe what it holds."""
    name, rows = planned
    path = out / name
    keys = _keys(rows)
    if not path.exists():
        try:
            # Not webdataset's writer: it brings torch along, seconds and 600 MB in each process.
            with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
                for key, row in zip(keys, rows.itertuples(), strict=True):
                    sample = _sample(data, mapping, white_level, row)
                    for extension, content in sorted((sample or {}).items()):
                        _add(tar, f"{key}.{extension}", content)
        except OSError as error:
            raise WorkError(f"{path}: cannot be written ({error.strerror or error})") from error
    return _describe(data, path, rows.assign(key=keys))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Without time or owner, so that the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o444
    member.uname = member.gname = "salakseg"
    tar.addfile(member, io.BytesIO(content))


def _sample(
    data: Path, mapping: ClassMapping, white_level: int | None, row: Any
) -> dict[str, bytes] | None:
    """The files of one patch by extension, or None where the image is damaged."""
    content = _read_unchanged(data / row.image, int(row.bytes))
    if damage_of(content):
        return None
    told = row.image.rpartition("/")[2] in _told_in((data / row.image).parent)
    extension = None if told and is_masked(data / row.image) else plain_extension(content)
    described = {
        "folder": row.folder,
        "base_image": row.base_image,
        **{
            name: None if pd.isna(value) else value
            for name, value in (
                ("row", row.row),
                ("column", row.column),
                ("x", row.x),
                ("y", row.y),
                ("pixel_size", row.pixel_size),
            )
        },
        "image": row.image,
        "re_encoded": extension is None,
    }
    sample = {"json": json.dumps(described, ensure_ascii=False, default=np.generic.item).encode()}
    there = _alpha(content)
    if extension is None:
        with open_image(data / row.image, white_level=white_level) as source:
            pixels, there = source.read(0, 0, source.height, source.width)
        if not there.all():
            pixels = np.dstack([pixels, np.where(there, 255, 0).astype(np.uint8)])
        content, extension = _encode_png(pixels), "png"
    sample[extension] = content
    if row.mask:
        labels = read_mask(data / row.mask, mapping).labels
        if labels.shape != (row.height, row.width):
            raise InputError(f"{data / row.mask}: has changed since it was indexed; {AGAIN}")
        if there is not None:
            labels[~there] = IGNORE_INDEX
        sample["mask.png"] = _encode_png(labels)
    return sample


@lru_cache(4)
def _told_in(folder: Path) -> set[str]:
    """The images of a folder of which files beside them may tell more."""
    return told_beside(os.listdir(folder))  # noqa: PTH208


def _read_unchanged(path: Path, size: int) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read any more ({error.strerror}); {AGAIN}") from error
    if len(content) != size:
        raise InputError(f"{path}: has changed since it was indexed; {AGAIN}")
    return content


def damage_of(content: bytes) -> str | None:
    """Why a PNG or JPEG file is no whole one, by its checksums and end marks; None if it is."""
    if content.startswith(PNG_START):
        place = 8
        while place + 12 <= len(content):
            length = int.from_bytes(content[place : place + 4], "big")
            kind = content[place + 4 : place + 8]
            end = place + 8 + length
            stored = int.from_bytes(content[end : end + 4], "big")
            if len(content) < end + 4 or zlib.crc32(memoryview(content)[place + 4 : end]) != stored:
                return "a part of the PNG fails its checksum"
            if kind == b"IEND":
                return None
            place = end + 4
        return "the PNG is cut off"
    if content.startswith(JPEG_START) and jpeg_is_cut_off(content):
        return "the JPEG is cut off"
    return None


def plain_extension(content: bytes) -> str | None:
    """`png` or `jpg` where the stream can decode the file as it is; None where it cannot.

    Plain is 8 bits a band and upright, transparent by a band alone; everything else is read by
    `imagery.raster`, and stored anew.
    """
    if content.startswith(PNG_START):
        depth, kind = content[24:26]
        if depth != 8 or kind not in (GREY, RGB, RGBA):
            return None
        if says_nothing_more(content[:EDGE_BYTES], content[-EDGE_BYTES:]):
            return "png"
    try:
        with Image.open(io.BytesIO(content)) as image:
            extension = {"PNG": "png", "JPEG": "jpg"}.get(image.format or "")
            plain = image.mode in ("RGB", "L", "RGBA") and "transparency" not in image.info
            upright = image.getexif().get(EXIF_ORIENTATION, 1) == 1
            return extension if plain and upright else None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None


def _alpha(content: bytes) -> NDArray[np.bool_] | None:
    """bool (H, W): where a patch of red, green, blue and alpha is there; None without alpha."""
    if content.startswith(PNG_START) and content[25] == RGBA:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.getchannel("A")) > 0
    return None


def _encode_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _keys(rows: pd.DataFrame) -> list[str]:
    """WebDataset keys: folder/name without dots (a dot begins the extension), each only once."""
    keys: list[str] = []
    taken: set[str] = set()
    for folder, image in zip(rows.folder, rows.image, strict=True):
        stem = Path(image).stem
        plain = (stem if folder == "." else f"{folder}/{stem}").replace(".", "_")
        key, copy = plain, 2
        while key in taken:
            key, copy = f"{plain}_{copy}", copy + 1
        taken.add(key)
        keys.append(key)
    return keys


def _describe(data: Path, path: Path, rows: pd.DataFrame) -> Packed:
    """Read a tar back: offsets, sizes and CRC-32 of images and masks, with the index's columns."""
    found: dict[str, dict[str, Any]] = {}
    re_encoded = 0
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            entry = found.setdefault(key, {"key": key, "mask_bytes": 0})
            content = tar.extractfile(member)
            assert content is not None  # only regular files are written
            payload = content.read()
            if extension == "json":
                re_encoded += json.loads(payload)["re_encoded"]
                continue
            part = "mask" if extension == "mask.png" else "image"
            entry[f"{part}_offset"] = member.offset_data
            entry[f"{part}_bytes"] = member.size
            entry[f"{part}_crc"] = zlib.crc32(payload)
    places = pd.DataFrame(
        found.values(),
        columns=[
            "key",
            *(
                f"{part}_{what}"
                for part in ("image", "mask")
                for what in ("offset", "bytes", "crc")
            ),
        ],
    ).fillna(0)
    counts = [name for name in rows.columns if name == "ignored" or name.startswith("pixels ")]
    kept = rows[["key", "split", "folder", "base_image", *counts]]
    samples = kept.merge(places, on="key", validate="one_to_one")
    samples.insert(0, "shard", path.name)
    samples = samples.astype(
        {name: "int64" for name in places.columns if name != "key"}
        | {name: "Int64" for name in counts}
    )
    missing = rows[~rows.key.isin(found)]
    left_out = [f"{image}: {damage_of((data / image).read_bytes())}" for image in missing.image]
    return Packed(samples, sha256_of(path), left_out, re_encoded)
