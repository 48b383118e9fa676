"""index/ → shards/: every usable patch packed into WebDataset tars for sequential reads.

The same index gives the same bytes: which patch goes where is decided before anything is written,
each tar is then written on its own by one process (`shards_tar`), and a tar that has its final name
is whole. What comes out is described in `shards`.
"""

import json
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from salakseg.console import console, progress
from salakseg.data.index_files import Index, read_index
from salakseg.data.problems import plural
from salakseg.data.shards import SHARDS_FORMAT, STREAMS, read_manifest
from salakseg.data.shards_tar import PARTS, PLACE, TAR_BLOCK, Packed, Patch, keys_of, pack_tar
from salakseg.data.workers import require_workers, worker_processes
from salakseg.errors import InputError
from salakseg.files import (
    atomic_path,
    format_bytes,
    require_disk_space,
    sha256_of,
    write_text,
)

# A sample's headers, paddings, .json and .mask.png are taken as this many bytes when shards are
# planned and the disk is checked; a 256-pixel mask is 1 to 6 KB.
OVERHEAD = 8 * TAR_BLOCK
SMALLEST_SHARD_MB = 1
# What the .json of a sample tells of its patch.
DESCRIBED = ("folder", "base_image", "row", "column", "x", "y", "pixel_size")


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
            return read_manifest(out / "manifest.json")
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
        f"{plural(len(patches), 'patch', 'patches')} into {plural(len(plan), 'shard')} of at most "
        f"about {shard_size} MB in {out}/"
        + (f"; {len(plan) - len(todo)} are there already" if len(todo) < len(plan) else "")
    )
    packed = _pack(index, plan, out, num_workers)

    tables = [_samples(name, rows, packed[name]) for name, rows in plan.items()]
    samples = pd.concat(tables, ignore_index=True)
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
                "samples": len(packed[name].places),
                "bytes": (out / name).stat().st_size,
                "sha256": packed[name].sha256,
            }
            for name, rows in plan.items()
        ],
    }
    if index.summary.get("white_level") is not None:
        manifest["white_level"] = index.summary["white_level"]
    if bands := index.summary.get("bands"):
        manifest["bands"] = bands
    if area := index.summary.get("area"):
        manifest["apart_pixels"] = area["apart_pixels"]
    write_text(out / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (out / ".plan").unlink()
    _report(manifest, out)
    return manifest


def _report(manifest: dict[str, Any], out: Path) -> None:
    total = sum(entry["bytes"] for entry in manifest["shards"])
    for split, count in manifest["counts"].items():
        console.print(f"  {STREAMS[split]}: {plural(count, 'patch', 'patches')}")
    if manifest["re_encoded"]:
        console.print(
            f"  {plural(manifest['re_encoded'], 'image')}, no plain 8-bit PNG or JPEG, stored as "
            f"{'TIFF' if manifest.get('bands') else 'PNG'}, without loss of what the network sees"
        )
    if manifest["left_out"]:
        console.print(f"  {plural(len(manifest['left_out']), 'damaged image')} left out:")
        for line in manifest["left_out"][:5]:
            console.print(f"    {line}")
    console.print(
        f"Wrote {plural(len(manifest['shards']), 'shard')}, {format_bytes(total)}, to {out}/. "
        "Next: salakseg train"
    )


def _fingerprint(index_dir: Path, index: Index, shard_size: int) -> str:
    """Tells apart what the shards would be made from; DATA may have moved without changing it."""
    scale = [index.summary.get(name) for name in ("white_level", "bands")]
    content = json.dumps(
        [
            SHARDS_FORMAT,
            sha256_of(index_dir / "patches.csv"),
            index.mapping.as_plain(),
            index.patch_size,
            shard_size,
            *(one for one in scale if one is not None),
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
            keys = keys_of(part.folder, part.image)
            plan[f"{stream}-{place:06d}.tar"] = part.assign(key=keys)
    return plan


def _make_room(out: Path, fingerprint: str, overwrite: bool) -> None:
    """Refuse, or with `overwrite` remove, shards that were made from something else."""
    tars = sorted(out.glob("*.tar")) if out.exists() else []
    manifest = out / "manifest.json"
    if manifest.exists():
        found = read_manifest(manifest).get("fingerprint")
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
    entries = read_manifest(out / "manifest.json")["shards"]
    damaged = []
    with progress("Checking", len(entries)) as bar:
        for entry in entries:
            path = out / entry["name"]
            whole = path.exists() and path.stat().st_size == entry["bytes"]
            if not whole or sha256_of(path) != entry["sha256"]:
                damaged.append(entry["name"])
            bar.advance()
    return damaged


def _pack(
    index: Index, plan: dict[str, pd.DataFrame], out: Path, num_workers: int | None
) -> dict[str, Packed]:
    packed: dict[str, Packed] = {}
    white_level = index.summary.get("white_level")
    job = partial(pack_tar, index.data, index.mapping, white_level, index.band_set, out)
    planned = [(name, _patches(rows)) for name, rows in plan.items()]
    total = sum(len(patches) for _, patches in planned)
    with progress("Packing", total) as bar, worker_processes(num_workers) as workers:
        for (name, patches), result in workers.as_completed(job, planned, "packing"):
            packed[name] = result
            bar.advance(len(patches))
    return packed


def _patches(rows: pd.DataFrame) -> list[Patch]:
    """What a worker is told of the patches of a tar: plain values, None where one is not known."""
    known = [
        [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        for column in (rows[name].astype(object) for name in DESCRIBED)
    ]
    described = [dict(zip(DESCRIBED, values, strict=True)) for values in zip(*known, strict=True)]
    columns = (rows[name].tolist() for name in ("image", "mask", "bytes", "width", "height"))
    return list(map(Patch, rows.key, *columns, described))


def _samples(name: str, rows: pd.DataFrame, packed: Packed) -> pd.DataFrame:
    """Rows of samples.csv: the index's columns, and where image and mask lie in the tar."""
    rows = rows[rows.key.isin(packed.places.keys())]
    counts = [name for name in rows.columns if name == "ignored" or name.startswith("pixels ")]
    samples = rows[["key", "split", "folder", "base_image", *counts]].reset_index(drop=True)
    samples.insert(0, "shard", name)
    places = pd.DataFrame(
        [packed.places[key] for key in samples.key],
        columns=[f"{part}_{what}" for part in PARTS for what in PLACE],
        dtype="int64",
    )
    return pd.concat([samples, places], axis=1)
