"""One tar of shards/: the samples that go in, as they are or as PNG, and what it then holds.

Written in worker processes that start afresh (spawn), so this module imports neither pandas nor
torch; and not by `tarfile` or webdataset, though byte by byte as `tarfile` would: each sample is
one write, checksummed and hashed on its way.
"""

import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salakseg.band_set import BandSet
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
from salakseg.masks import PNG_START

TAR_BLOCK = 512
# Where a header has name, size and checksum, and what the latter is taken for meanwhile.
NAME, SIZE, SUM = slice(0, 100), slice(124, 135), slice(148, 156)
SPACES = b" " * 8
MOST_BYTES = 8**11  # that eleven digits of a header tell
GREY, RGB, RGBA = 0, 2, 6  # colour types of PNG
AGAIN = "index the data again"
PARTS, PLACE = ("image", "mask"), ("offset", "bytes", "crc")


class Patch(NamedTuple):
    """A row of patches.csv: `key` is its name in the tar, `described` what its .json holds."""

    key: str
    image: str
    mask: str
    bytes: int
    width: int
    height: int
    described: dict[str, Any]


@dataclass
class Packed:
    """What is in one tar.

    Attributes:
        places: key → offset, bytes and CRC-32 of the image and of the mask, 0 where there is none.
        sha256: of the tar.
        left_out: what did not go in, as image and reason.
        re_encoded: how many images went in, but not as they were.
    """

    places: dict[str, list[int]] = field(default_factory=dict)
    sha256: str = ""
    left_out: list[str] = field(default_factory=list)
    re_encoded: int = 0

    def note(self, key: str, extension: str, offset: int, content: bytes) -> None:
        """Take down a file of the tar."""
        place = self.places.setdefault(key, [0] * 6)
        if extension == "json":
            self.re_encoded += json.loads(content)["re_encoded"]
        else:
            part = slice(3, 6) if extension == "mask.png" else slice(0, 3)
            place[part] = offset, len(content), zlib.crc32(content)


def pack_tar(
    data: Path,
    mapping: ClassMapping,
    white_level: int | None,
    band_set: BandSet | None,
    out: Path,
    planned: tuple[str, list[Patch]],
) -> Packed:
    """Write one tar, planned as name and patches, unless it is there; describe what it holds."""
    name, patches = planned
    path = out / name
    if path.exists():
        return _read_back(data, path, patches)
    packed, place, digest = Packed(), 0, sha256()
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            for patch in patches:
                sample = _sample(data, mapping, white_level, band_set, patch)
                if isinstance(sample, str):
                    packed.left_out.append(f"{patch.image}: {sample}")
                    continue
                parts: list[bytes] = []
                for extension, content in sorted(sample.items()):
                    header = tar_header(f"{patch.key}.{extension}", len(content))
                    packed.note(patch.key, extension, place + len(header), content)
                    parts += header, content, bytes(-len(content) % TAR_BLOCK)
                    place += sum(map(len, parts[-3:]))
                written = b"".join(parts)
                digest.update(written)
                file.write(written)
            place += 2 * TAR_BLOCK
            end = bytes(2 * TAR_BLOCK + -place % tarfile.RECORDSIZE)
            digest.update(end)
            file.write(end)
    except OSError as error:
        raise WorkError(f"{path}: cannot be written ({error.strerror or error})") from error
    packed.sha256 = digest.hexdigest()
    return packed


def tar_header(name: str, size: int) -> bytes:
    """As `tarfile` writes it of a file without time or owner, so that the same content gives the
    same bytes."""
    if not name.isascii() or len(name) > NAME.stop or size >= MOST_BYTES:
        return _header_by_tarfile(name, size)
    header = bytearray(_empty_header())
    header[: len(name)] = name.encode()
    header[SIZE] = b"%011o" % size
    header[SUM] = b"%06o\0 " % sum(header)
    return bytes(header)


@lru_cache(1)
def _empty_header() -> bytes:
    header = bytearray(_header_by_tarfile("", 0))
    header[SUM] = SPACES
    return bytes(header)


def _header_by_tarfile(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o444
    member.uname = member.gname = "salakseg"
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _sample(
    data: Path,
    mapping: ClassMapping,
    white_level: int | None,
    band_set: BandSet | None,
    patch: Patch,
) -> dict[str, bytes] | str:
    """The files of one patch by extension, or why its image is damaged."""
    image = f"{data}/{patch.image}"
    content = _read_unchanged(image, patch.bytes)
    if (damage := damage_of(content)) is not None:
        return damage
    content, extension, there, same = (
        _of_colours(Path(image), content, white_level)
        if band_set is None
        else _of_bands(Path(image), content, band_set)
    )
    described = patch.described | {"image": patch.image, "re_encoded": not same}
    sample = {"json": json.dumps(described, ensure_ascii=False).encode()}
    sample[extension] = content
    if patch.mask:
        labels = read_mask(data / patch.mask, mapping).labels
        if labels.shape != (patch.height, patch.width):
            raise InputError(f"{data / patch.mask}: has changed since it was indexed; {AGAIN}")
        if there is not None:
            labels[~there] = IGNORE_INDEX
        sample["mask.png"] = _encode_png(labels)
    return sample


def _of_colours(
    image: Path, content: bytes, white_level: int | None
) -> tuple[bytes, str, NDArray[np.bool_] | None, bool]:
    """A patch's file as it goes into the tar, its extension, where the patch is there (None: all
    over), and whether the file is as it was."""
    told = image.name in _told_in(str(image.parent))
    extension = None if told and is_masked(image) else plain_extension(content)
    if extension is not None:
        return content, extension, _alpha(content), True
    from salakseg.imagery.raster import open_image  # imports rasterio

    with open_image(image, white_level=white_level) as source:
        pixels, there = source.read(0, 0, source.height, source.width)
    if not there.all():
        pixels = np.dstack([pixels, np.where(there, 255, 0).astype(np.uint8)])
    return _encode_png(pixels), "png", there, False


def _of_bands(
    image: Path, content: bytes, band_set: BandSet
) -> tuple[bytes, str, NDArray[np.bool_], bool]:
    """As `_of_colours`, of a patch of more than three bands."""
    from salakseg.imagery.multiband import band_set_of, encoded
    from salakseg.imagery.raster import open_image
    from salakseg.imagery.reading import open_raster

    with open_raster(image) as raster:
        same = band_set_of(raster) == band_set
    with open_image(image, band_set=band_set) as source:
        pixels, there = source.read(0, 0, source.height, source.width)
    return content if same else encoded(pixels, there, band_set), "tif", there, same


@lru_cache(4)
def _told_in(folder: str) -> set[str]:
    """The images of a folder of which files beside them may tell more."""
    return told_beside(os.listdir(folder))  # noqa: PTH208


def _read_unchanged(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(
            f"{Path(path)}: cannot be read any more ({error.strerror}); {AGAIN}"
        ) from error
    if len(content) != size:
        raise InputError(f"{Path(path)}: has changed since it was indexed; {AGAIN}")
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


def keys_of(folders: Iterable[str], images: Iterable[str]) -> list[str]:
    """WebDataset keys: folder/name without dots (a dot begins the extension), each only once."""
    keys: list[str] = []
    taken: set[str] = set()
    for folder, image in zip(folders, images, strict=True):
        stem = Path(image).stem
        plain = (stem if folder == "." else f"{folder}/{stem}").replace(".", "_")
        key, copy = plain, 2
        while key in taken:
            key, copy = f"{plain}_{copy}", copy + 1
        taken.add(key)
        keys.append(key)
    return keys


def _read_back(data: Path, path: Path, patches: list[Patch]) -> Packed:
    """What a tar holds that an interrupted call has left."""
    packed = Packed(sha256=sha256_of(path))
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            content = tar.extractfile(member)
            assert content is not None  # only regular files are written
            packed.note(key, extension, member.offset_data, content.read())
    for patch in patches:
        if patch.key not in packed.places:
            damage = damage_of((data / patch.image).read_bytes())
            packed.left_out.append(f"{patch.image}: {damage}")
    return packed
