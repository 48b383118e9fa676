"""index/ → shards/: every usable patch packed into WebDataset tars for sequential reads.

`shards/` holds standard tars (`labeled-train-000000.tar`, `labeled-val-…`, `labeled-test-…`,
`unlabeled-…`), `samples.csv` (where each sample lies in its tar, with checksums and class pixels)
and `manifest.json`, written last: shards without one are unfinished.

The same index gives the same bytes: which patch goes where is decided before anything is written,
each tar is then written on its own by one process, and a tar that has its final name is whole.
"""

import io
import json
import os
import tarfile
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salakseg.classes import IGNORE_INDEX, ClassMapping, read_mask
from salakseg.console import console, progress
from salakseg.data.checks import (
    EDGE_BYTES,
    EXIF_ORIENTATION,
    is_masked,
    says_nothing_more,
)
from salakseg.data.index import Index, read_index
from salakseg.data.workers import require_workers, worker_processes
from salakseg.errors import InputError, WorkError
from salakseg.files import (
    JPEG_START,
    atomic_path,
    format_bytes,
    jpeg_is_cut_off,
    require_disk_space,
    require_folder,
    sha256_of,
    write_text,
)
from salakseg.imagery.photo import told_beside
from salakseg.imagery.raster import open_image
from salakseg.masks import PNG_START

SHARDS_FORMAT = "salakseg-shards-1"
# Names of the tars by what `index` calls a patch.
STREAMS = {
    "train": "labeled-train",
    "val": "labeled-val",
    "test": "labeled-test",
    "unlabeled": "unlabeled",
}
TAR_BLOCK = 512
GREY, RGB, RGBA = 0, 2, 6  # colour types of PNG
AGAIN = "index the data again"
# A sample's headers, paddings, .json and .mask.png are taken as this many bytes when shards are
# planned and the disk is checked; a 256-pixel mask is 1 to 6 KB.
OVERHEAD = 8 * TAR_BLOCK
SMALLEST_SHARD_MB = 1


def shard(
    *,
    index_dir: Path | str = Path("index"),
    out: Path | str = Path("shards"),
    shard_size: int = 256,
    overwrite: bool = False,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Pack the patches that `index_dir` lists into tars.

    Interrupted and called again, it goes on with the tars that are missing; called once more, it
    checks every tar against its SHA-256 and packs damaged ones again.

    Args:
        index_dir: what `index` wrote.
        out: where the tars go.
        shard_size: megabytes (10⁶ bytes) a tar, about.
        overwrite: replace shards that were made from another index or with another size.
        num_workers: processes; None: one a core; 0 or 1: none beside this one.

    Returns:
        The content of `manifest.json`.

    Raises:
        InputError: no index; a patch changed or vanished since; shards of another index are there.
        WorkError: the disk is too small, a worker process died.
    """
    index_dir, out = Path(index_dir), Path(out)
    if shard_size < SMALLEST_SHARD_MB:
        raise InputError(f"--shard-size {shard_size}: at least {SMALLEST_SHARD_MB} (megabytes)")
    require_workers(num_workers)
    index = read_index(index_dir)
    patches = index.patches[index.patches.split.isin(STREAMS)]
    if patches.empty:
        raise InputError(f"{index_dir}: lists no patch to train or score on; index the data again")
    fingerprint = _fingerprint(index_dir, index, shard_size)
    plan = _plan(patches, shard_size * 1_000_000)
    _make_room(out, fingerprint, overwrite)
    if (out / "manifest.json").exists():
        damaged = _damaged_shards(out)
        if not damaged:
            console.print(f"{out}/: all shards of this index are there and whole")
            return _read_json(out / "manifest.json")
        (out / "manifest.json").unlink()
        for name in damaged:
            console.print(f"{out / name}: missing or damaged, packed again")
            (out / name).unlink(missing_ok=True)

    todo = {name: rows for name, rows in plan.items() if not (out / name).exists()}
    needed = int(sum(rows.bytes.sum() + OVERHEAD * len(rows) for rows in todo.values()))
    require_disk_space(out, needed, "packing the patches")
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(".partial-*"):
        leftover.unlink()
    write_text(out / ".plan", fingerprint + "\n")
    console.print(
        f"{len(patches)} patches into {len(plan)} shards of at most about {shard_size} MB in {out}/"
        + (f"; {len(plan) - len(todo)} are there already" if len(todo) < len(plan) else "")
    )
    packed = _pack(index, plan, out, num_workers)

    samples = pd.concat([packed[name].samples for name in plan], ignore_index=True)
    with atomic_path(out / "samples.csv") as temporary:
        samples.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")
    left_out = [line for name in plan for line in packed[name].left_out]
    re_encoded = sum(packed[name].re_encoded for name in plan)
    pixel_sizes = patches.pixel_size.dropna()
    manifest: dict[str, Any] = {
        "format": SHARDS_FORMAT,
        "fingerprint": fingerprint,
        "classes": index.mapping.as_plain(),
        "patch_size": index.patch_size,
        "pixel_size": None if pixel_sizes.empty else float(pixel_sizes.median()),
        "counts": {
            split: int((samples.split == split).sum())
            for split in STREAMS
            if split in set(samples.split)
        },
        "re_encoded": re_encoded,
        "left_out": left_out,
        "samples_sha256": sha256_of(out / "samples.csv"),
        "shards": [
            {
                "name": name,
                "split": rows.split.iloc[0],
                "samples": len(packed[name].samples),
                "bytes": (out / name).stat().st_size,
                "sha256": packed[name].sha256,
            }
            for name, rows in plan.items()
        ],
    }
    if index.summary.get("white_level") is not None:
        manifest["white_level"] = index.summary["white_level"]
    write_text(out / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (out / ".plan").unlink()
    _report(manifest, out)
    return manifest


def _report(manifest: dict[str, Any], out: Path) -> None:
    total = sum(entry["bytes"] for entry in manifest["shards"])
    for split, count in manifest["counts"].items():
        console.print(f"  {STREAMS[split]}: {count} patches")
    if manifest["re_encoded"]:
        console.print(
            f"  {manifest['re_encoded']} images were no plain 8-bit PNG or JPEG and are stored as "
            "PNG, without loss of what the network sees"
        )
    if manifest["left_out"]:
        console.print(f"  {len(manifest['left_out'])} damaged images are left out:")
        for line in manifest["left_out"][:5]:
            console.print(f"    {line}")
    console.print(
        f"Wrote {len(manifest['shards'])} shards, {format_bytes(total)}, to {out}/. "
        "Next: salakseg train"
    )


def _fingerprint(index_dir: Path, index: Index, shard_size: int) -> str:
    """Tells apart what the shards would be made from; DATA may have moved without changing it."""
    white_level = index.summary.get("white_level")
    content = json.dumps(
        [
            SHARDS_FORMAT,
            sha256_of(index_dir / "patches.csv"),
            index.mapping.as_plain(),
            index.patch_size,
            shard_size,
            *([] if white_level is None else [white_level]),
        ]
    )
    return sha256(content.encode()).hexdigest()


def _plan(patches: pd.DataFrame, shard_bytes: int) -> dict[str, pd.DataFrame]:
    """Name of each tar → its rows. Folder by folder, as they lie on disk: read sequentially."""
    patches = patches.sort_values(["folder", "base_image", "image"], kind="stable")
    plan: dict[str, pd.DataFrame] = {}
    for split, stream in STREAMS.items():
        rows = patches[patches.split == split]
        if rows.empty:
            continue
        ends = (rows.bytes + OVERHEAD).cumsum()
        # Evenly filled: a last shard of a few samples would be a window of its own.
        count = -(-int(ends.iloc[-1]) // shard_bytes)
        number = ((ends - 1) * count // ends.iloc[-1]).astype(int)
        for place, (_, part) in enumerate(rows.groupby(number.to_numpy(), sort=True)):
            plan[f"{stream}-{place:06d}.tar"] = part
    return plan


def _make_room(out: Path, fingerprint: str, overwrite: bool) -> None:
    """Refuse, or with `overwrite` remove, shards that were made from something else."""
    tars = sorted(out.glob("*.tar")) if out.exists() else []
    manifest = out / "manifest.json"
    if manifest.exists():
        found = _read_json(manifest).get("fingerprint")
    else:
        plan = out / ".plan"
        found = plan.read_text(encoding="utf-8").strip() if plan.exists() else None
    if found == fingerprint or not (tars or manifest.exists()):
        return
    if not overwrite:
        raise InputError(
            f"{out}: holds shards of another index (or of another --shard-size); "
            "salakseg shard --overwrite replaces them"
        )
    # The manifest goes first: without it nothing takes the rest for whole.
    for path in (manifest, out / "samples.csv", *tars):
        path.unlink(missing_ok=True)


def _damaged_shards(out: Path) -> list[str]:
    """Names of the tars that are not what the manifest says, by size and SHA-256."""
    entries = _read_json(out / "manifest.json")["shards"]
    damaged = []
    with progress("Checking", len(entries)) as bar:
        for entry in entries:
            path = out / entry["name"]
            whole = path.exists() and path.stat().st_size == entry["bytes"]
            if not whole or sha256_of(path) != entry["sha256"]:
                damaged.append(entry["name"])
            bar.advance()
    return damaged


@dataclass(frozen=True)
class Packed:
    """What is in one tar: rows of samples.csv, and what did not go in or not as it was."""

    samples: pd.DataFrame
    sha256: str
    left_out: list[str]
    re_encoded: int


def _pack(
    index: Index, plan: dict[str, pd.DataFrame], out: Path, num_workers: int | None
) -> dict[str, Packed]:
    packed: dict[str, Packed] = {}
    white_level = index.summary.get("white_level")
    job = partial(_pack_one, index.data, index.mapping, white_level, out)
    total = sum(len(rows) for rows in plan.values())
    with progress("Packing", total) as bar, worker_processes(num_workers) as workers:
        for (name, rows), result in workers.as_completed(job, list(plan.items()), "packing"):
            packed[name] = result
            bar.advance(len(rows))
    return packed


def _pack_one(
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); run salakseg shard --overwrite") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged; run salakseg shard --overwrite")
    return content


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
    """

    folder: Path
    mapping: ClassMapping
    patch_size: int
    pixel_size: float | None
    samples: pd.DataFrame
    fingerprint: str
    white_level: int | None = None

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
    manifest = _read_json(manifest_path)
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
        )
    except (KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{manifest_path}: damaged ({error}); run salakseg shard --overwrite"
        ) from error
