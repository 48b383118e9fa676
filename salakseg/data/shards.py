"""shards/ as training and scoring read it: the description of its samples, checked.

`shards/` holds standard tars (`labeled-train-000000.tar`, `labeled-val-…`, `labeled-test-…`,
`unlabeled-…`), `samples.csv` (where each sample lies in its tar, with checksums and class pixels)
and `manifest.json`, written last: shards without one are unfinished. `shards_pack` makes them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.band_set import BandSet
from salakseg.bucket import Bucket, is_url
from salakseg.classes import ClassMapping
from salakseg.data.remote_tars import RemoteTars
from salakseg.errors import InputError
from salakseg.files import require_folder

SHARDS_FORMAT = "salakseg-shards-1"
# Names of the tars by what `index` calls a patch.
STREAMS = {
    "train": "labeled-train",
    "val": "labeled-val",
    "test": "labeled-test",
    "unlabeled": "unlabeled",
}


@dataclass(frozen=True)
class Shards:
    """What a `shards/` folder holds.

    Attributes:
        folder: where the tars are; of a URL its text.
        mapping: the classes.
        patch_size: side in pixels that every batch has; smaller patches are padded to it.
        pixel_size: metres on the ground, None where not known.
        samples: one row a sample: shard, key, split (train, val, test, unlabeled), folder,
            base_image, ignored, `pixels NAME` (Int64, missing where no mask), and where the image
            and the mask lie in the tar (offset, bytes, crc; mask_bytes 0 where no mask).
        fingerprint: tells apart shards of different content.
        white_level: the value of full brightness of the 16-bit photographs that the patches were
            cut from; None where they had 8 bits, or it is not known.
        apart_pixels: what lies between training and validation where both are of the same base
            images (`index --split-by area`); None of other splits.
        band_set: of patches of more than three bands; None of red, green and blue.
        tars: reads those behind a URL; None of a folder.
    """

    folder: Path | str
    mapping: ClassMapping
    patch_size: int
    pixel_size: float | None
    samples: pd.DataFrame
    fingerprint: str
    white_level: int | None = None
    apart_pixels: int | None = None
    band_set: BandSet | None = None
    tars: RemoteTars | None = field(default=None, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """Bands of a patch."""
        return 3 if self.band_set is None else len(self.band_set)

    def picture(self, patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Of a patch, uint8 (bands, H, W), what people see: RGB (H, W, 3)."""
        pixels = np.moveaxis(patch, 0, 2)
        return pixels if self.band_set is None else self.band_set.picture(pixels)

    def split(self, split: str) -> pd.DataFrame:
        """The samples of one split, numbered from 0."""
        return self.samples[self.samples.split == split].reset_index(drop=True)

    def class_pixels(self, samples: pd.DataFrame) -> NDArray[np.int64]:
        """int64 (len(samples), K): pixels of each class; 0 where there is no mask."""
        columns = [f"pixels {name}" for name in self.mapping.names]
        return samples[columns].fillna(0).to_numpy(np.int64)


def read_shards(
    where: Path | str = "shards",
    cache_dir: Path | str | None = None,
    cache_size: float | None = None,
) -> Shards:
    """Read and check the description of shards. The tars' sizes are checked here, the content of
    each sample by its CRC when it is read.

    Args:
        where: a folder, or the URL of one: s3://, gs://, az://, hf://, https://, ….
        cache_dir: where what comes from a URL is kept; None: in the user's folder for caches.
        cache_size: gigabytes of it; None: 50, at most half of what the disk has.

    Raises:
        InputError: no shards, unfinished ones, a tar that is missing or cut off, a damaged
            description; a URL that cannot be read.
        WorkError: the URL does not answer; no room for the cache.
    """
    place = _place(where)
    manifest = _manifest_of(place)
    again, anew = "salakseg shard packs it again", "run salakseg shard --overwrite"
    if isinstance(place, Bucket):
        again, anew = "upload it again", "upload what salakseg shard wrote again"
    try:
        entries = manifest["shards"]
        for entry, size in zip(entries, place.sizes([one["name"] for one in entries]), strict=True):
            if size is not None and size != entry["bytes"]:
                state = "missing" if size < 0 else f"{size} bytes long, not {entry['bytes']}"
                raise InputError(f"{place.shown(entry['name'])}: {state}; {again}")
        table = place.read("samples.csv")
        if sha256(table).hexdigest() != manifest["samples_sha256"]:
            raise InputError(f"{place.shown('samples.csv')}: damaged; {anew}")
        text = dict.fromkeys(("shard", "key", "split", "folder", "base_image"), "str")
        samples = pd.read_csv(BytesIO(table), dtype=text, keep_default_na=False, na_values=[""])
        tars = None
        if isinstance(place, Bucket):
            kept = None if cache_dir is None else Path(cache_dir)
            checksums = {entry["name"]: entry["sha256"] for entry in entries}
            tars = RemoteTars(place, checksums, samples, kept, cache_size)
        bands = manifest.get("bands")
        return Shards(
            str(place) if isinstance(place, Bucket) else Path(where),
            ClassMapping.from_plain(manifest["classes"], place.shown("manifest.json")),
            int(manifest["patch_size"]),
            manifest["pixel_size"],
            samples,
            manifest["fingerprint"],
            manifest.get("white_level"),
            manifest.get("apart_pixels"),
            None if bands is None else BandSet.from_plain(bands),
            tars,
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{place.shown('manifest.json')}: damaged ({error}); {anew}") from error


def tars_of(where: Path | str, split: str) -> tuple[list[str], int]:
    """Path or URL of each tar of a split, and the bands of a patch; raises as `read_shards`, and
    where there is none."""
    place = _place(where)
    manifest = _manifest_of(place)
    entries = manifest["shards"]
    names = [entry["name"] for entry in entries if entry["split"] == split]
    if not names:
        there = ", ".join(dict.fromkeys(entry["split"] for entry in entries))
        raise InputError(f"{place}: has no split {split!r}; it has {there}")
    bands = manifest.get("bands")
    return [place.path(name) for name in names], 3 if bands is None else len(
        BandSet.from_plain(bands)
    )


def _place(where: Path | str) -> "Bucket | _Folder":
    return Bucket(str(where)) if is_url(where) else _Folder(Path(where))


def _manifest_of(place: "Bucket | _Folder") -> dict[str, Any]:
    path = place.shown("manifest.json")
    try:
        manifest = _parsed(place.read("manifest.json"), path)
    except FileNotFoundError as error:
        raise InputError(
            f"{place}: no finished shards (no manifest.json); run salakseg shard"
            + (", and upload all that it writes" if isinstance(place, Bucket) else "")
        ) from error
    if manifest.get("format") != SHARDS_FORMAT:
        raise InputError(f"{path}: not written by this program; run salakseg shard")
    return manifest


class _Folder:
    """A folder that is here, with what `Bucket` has of one that is elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = require_folder(path, "pack the patches first: salakseg shard")

    def __str__(self) -> str:
        return str(self._path)

    def shown(self, name: str) -> str:
        """What messages call a file of it."""
        return str(self._path / name)

    path = shown

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self._path / name).read_bytes()

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of each file, -1 where there is none."""
        paths = [self._path / name for name in names]
        return [path.stat().st_size if path.exists() else -1 for path in paths]


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest.json; `InputError` where it is damaged."""
    try:
        return _parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: damaged ({error}); run salakseg shard --overwrite") from error


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{where}: damaged ({error}); run salakseg shard --overwrite") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{where}: damaged; run salakseg shard --overwrite")
    return manifest
