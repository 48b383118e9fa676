"""patchify: photos and masks in, patches out that hold every pixel once more, exactly."""

import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.data import patchify as patchify_module
from salakseg.data import patchify_cut
from salakseg.data.patchify import find_photos, patchify
from salakseg.data.patchify_check import CutOptions, check_photos
from salakseg.data.patchify_cut import Part, patch_places
from salakseg.data.workers import Workers
from salakseg.errors import InputError, WorkError
from salakseg.imagery.photo import read_photo
from salakseg.imagery.raster import open_image
from salakseg.imagery.reading import Reading
from salakseg.masks import Stored, StoredMask, open_mask
from tests.data.cutting import (
    MAPPING,
    NAMES,
    QUIET,
    SAMPLES,
    file_bytes,
    labels_of,
    layout,
    photos_and_masks,
    reassembled,
    write_geotiff,
    write_mask,
)

GEO = Path(__file__).parents[3] / "shared" / "geo"
pytestmark = QUIET


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return photos_and_masks(tmp_path / "data")


@pytest.mark.parametrize(
    ("length", "places"),
    [(256, [0]), (100, [0]), (257, [0, 1]), (512, [0, 256]), (600, [0, 256, 344])],
)
def test_the_last_patch_is_moved_inwards(length: int, places: list[int]) -> None:
    assert patch_places(length, 256) == places


def test_photos_and_masks_come_back_from_their_patches(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    counts = patchify(data, out=out, num_workers=1)
    # 384×320 pixels are two patches by two.
    assert counts == {"photos": 3, "cut": 3, "patches": 12, "masked": 8, "nodata": 0}
    photos = reassembled(out, "images", read_photo)
    masks = reassembled(out, "masks", labels_of)
    for name in NAMES:
        assert np.array_equal(photos[name], read_photo(data / "images" / f"{name}.jpg"))
        assert np.array_equal(masks[name], labels_of(data / "masks" / f"{name}.png"))
    assert (out / "class_mapping.csv").read_bytes() == (data / "class_mapping.csv").read_bytes()
    assert sorted(path.name for path in (out / "flight1").iterdir()) == ["images", "layout.csv"]
    last = layout(out)[3]
    assert last["patch"] == "tile1_part001_patch_001_001"
    assert (last["row"], last["column"], last["x"], last["y"]) == ("1", "1", "128", "64")
    assert (last["source"], last["crs"], last["pixel_size"]) == ("images/tile1_part001.jpg", "", "")


def test_the_number_of_workers_changes_nothing(data: Path, tmp_path: Path) -> None:
    patchify(data, out=tmp_path / "one", num_workers=1)
    patchify(data, out=tmp_path / "two", num_workers=2)
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two")


def test_small_photos_give_small_patches(data: Path, tmp_path: Path) -> None:
    patchify(data, out=tmp_path / "out", size=350, num_workers=1)
    rows = [row for row in layout(tmp_path / "out") if row["base_image"] == NAMES[0]]
    assert [(row["x"], row["width"], row["height"]) for row in rows] == [
        ("0", "350", "320"),
        ("34", "350", "320"),
    ]


def test_running_again_does_what_is_missing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patchify(data, out=out, num_workers=1)
    whole = file_bytes(out)
    assert patchify(data, out=out, num_workers=1)["cut"] == 0
    (out / "masks" / f"{NAMES[1]}_patch_001_000.png").unlink()
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    assert file_bytes(out) == whole


def test_an_interrupted_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patchify(data, out=tmp_path / "whole", num_workers=1)
    real, written = patchify_cut._write_png, []

    def write_until_interrupted(path: Path, *rest: object) -> None:
        if len(written) == 10:
            raise KeyboardInterrupt
        written.append(path)
        real(path, *rest)

    monkeypatch.setattr(patchify_cut, "_write_png", write_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        patchify(data, out=tmp_path / "out", num_workers=1)
    monkeypatch.setattr(patchify_cut, "_write_png", real)
    # A run that is killed cannot clean up.
    (tmp_path / "out" / "masks" / f".partial-1-{NAMES[1]}_patch_000_000.png").write_bytes(b"")
    assert patchify(data, out=tmp_path / "out", num_workers=1)["cut"] == 2
    assert file_bytes(tmp_path / "out") == file_bytes(tmp_path / "whole")


def test_a_changed_photo_is_cut_again_and_leaves_no_old_patches(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patchify(data, out=out, num_workers=1)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        path = data / kind / f"{NAMES[0]}.{suffix}"
        with Image.open(path) as image:
            image.crop((0, 0, 300, 200)).save(path)
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    patchify(data, out=tmp_path / "fresh", num_workers=1)
    assert file_bytes(out) == file_bytes(tmp_path / "fresh")


def test_guesses_are_cut_as_their_masks_are(data: Path, tmp_path: Path) -> None:
    """Guesses come, change and go after a first run without any: only their photos are cut."""
    out = tmp_path / "out"
    patchify(data, out=out, num_workers=1)
    without = file_bytes(out)
    shutil.copytree(data / "masks", data / "guess")
    guess = data / "guess" / f"{NAMES[1]}.png"
    guess.rename(tmp_path / "guess.png")
    alone = write_mask(data / "flight1" / "guess" / "tile3_part005.png", np.zeros((9, 9), np.uint8))
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    assert not (out / alone.parent.relative_to(data)).exists()  # it has no mask
    (tmp_path / "guess.png").rename(guess)
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    assert {path: file for path, file in file_bytes(out).items() if "guess" not in path} == without
    for path in sorted((out / "masks").iterdir()):
        assert path.read_bytes() == (out / "guess" / path.name).read_bytes()
    os.utime(guess, (1e9, 1e9))
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    (out / "guess" / f"{NAMES[0]}_patch_001_000.png").unlink()
    assert patchify(data, out=out, num_workers=1)["cut"] == 1
    assert patchify(data, out=out, num_workers=1)["cut"] == 0
    shutil.rmtree(data / "guess")
    assert patchify(data, out=out, num_workers=1)["cut"] == 2
    assert file_bytes(out) == without


def test_patches_of_other_sizes_or_photos_are_not_mixed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patchify(data, out=out, num_workers=1)
    with pytest.raises(InputError, match=r"patches of 256 pixels, --size is 128"):
        patchify(data, out=out, size=128, num_workers=1)
    moved = data.rename(tmp_path / "moved")
    assert patchify(moved, out=out, num_workers=1)["cut"] == 0  # the same photos elsewhere
    other = tmp_path / "other"
    shutil.copytree(moved, other)
    os.utime(other / "images" / f"{NAMES[0]}.jpg", (time.time(), 1e9))
    with pytest.raises(InputError, match="another photo"):
        patchify(other, out=out, num_workers=1)
    (moved / "flight1" / "images" / "tile3_part005.jpg").unlink()
    with pytest.raises(InputError, match=r"not in .*flight1/images/tile3_part005\.jpg"):
        patchify(moved, out=out, num_workers=1)
    (out / ".patchify.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        patchify(moved, out=out, num_workers=1)
    (out / ".patchify.json").unlink()
    with pytest.raises(InputError, match="not written by this command"):
        patchify(moved, out=out, num_workers=1)


def write_masks_of_all_kinds(folder: Path) -> None:
    """The same rows 0 … 5, 117×90, in each encoding that `read_mask` knows."""
    folder.mkdir(parents=True)
    squares = np.random.default_rng(0).integers(0, 6, (10, 13), dtype=np.uint8)
    rows = squares.repeat(9, 0).repeat(9, 1)  # large enough for flat colours in a JPEG
    table = np.array([color for _, color, _ in MAPPING.rows], np.uint8)
    colors = table[rows]
    stray = colors.copy()
    stray[:20, :20] = (1, 2, 3)
    alpha = np.where(rows == 5, 0, 255).astype(np.uint8)
    by_color, by_row = Image.fromarray(5 - rows), Image.fromarray(rows)
    by_color.putpalette(table[::-1].tobytes())
    by_row.putpalette(np.arange(200, 218, dtype=np.uint8).tobytes())
    kinds = {
        "rgb": Image.fromarray(stray),
        "rgba": Image.fromarray(np.dstack([stray, alpha])),
        "grey": Image.fromarray(rows),
        "grey16": Image.fromarray(rows.astype(np.uint16)),
        "palette_colors": by_color,
        "palette_rows": by_row,
    }
    for kind, picture in kinds.items():
        picture.save(folder / f"{kind}_png.png")
        picture.save(folder / f"{kind}_tif.tif")
    Image.fromarray(np.where(rows == 5, -1, rows).astype(np.int32)).save(folder / "grey32.tif")
    Image.fromarray(colors).save(folder / "jpeg.jpg")
    for name, driver in (("grey4_png.png", "PNG"), ("grey4_tif.tif", "GTiff")):
        with rasterio.open(
            folder / name, "w", driver, 117, 90, 1, dtype="uint8", nbits=4
        ) as raster:
            raster.write(rows, 1)


def test_every_kind_of_mask_is_read_alike_before_and_after(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_masks_of_all_kinds(data / "masks")
    paths = [path for path in sorted((data / "masks").iterdir()) if path.suffix != ".xml"]
    shutil.copy(SAMPLES / "class_mapping.csv", data)
    (data / "images").mkdir()
    for path in paths:
        Image.new("RGB", (117, 90)).save(data / "images" / f"{path.stem}.png")
    patchify(data, out=out, size=50, num_workers=1)
    masks = reassembled(out, "masks", labels_of)
    assert len(masks) == len(paths) == 16
    for path in paths:
        whole = labels_of(path)
        assert len(np.unique(whole)) >= 5, path.name
        assert np.array_equal(masks[path.stem], whole), path.name


def test_a_mask_a_pixel_off_is_cropped_with_its_photo(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "masks" / f"{NAMES[0]}.png"
    with Image.open(path) as mask:
        mask.crop((0, 0, 383, 322)).save(path)
    patchify(data, out=tmp_path / "out", num_workers=1)
    rows = [row for row in layout(tmp_path / "out") if row["base_image"] == NAMES[0]]
    assert max(int(row["x"]) + int(row["width"]) for row in rows) == 383
    assert max(int(row["y"]) + int(row["height"]) for row in rows) == 320
    assert "photo 384×320, mask 383×322" in capsys.readouterr().out


def test_exif_orientation_is_applied(data: Path, tmp_path: Path) -> None:
    path = data / "images" / f"{NAMES[0]}.jpg"
    mask = data / "masks" / f"{NAMES[0]}.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif, quality=95)
    with pytest.raises(InputError, match=r"384×320 .*320×384 once turned upright"):
        patchify(data, out=tmp_path / "out", num_workers=1)
    assert not (tmp_path / "out").exists()
    with Image.open(mask) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(mask)
    patchify(data, out=tmp_path / "out", num_workers=1)
    upright = reassembled(tmp_path / "out", "images", read_photo)[NAMES[0]]
    assert upright.shape == (384, 320, 3)
    assert np.array_equal(upright, read_photo(path))


def test_geotiffs_keep_their_place_and_leave_out_nodata(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 130, 200), dtype=np.uint16)
    pixels[0, :, :64] = 0  # one band at the nodata value is no nodata
    pixels[:, 64:, 64:] = 0
    write_geotiff(tmp_path / "data/images/field.tif", pixels, nodata=0, blockysize=3)
    counts = patchify(tmp_path / "data", out=tmp_path / "out", size=64, num_workers=1)
    assert (counts["patches"], counts["nodata"]) == (6, 6)
    rows = layout(tmp_path / "out")
    assert {row["crs"] for row in rows} == {"EPSG:32748"}
    assert {row["transform"] for row in rows} == {"0.1 0.0 400000.0 0.0 -0.1 9150000.0"}
    assert float(rows[0]["pixel_size"]) == pytest.approx(0.1, rel=1e-3)
    whole = read_photo(tmp_path / "data/images/field.tif")
    back = reassembled(tmp_path / "out", "images", read_photo)["field"]
    assert np.array_equal(back[:64], whole[:64])
    assert np.array_equal(back[:, :64], whole[:, :64])
    assert (back[66:, 72:] == 7).all()


def test_a_geotiff_is_never_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 300, 70), dtype=np.uint8)
    write_geotiff(tmp_path / "data/images/a.tif", pixels)
    write_geotiff(tmp_path / "data/masks/a.tif", pixels[:1] % 6)
    heights: dict[str, list[int]] = defaultdict(list)

    @contextmanager
    def watched_mask(path: Path) -> Iterator[StoredMask]:
        with open_mask(path) as stored:

            def read(top: int, bottom: int) -> Stored:
                heights["masks"].append(bottom - top)
                return stored.read(top, bottom)

            yield replace(stored, read=read)

    def watched(reading: Reading, window: rasterio.windows.Window) -> Any:
        heights["images"].append(window.height)
        return stored_of(reading, window)

    stored_of = Reading.stored
    monkeypatch.setattr(patchify_cut, "open_mask", watched_mask)
    monkeypatch.setattr(Reading, "stored", watched)
    patchify(tmp_path / "data", out=tmp_path / "out", size=64, num_workers=1)
    assert heights == {"images": [64] * 5, "masks": [64] * 5}


@pytest.mark.skipif(not GEO.is_dir(), reason="needs ../shared/geo")
def test_real_orthomosaics(tmp_path: Path) -> None:
    (tmp_path / "data" / "images").mkdir(parents=True)
    for path in GEO.glob("*.tif"):
        shutil.copyfile(path, tmp_path / "data" / "images" / path.name)
    patchify(tmp_path / "data", out=tmp_path / "out", num_workers=2)
    back = reassembled(tmp_path / "out", "images", read_photo)
    for path in GEO.glob("*.tif"):
        with open_image(path) as source:
            whole, valid = source.read(0, 0, source.height, source.width)
        assert np.array_equal(back[path.stem][valid], whole[valid]), path.name
    sizes = {row["base_image"]: float(row["pixel_size"]) for row in layout(tmp_path / "out")}
    # World Mercator near 14.6° N: the nominal 10 cm are 6.3 % less in area on the ground.
    nominal = 0.10009765625 * 0.0999755859375
    assert sizes["river_mercator_10cm"] ** 2 / nominal == pytest.approx(1 - 0.063, abs=5e-4)
    assert sizes["savanna_utm_2cm"] == pytest.approx(0.018, rel=1e-3)


def test_what_cannot_be_cut_is_one_clear_line(data: Path, tmp_path: Path) -> None:
    def refuses(message: str, data: Path = data, out: Path = tmp_path / "out") -> None:
        with pytest.raises(InputError, match=message):
            patchify(data, out=out, num_workers=1)
        assert not (tmp_path / "out").exists()

    refuses("no such folder", data=tmp_path / "missing")
    refuses("give the folder above it", data=data / "images")
    refuses("lies inside", out=data / "patches")
    refuses("lies inside", out=data)
    refuses("lies inside", out=data.parent)
    write_mask(data / "images" / f"{NAMES[0]}.PNG", np.zeros((4, 4), np.uint8))
    refuses(rf"{NAMES[0]}\.jpg: two photos of one name: .*{NAMES[0]}\.PNG is there too")
    (data / "images" / f"{NAMES[0]}.PNG").unlink()
    lonely = write_mask(data / "masks" / "nobody.png", np.zeros((4, 4), np.uint8))
    refuses(r"nobody\.png: a mask without a photo")
    lonely.unlink()
    guess = write_mask(data / "guess" / f"{NAMES[0]}.png", np.zeros((310, 384), np.uint8))
    refuses(rf"guess.{NAMES[0]}\.png is 384×310 pixels, its photo .*{NAMES[0]}\.jpg 384×320")
    guess.unlink()
    mask = write_mask(data / "masks" / f"{NAMES[0]}.png", np.zeros((310, 384), np.uint8))
    refuses(rf"masks.{NAMES[0]}\.png is 384×310 pixels, its photo .*{NAMES[0]}\.jpg 384×320")
    mask.unlink()
    mask = write_mask(mask.with_suffix(".jpg"), np.zeros((320, 384, 3), np.uint8))
    (data / "class_mapping.csv").unlink()
    refuses(r"a JPEG mask.*put class_mapping\.csv into")
    mask.unlink()
    (data / "images" / "broken.jpg").write_bytes(b"\xff\xd8no photo")
    refuses(r"broken\.jpg: .*cannot be read")


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (Image.new("CMYK", (384, 320)), "CMYK images"),
        (Image.new("F", (384, 320), 0.5), "numbers that are not whole"),
    ],
)
def test_masks_that_hold_no_classes_are_refused(
    data: Path, tmp_path: Path, picture: Image.Image, what: str
) -> None:
    (data / "masks" / f"{NAMES[0]}.png").unlink()
    picture.save(data / "masks" / f"{NAMES[0]}.tif")
    with pytest.raises(InputError, match=f"{NAMES[0]}.*{what}"):
        patchify(data, out=tmp_path / "out", num_workers=1)


def test_what_a_mask_says_of_nodata_is_cut_along(data: Path, tmp_path: Path) -> None:
    """Wide numbers, a palette with transparency: the patches say the same, pixel by pixel."""
    rows = np.random.default_rng(0).integers(0, 6, (320, 384))
    (data / "masks" / f"{NAMES[0]}.png").unlink()
    write_geotiff(data / "masks" / f"{NAMES[0]}.tif", rows[None].astype(np.float64), nodata=4)
    picture = Image.fromarray(rows.astype(np.uint8))
    picture.putpalette(bytes(np.array([color for _, color, _ in MAPPING.rows], np.uint8)))
    picture.save(data / "masks" / f"{NAMES[1]}.png", transparency=2)
    patchify(data, out=tmp_path / "out", size=128, num_workers=1)
    back = reassembled(tmp_path / "out", "masks", labels_of)
    for name, hidden in zip(NAMES, (4, 2), strict=True):
        np.testing.assert_array_equal(
            back[name], np.where(rows == hidden, 255, MAPPING.row_to_index[rows])
        )


def test_a_truncated_photo_stops_with_its_name_and_keeps_what_is_done(
    data: Path, tmp_path: Path
) -> None:
    path = data / "images" / f"{NAMES[1]}.jpg"
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(InputError, match=rf"{NAMES[1]}\.jpg"):
        patchify(data, out=tmp_path / "out", num_workers=1)
    record = json.loads((tmp_path / "out" / ".patchify.json").read_text(encoding="utf-8"))
    assert (
        list(record["photos"])
        == ["flight1/images/tile3_part005.jpg", "images/" + NAMES[0] + ".jpg"][1:]
    )


def test_a_full_disk_is_told_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(WorkError, match="cutting 3 photos needs"):
        patchify(data, out=tmp_path / "out", num_workers=1)
    assert not (tmp_path / "out").exists()


def test_processes_share_out_one_large_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of it are cut apart; what comes out is what one process makes of it."""
    pixels = np.random.default_rng(0).integers(1, 256, (3, 333, 200), dtype=np.uint8)
    pixels[:, 100:140, 50:] = 0
    write_geotiff(tmp_path / "data/images/a.tif", pixels, nodata=0)
    write_mask(tmp_path / "data/masks/a.png", pixels[0] % 6)
    monkeypatch.setattr(patchify_module, "SMALLEST_PART", 10_000)
    parts: list[tuple[int, int]] = []
    as_completed = Workers.as_completed

    def watched(workers: Workers, job: Any, items: list[Part], what: str) -> Any:
        parts.extend((part.first, part.end) for part in items)
        return as_completed(workers, job, items, what)

    monkeypatch.setattr(Workers, "as_completed", watched)
    counts = [
        patchify(tmp_path / "data", out=tmp_path / f"out{workers}", size=32, num_workers=workers)
        for workers in (1, 2)
    ]
    assert parts == [(0, 11), (0, 2), (2, 5), (5, 8), (8, 11)]
    assert counts[0] == counts[1]
    assert file_bytes(tmp_path / "out1") == file_bytes(tmp_path / "out2")


def test_photos_that_are_decoded_whole_are_not_shared_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchify_module, "SMALLEST_PART", 1000)
    [photo] = [photo for photo in find_photos(data) if photo.folder != "."]
    workers = Workers(4)
    checked = check_photos(workers, [photo], CutOptions(64))[photo.source]
    assert checked.whole
    assert patchify_module._parts(checked, 64, 1000, workers) == [(0, 5)]
    assert len(patchify_module._parts(checked._replace(whole=False), 64, 1000, workers)) == 5
