"""shards/ as training and scoring read it: the description of its samples, checked.

`shards/` holds standard tars (`labeled-train-000000.tar`, `labeled-val-…`, `labeled-test-…`,
`unlabeled-…`), `samples.csv` (where each sample lies in its tar, with checksums and class pixels)
and `manifest.json`, written last: shards without one are unfinished. `shards_pack` makes them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salakseg.classes import ClassMapping
from salakseg.errors import InputError
from salakseg.files import require_folder, sha256_of

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
        folder: where the tars are.
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
    """

    folder: Path
    mapping: ClassMapping
    patch_size: int
    pixel_size: float | None
    samples: pd.DataFrame
    fingerprint: str
    white_level: int | None = None
    apart_pixels: int | None = None

    def split(self, split: str) -> pd.DataFrame:
        """The samples of one split, numbered from 0."""
        return self.samples[self.samples.split == split].reset_index(drop=True)

    def class_pixels(self, samples: pd.DataFrame) -> NDArray[np.int64]:
        """int64 (len(samples), K): pixels of each class; 0 where there is no mask."""
        columns = [f"pixels {name}" for name in self.mapping.names]
        return samples[columns].fillna(0).to_numpy(np.int64)


def read_shards(folder: Path = Path("shards")) -> Shards:
    """Read and check the description of shards. The tars' sizes are checked here, the content of
    each sample by its CRC when it is read.

    Raises:
        InputError: no shards, unfinished ones, a tar that is missing or cut off, a damaged
            description.
    """
    require_folder(folder, "pack the patches first: salakseg shard")
    manifest_path = folder / "manifest.json"
    if not manifest_path.exists():
        raise InputError(f"{folder}: no finished shards (no manifest.json); run salakseg shard")
    manifest = read_manifest(manifest_path)
    if manifest.get("format") != SHARDS_FORMAT:
        raise InputError(f"{manifest_path}: not written by this program; run salakseg shard")
    try:
        for entry in manifest["shards"]:
            tar = folder / entry["name"]
            size = tar.stat().st_size if tar.exists() else -1
            if size != entry["bytes"]:
                state = "missing" if size < 0 else f"{size} bytes long, not {entry['bytes']}"
                raise InputError(f"{tar}: {state}; salakseg shard packs it again")
        table = folder / "samples.csv"
        if sha256_of(table) != manifest["samples_sha256"]:
            raise InputError(f"{table}: damaged; run salakseg shard --overwrite")
        text = dict.fromkeys(("shard", "key", "split", "folder", "base_image"), "str")
        samples = pd.read_csv(table, dtype=text, keep_default_na=False, na_values=[""])
        return Shards(
            folder,
            ClassMapping.from_plain(manifest["classes"], str(manifest_path)),
            int(manifest["patch_size"]),
            manifest["pixel_size"],
            samples,
            manifest["fingerprint"],
            manifest.get("white_level"),
            manifest.get("apart_pixels"),
        )
    except (KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{manifest_path}: damaged ({error}); run salakseg shard --overwrite"
        ) from error


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a manifest.json; `InputError` where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); run salakseg shard --overwrite") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged; run salakseg shard --overwrite")
    return content
