"""patchify run again: what is done stays, what was cut otherwise is cut again or refused."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from salakseg.data import patchify_cut, patchify_record
from salakseg.data.index import index
from salakseg.data.patchify import patchify
from salakseg.data.patchify_record import RECORD
from salakseg.errors import InputError
from tests.data.cutting import (
    NAMES,
    QUIET,
    file_bytes,
    layout,
    photos_and_masks,
    write_geotiff,
    write_mask,
)

pytestmark = QUIET
RNG = np.random.default_rng(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return photos_and_masks(tmp_path / "data")


def sixteen_bits(path: Path, most: int) -> None:
    write_geotiff(path, RNG.integers(most // 2, most, (3, 64, 64), dtype=np.uint16))


def brightest(out: Path) -> dict[str, int]:
    return {
        row["base_image"]: int(np.asarray(Image.open(out / f"images/{row['patch']}.png")).max())
        for row in layout(out)
    }


def test_one_white_level_for_all_photos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    sixteen_bits(data / "images/dark.tif", 1000)
    write_mask(data / "images/eight.png", RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    patchify(data, out=out, size=64, num_workers=1)
    assert brightest(out)["dark"] > 240
    assert {row["base_image"]: row["white_level"] for row in layout(out)} == {
        "dark": "1023",
        "eight": "",
    }
    assert "1 photo of 16 bits: 1023 is full brightness" in capsys.readouterr().out
    eight = (out / "images/eight_patch_000_000.png").stat().st_mtime_ns
    # A brighter one comes: the dark one may not stay as bright.
    sixteen_bits(data / "images/light.tif", 4000)
    assert patchify(data, out=out, size=64, num_workers=1)["cut"] == 2
    assert "cut with another white level" in capsys.readouterr().out
    assert (out / "images/eight_patch_000_000.png").stat().st_mtime_ns == eight
    assert {row["white_level"] for row in layout(out)} == {"4095", ""}
    assert brightest(out)["dark"] < 64 < 240 < brightest(out)["light"]
    assert patchify(data, out=out, size=64, num_workers=1)["cut"] == 0
    patchify(data, out=tmp_path / "fresh", size=64, num_workers=2)
    assert file_bytes(out) == file_bytes(tmp_path / "fresh")
    for name in ("dark", "light"):
        write_mask(data / f"masks/{name}.png", RNG.integers(0, 3, (64, 64)).astype(np.uint8))
    patchify(data, out=out, size=64, num_workers=1)
    # Both lie on the same ground.
    found = index(out, out=tmp_path / "index", split_by="base", num_workers=1)
    assert found["white_level"] == 4095


def test_a_white_level_that_is_said(tmp_path: Path) -> None:
    sixteen_bits(tmp_path / "data/images/a.tif", 1000)
    patchify(tmp_path / "data", out=tmp_path / "out", size=64, white_level=2000, num_workers=1)
    assert {row["white_level"] for row in layout(tmp_path / "out")} == {"2000"}
    assert 120 < brightest(tmp_path / "out")["a"] < 130
    for wrong in (0, 65536):
        with pytest.raises(InputError, match=rf"--white-level {wrong}"):
            patchify(tmp_path / "data", out=tmp_path / "other", white_level=wrong)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"nodata": 0}, {"nodata": 255}, r"cut with --nodata 0, not with --nodata 255"),
        ({}, {"bands": "3,2,1"}, r"cut without --bands, not with --bands 3,2,1"),
        ({"bands": [3, 2, 1]}, {"bands": "1"}, r"cut with --bands 3,2,1, not with --bands 1"),
        ({"gsd": 0.02}, {"gsd": 0.025}, r"cut with --gsd 0\.02, not with --gsd 0\.025"),
        ({}, {"white_level": 4095}, r"cut without --white-level, not with --white-level 4095"),
    ],
)
def test_other_options_are_refused(
    data: Path, tmp_path: Path, first: dict[str, Any], then: dict[str, Any], message: str
) -> None:
    patchify(data, out=tmp_path / "out", num_workers=1, **first)
    before = file_bytes(tmp_path / "out")
    with pytest.raises(InputError, match=message):
        patchify(data, out=tmp_path / "out", num_workers=1, **then)
    assert file_bytes(tmp_path / "out") == before


def test_options_that_are_not_said_are_those_of_the_first_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options: dict[str, Any] = {"bands": "3,2,1", "gsd": 0.02}
    patchify(data, out=tmp_path / "out", num_workers=1, **options)
    whole = file_bytes(tmp_path / "out")
    (tmp_path / "out" / "images" / f"{NAMES[0]}_patch_001_000.png").unlink()
    assert patchify(data, out=tmp_path / "out", num_workers=1)["cut"] == 1
    assert "as in the first run, with --bands 3,2,1 --gsd 0.02" in capsys.readouterr().out
    assert file_bytes(tmp_path / "out") == whole


def test_options_of_a_run_that_cut_nothing_bind_nobody(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    write_geotiff(tmp_path / "data/images/a.tif", pixels)
    with pytest.raises(InputError, match="no band 7"):
        patchify(tmp_path / "data", out=tmp_path / "out", bands="7", num_workers=1)
    patchify(tmp_path / "data", out=tmp_path / "out", bands="1", num_workers=1)


def test_what_an_older_version_cut_is_cut_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    patchify(data, out=out, num_workers=1)
    whole, record = file_bytes(out), json.loads((out / RECORD).read_text(encoding="utf-8"))
    photos = {source: by["files"] for source, by in record["photos"].items()}
    old = {"format": "salakseg-patchify-1", "data": record["data"], "size": 256, "photos": photos}
    (out / RECORD).write_text(json.dumps(old), encoding="utf-8")
    assert patchify(data, out=out, num_workers=1)["cut"] == 3
    assert "older version" in capsys.readouterr().out
    assert file_bytes(out) == whole


def test_smeared_masks_are_cut_again_by_another_class_mapping(data: Path, tmp_path: Path) -> None:
    mask = data / "masks" / f"{NAMES[0]}.png"
    with Image.open(mask) as image:
        image.convert("RGB").save(mask.with_suffix(".jpg"), quality=95)
    mask.unlink()
    patchify(data, out=tmp_path / "out", num_workers=1)
    mapping = data / "class_mapping.csv"
    lines = mapping.read_text(encoding="utf-8").splitlines()
    name, color, *rest = lines[2].split(",")
    red, green, blue = map(int, color.split())
    lines[2] = ",".join([name, f"{red} {green} {blue ^ 1}", *rest])
    mapping.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert patchify(data, out=tmp_path / "out", num_workers=1)["cut"] == 1
    assert patchify(data, out=tmp_path / "out", num_workers=1)["cut"] == 0


def test_patches_are_on_the_disk_before_they_are_called_done(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one flush a patch, and none after the record that says that they are there."""
    events: list[str] = []
    write, text, sync = patchify_cut._write_png, patchify_record.write_text, os.fsync

    def write_png(path: Path, *rest: Any, **options: Any) -> None:
        events.append("patch")
        write(path, *rest, **options)

    def write_text(path: Path, content: str) -> None:
        events.append(path.name)
        text(path, content)

    def fsync(descriptor: int) -> None:
        events.append("fsync")
        sync(descriptor)

    def flush(paths: list[Path]) -> None:
        assert all(path.is_file() for path in paths)
        events.extend(["flush"] * len(paths))

    monkeypatch.setattr(patchify_cut, "_write_png", write_png)
    monkeypatch.setattr(patchify_record, "write_text", write_text)
    monkeypatch.setattr(patchify_record, "flush", flush)
    monkeypatch.setattr(os, "fsync", fsync)
    patchify(data, out=tmp_path / "out", num_workers=1)
    assert events.count("patch") == events.count("flush") == 20
    assert events.count("fsync") < 10
    last = len(events) - 1 - events[::-1].index("flush")
    assert "patch" not in events[last:] and events[last:].count(RECORD) == 1
