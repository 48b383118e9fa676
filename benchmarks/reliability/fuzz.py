"""Damage files at random and give them to every command: a right result or one clear line.

    python benchmarks/reliability/fuzz.py [--inputs 300] [--seed 0] [--only predict]

Each input is one file of a small working directory (photographs, patches, masks, rasters, tables,
shards, checkpoints, layers), cut short, overwritten, mixed up or replaced, and each command that
reads it runs on a fresh copy. A fault is a traceback, an exit code other than 0, 1 and 2, more than
one line of error, a command that does not end, or a file under its final name that is not whole.
Prints a row a fault, with the number of the input (`--first N --inputs 1` runs it alone), and exits
with 1 if there was any. A library that takes the whole process down is counted, and told, apart.
"""

import argparse
import csv
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from samples import SAMPLES, pack_samples

MOST_SECONDS = 120.0
SMALL = 64 << 10
TRAIN = ["train", "--generator", "tiny", "--encoder-weights", "none", "--device", "cpu"]
TRAIN += ["--num-steps", "4", "--batch-size", "2", "--eval-every", "2", "--no-wandb"]
PATCH = "data/images/tile1_part001_patch_000_000.png"
# File → the commands that read it.
READERS: dict[str, list[str]] = {
    "photos/images/tile1_part001.jpg": [
        "patchify photos --out cut --size 128 --num-workers 0",
        "predict photos/images/tile1_part001.jpg --model best_model.pth",
        "eval best_model.pth --data photos",
    ],
    "photos/masks/tile1_part001.png": [
        "patchify photos --out cut --size 128 --num-workers 0",
        "eval best_model.pth --data photos",
        "predict photos/images/tile1_part001.jpg --compare photos/masks/tile1_part001.png",
    ],
    "photos/class_mapping.csv": [
        "patchify photos --out cut --num-workers 0",
        "index data --out index-2 --class-mapping photos/class_mapping.csv --num-workers 0",
    ],
    "field.tif": ["predict field.tif --polygons --zones zones.gpkg"],
    "field.jgw": ["predict field.jpg"],
    "field.jpg.aux.xml": ["predict field.jpg"],
    "field.vrt": ["predict field.vrt"],
    "zones.gpkg": ["predict field.tif --zones zones.gpkg"],
    "zones.geojson": ["predict field.tif --zones zones.geojson"],
    PATCH: [
        "index data --out index-2 --num-workers 0",
        "shard --out shards-2 --num-workers 0",
        "predict data --out maps",
    ],
    PATCH.replace("images", "masks"): [
        "index data --out index-2 --num-workers 0",
        "shard --out shards-2 --num-workers 0",
    ],
    "data/layout.csv": ["index data --out index-2 --num-workers 0", "predict data --out maps"],
    "split.csv": ["index data --out index-2 --split-file split.csv --num-workers 0"],
    "labeled.txt": ["index data --out index-2 --labeled-list labeled.txt --num-workers 0"],
    "data/.patchify.json": ["patchify photos --out data --size 128 --num-workers 0"],
    "index/patches.csv": ["shard --out shards-2 --num-workers 0", "suggest --count 2"],
    "index/summary.json": ["shard --out shards-2 --num-workers 0", "suggest --count 2"],
    "shards/manifest.json": [
        " ".join(TRAIN) + " --checkpoint-dir run",
        "eval best_model.pth",
        "shard --num-workers 0",
    ],
    "shards/samples.csv": [" ".join(TRAIN) + " --checkpoint-dir run", "eval best_model.pth"],
    "shards/labeled-train-000000.tar": [
        " ".join(TRAIN) + " --checkpoint-dir run",
        "shard --num-workers 0",
    ],
    "shards/labeled-val-000000.tar": ["eval best_model.pth"],
    "checkpoints/latest_checkpoint.pth": [
        "train --resume --num-steps 6 --no-wandb",
        "checkpoints",
        "doctor",
    ],
    "checkpoints/best_model.pth": [
        "predict field.tif",
        "eval best_model.pth",
        "checkpoints",
        "suggest --count 2",
        "train --restore-from checkpoints/best_model.pth "
        "--checkpoint-dir run --generator tiny --num-steps 2 --no-wandb "
        "--batch-size 2",
    ],
    "checkpoints/log.csv": ["doctor", "train --resume --num-steps 6 --no-wandb"],
    "checkpoints/timing.csv": ["doctor"],
    "checkpoints/run.json": ["doctor"],
    "mapped/field_classes.tif": ["assess plan mapped --out a --points 40", "assess score"],
    "assessment/plan.json": ["assess score", "assess plan mapped --points 30"],
    "assessment/reference.csv": ["assess score", "assess plan mapped --points 30"],
    "assessment/points.gpkg": ["assess score assessment/points.gpkg"],
}


# ------------------------------------------------------------------ the directory


def prepare(work: Path) -> None:
    """A working directory in which every command has been run once."""
    import numpy as np
    import pyogrio
    import rasterio
    import rasterio.shutil
    import shapely
    from rasterio.transform import from_origin

    shutil.copytree(SAMPLES, work / "photos")
    pack_samples(work)
    os.chdir(work)
    names = sorted(path.stem for path in Path("data/images").iterdir())
    Path("labeled.txt").write_text("\n".join(names[: len(names) // 2]) + "\n", encoding="utf-8")
    run(TRAIN)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 400)).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 4e6, 0.1, 0.1)}
    with rasterio.open(
        "field.tif",
        "w",
        driver="GTiff",
        width=400,
        height=300,
        count=3,
        dtype="uint8",
        tiled=True,
        blockxsize=128,
        blockysize=128,
        compress="deflate",
        nodata=0,
        **place,
    ) as file:
        file.write(pixels)
    rasterio.shutil.copy("field.tif", "field.vrt", driver="VRT")
    rasterio.shutil.copy("field.tif", "field.jpg", driver="JPEG", WORLDFILE="YES")
    for path in Path().glob("field.w*"):
        path.rename("field.jgw")
    boxes = np.array(
        [
            shapely.box(500000, 3999980, 500020, 4000000),
            shapely.box(500020, 3999970, 500040, 4000000),
        ]
    )
    for name, driver in (("zones.gpkg", "GPKG"), ("zones.geojson", "GeoJSON")):
        pyogrio.raw.write(
            name,
            shapely.to_wkb(boxes),
            [np.array(["north", "south"], object)],
            ["name"],
            driver=driver,
            geometry_type="Polygon",
            crs="EPSG:32633",
        )
    run(["predict", "field.tif", "--out", "mapped", "--device", "cpu"])
    run(["assess", "plan", "mapped", "--points", "40"])
    points = json.loads(Path("assessment/plan.json").read_text(encoding="utf-8"))["sample"]
    rows = "".join(f"{one['id']},Water\n" for one in points)
    Path("assessment/reference.csv").write_text("id,reference\n" + rows, encoding="utf-8")


# ------------------------------------------------------------------ damage


def damaged(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """The content with one kind of damage, and its name."""
    kinds: list[Callable[[bytes, random.Random], bytes]] = [
        cut_short,
        overwritten,
        zeroed,
        doubled,
        bits_flipped,
        inserted,
        emptied,
        replaced,
    ]
    if is_text(content):
        kinds = [cut_short, emptied, replaced, bits_flipped] + 3 * [
            other_number,
            line_lost,
            line_doubled,
            column_lost,
            other_separator,
            other_word,
        ]
    kind = draw.choice(kinds)
    return kind(content, draw), kind.__name__.replace("_", " ")


def is_text(content: bytes) -> bool:
    """Whether lines and words make sense of it."""
    return b"\0" not in content[:1024] and all(byte < 128 for byte in content[:64])


def cut_short(content: bytes, draw: random.Random) -> bytes:
    """Only its beginning."""
    return content[: draw.randrange(len(content) + 1)]


def overwritten(content: bytes, draw: random.Random) -> bytes:
    """A stretch of random bytes in it."""
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.randbytes(draw.randrange(1, 200)) + content[start + 200 :]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    """A block of zeros in it, as a power cut leaves."""
    start = draw.randrange(len(content) + 1)
    return content[:start] + bytes(len(content[start : start + 4096])) + content[start + 4096 :]


def doubled(content: bytes, draw: random.Random) -> bytes:
    """Something of it twice."""
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[max(0, start - 500) :]


def bits_flipped(content: bytes, draw: random.Random) -> bytes:
    """A few bits wrong, half of the times in its head."""
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 9)):
        if changed:
            reach = len(changed) if draw.random() < 0.5 else min(len(changed), 512)
            changed[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def inserted(content: bytes, draw: random.Random) -> bytes:
    """Random bytes in between."""
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.randbytes(draw.randrange(1, 64)) + content[start:]


def emptied(content: bytes, draw: random.Random) -> bytes:
    """Nothing left."""
    return b""


def replaced(content: bytes, draw: random.Random) -> bytes:
    """Something else altogether."""
    return draw.choice(
        [
            b"<html><body>404 Not Found</body></html>",
            draw.randbytes(5000),
            b"null",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        ]
    )


def other_number(content: bytes, draw: random.Random) -> bytes:
    """A number that cannot be."""
    found = list(re.finditer(rb"\d+(\.\d+)?", content))
    if not found:
        return content
    where = draw.choice(found)
    value = draw.choice([b"-1", b"0", b"99999999999999999999", b"1e400", b"nan", b"", b"3.5"])
    return content[: where.start()] + value + content[where.end() :]


def line_lost(content: bytes, draw: random.Random) -> bytes:
    """Without one line."""
    lines = content.splitlines(True)
    if lines:
        del lines[draw.randrange(min(len(lines), draw.choice([1, len(lines)])))]
    return b"".join(lines)


def line_doubled(content: bytes, draw: random.Random) -> bytes:
    """One line twice."""
    lines = content.splitlines(True)
    lines.append(draw.choice(lines or [b"\n"]))
    return b"".join(lines)


def column_lost(content: bytes, draw: random.Random) -> bytes:
    """Each line without its first word."""
    return b"\n".join(line.partition(b",")[2] for line in content.splitlines())


def other_separator(content: bytes, draw: random.Random) -> bytes:
    """As a spreadsheet in another language saves it."""
    return content.replace(b",", b";")


def other_word(content: bytes, draw: random.Random) -> bytes:
    """A word in place of another."""
    found = list(re.finditer(rb"[A-Za-z_]{3,}", content))
    if not found:
        return content
    where = draw.choice(found)
    value = draw.choice(["Ärger".encode(), b"\xff\xfe", b'"', b"true", b"[]", b"../../x"])
    return content[: where.start()] + value + content[where.end() :]


# ------------------------------------------------------------------ one input


def run(words: list[str]) -> tuple[int | str, str]:
    """A command in this process: its exit code, or the traceback, and what it printed."""
    from salakseg.cli import main
    from salakseg.console import console

    out = io.StringIO()
    console.quiet = False
    try:
        with redirect_stdout(out), redirect_stderr(out):
            main(words)
        code: int | str = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        code = traceback.format_exc()
    return code, out.getvalue()


def fault_of(code: int | str, said: str, before: dict[str, str], target: str) -> str:
    """What is wrong with how a command ended, or ""."""
    if isinstance(code, str):
        return f"traceback: {code.strip().splitlines()[-1]}"
    if "Traceback" in said:
        return f"traceback printed: {said.strip().splitlines()[-1]}"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    errors = [line for line in said.splitlines() if line.startswith(("Error:", "Usage:"))]
    if code and len(errors) != 1:
        return f"exit code {code} with {len(errors)} lines of error: {said[-300:]!r}"
    files = {path.as_posix(): path for path in sorted(Path().rglob("*")) if path.is_file()}
    for name, path in files.items():
        written = name != target and before.get(name) != stamp(path)
        if written and (broken := not_whole(path)):
            return f"{name}: written and not whole: {broken}"
    return ""


def not_whole(path: Path) -> str:
    """Why a finished file is none; "" for a whole one."""
    import rasterio
    import torch
    from PIL import Image

    try:
        match path.suffix:
            case ".png" | ".jpg":
                with Image.open(path) as image:
                    image.load()
            case ".tif":
                with rasterio.open(path) as raster:
                    raster.read()
            case ".json":
                json.loads(path.read_text(encoding="utf-8"))
            case ".csv":
                with open(path, encoding="utf-8", newline="") as file:
                    widths = {len(row) for row in csv.reader(file)}
                return "" if len(widths) <= 1 else f"rows of {sorted(widths)} values"
            case ".pth":
                with zipfile.ZipFile(path) as archive:
                    assert archive.testzip() is None
                torch.load(path, weights_only=True)
            case ".tar":
                with tarfile.open(path) as tar:
                    tar.getmembers()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def stamp(path: Path) -> str:
    """Changes where the file was written."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def try_out(whole: Path, number: int, seed: int, only: str) -> list[tuple[str, str, str]]:
    """Input `number`: (file, damage and command, fault) of each command that read it."""
    draw = random.Random(f"{seed}/{number}")
    lines = {name: [line for line in READERS[name] if only in line] for name in READERS}
    targets = [name for name in lines if lines[name]]
    target = targets[number % len(targets)]
    content = (whole / target).read_bytes()
    bad, kind = damaged(content, draw)
    results = []
    for line in lines[target]:
        with tempfile.TemporaryDirectory() as temporary:
            here = Path(temporary) / "work"
            shutil.copytree(whole, here, copy_function=linked)
            (here / target).unlink()
            (here / target).write_bytes(bad)
            os.chdir(here)
            before = {p.as_posix(): stamp(p) for p in Path().rglob("*") if p.is_file()}
            code, said = run(line.split())
            results.append((target, f"{kind}; {line}", fault_of(code, said, before, target)))
            os.chdir(whole)
    return results


def linked(source: str, target: str) -> None:
    """Large files are linked: every command replaces files, none writes into one."""
    if Path(source).stat().st_size > SMALL:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


# ------------------------------------------------------------------ all of them


def worker(whole: Path, seed: int, only: str, numbers: object, results: object) -> None:
    """Try inputs as they come; a process of its own, for a library may take it down."""
    os.environ["WANDB_MODE"] = "disabled"
    warnings.simplefilter("ignore")
    os.chdir(whole)
    while (number := numbers.get()) is not None:  # type: ignore[attr-defined]
        results.put((number, try_out(whole, number, seed, only)))  # type: ignore[attr-defined]


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands that hold this text")
    parser.add_argument("--verbose", action="store_true", help="a row for each command")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        prepare(whole)
        os.chdir(temporary)
        began, process = time.monotonic(), None
        for number in range(options.first, options.first + options.inputs):
            if process is None:
                numbers, results = context.Queue(), context.Queue()
                arguments = (whole, options.seed, options.only, numbers, results)
                process = context.Process(target=worker, args=arguments, daemon=True)
                process.start()
            numbers.put(number)
            asked, rows = time.monotonic(), None
            while rows is None and process.is_alive() and time.monotonic() - asked < MOST_SECONDS:
                with suppress(Exception):
                    _, rows = results.get(timeout=1)
            if rows is None:
                ended = "ended the process" if not process.is_alive() else "did not end"
                counts[ended] += 1
                print(f"input {number}: {ended}", flush=True)
                process.kill()
                process = None
                continue
            for target, what, fault in rows:
                counts["commands"] += 1
                counts["faults"] += bool(fault)
                if fault or options.verbose:
                    print(f"input {number}: {target}: {what}: {fault or 'right'}", flush=True)
        if process is not None:
            numbers.put(None)
            process.join()
        seconds = time.monotonic() - began
    print(f"{options.inputs} inputs, {dict(counts)}, {seconds:.0f} s")
    if counts["faults"] or counts["did not end"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
