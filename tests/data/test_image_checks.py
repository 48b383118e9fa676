"""What is in an image: whole or damaged, its size, and what of it is there."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import read_class_mapping
from salakseg.data import image_checks
from salakseg.data.image_checks import check_images, hash_files
from salakseg.data.index import index
from salakseg.data.mask_checks import check_masks
from salakseg.data.workers import Workers
from salakseg.imagery.photo import read_photo
from tests.conftest import SAMPLES
from tests.data.samples import SIDE, patch, problems, row_of

HERE = Workers(1)
MAPPING = read_class_mapping(SAMPLES / "class_mapping.csv")


def test_images_are_measured_upright_and_not_decoded_where_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("RGB", (40, 30))
    picture.save(tmp_path / "flat.png")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    names = [("turned.jpg", 0), ("gone.png", 0), ("flat.png", 0)]
    turned, gone, flat = check_images(HERE, tmp_path, names)
    assert (turned.width, turned.height) == (30, 40)
    assert turned.note == "EXIF orientation applied; a mask must fit the upright image"
    assert (flat.width, flat.height, flat.note, flat.error) == (40, 30, "", "")
    assert flat.bytes == (tmp_path / "flat.png").stat().st_size
    assert (gone.width, gone.height) == (0, 0) and "gone.png" in gone.error
    monkeypatch.setattr(image_checks, "MAX_PATCH_PIXELS", 1000)
    [large] = check_images(HERE, tmp_path, names[:1])
    assert "40×30 pixels are no patch" in large.error


def test_hashes_are_those_of_the_files() -> None:
    names = ["class_mapping.csv", "images/tile1_part001.jpg"]
    contents = [(SAMPLES / name).read_bytes() for name in names]
    assert hash_files(HERE, SAMPLES, names) == [hashlib.sha256(c).hexdigest() for c in contents]


@pytest.mark.parametrize("what", ["images", "masks"])
def test_damaged_files_are_left_out(data: Path, what: str) -> None:
    png, jpeg, empty = (patch(data, number, what) for number in range(3))
    png.write_bytes(png.read_bytes()[:-30])
    Image.open(jpeg).save(jpeg.with_suffix(".jpg"))
    jpeg.unlink()
    whole = jpeg.with_suffix(".jpg").read_bytes()
    jpeg.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")
    index(data, num_workers=1)
    kind = "unreadable image" if what == "images" else "unreadable mask"
    found = problems()
    assert set(found[found["kind"] == kind]["file"]) == {
        f"flight-1/{what}/{path.name}" for path in (png, jpeg.with_suffix(".jpg"), empty)
    }
    row = row_of(png)
    assert row["mask"] == ""
    assert row["split"] == ("exclude" if what == "images" else row["split"])


def test_bytes_after_the_end_of_an_image_do_no_harm(data: Path) -> None:
    for number, suffix in ((0, ".png"), (1, ".jpg")):
        path = patch(data, number, "images")
        picture = Image.open(path)
        path.unlink()
        picture.save(path.with_suffix(suffix))
        with open(path.with_suffix(suffix), "ab") as file:
            file.write(b"\0" * 100)
    assert index(data, num_workers=1)["labelled"] == 72
    assert problems().empty


def test_odd_bands_are_noted_with_the_rule(data: Path) -> None:
    paths = sorted((data / "flight-2/images").iterdir())
    picture = Image.open(paths[0])
    picture.convert("L").save(paths[0])
    picture.convert("RGBA").save(paths[1])
    Image.fromarray(np.full((SIDE, SIDE), 3000, np.uint16)).save(paths[2])
    index(data, num_workers=1)
    found = {(Path(str(row.file)).name, row.detail) for row in problems().itertuples()}
    assert found == {
        (paths[0].name, "2 of flight-2/: 1 band, repeated three times"),
        (paths[1].name, "1 of flight-2/: transparent where alpha is 0"),
        (paths[2].name, "1 of 96 images: 16 bits, of which 4095 is full brightness"),
    }


def turned_png(path: Path, early: bool) -> None:
    """64 × 48 pixels, to be turned by its eXIf chunk, which lies before or behind the pixels."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    if not early:
        content = path.read_bytes()
        place = content.index(b"eXIf") - 4
        length = 12 + int.from_bytes(content[place : place + 4], "big")
        chunk, end = content[place : place + length], content.index(b"IEND") - 4
        rest = content[:place] + content[place + length : end]
        path.write_bytes(rest + chunk + content[end:])


def test_a_png_that_its_tag_turns_is_recorded_as_it_is_read(tmp_path: Path) -> None:
    names = ["early.png", "late.png"]
    for name in names:
        turned_png(tmp_path / name, name == "early.png")
    for check in check_images(HERE, tmp_path, [(name, 0) for name in names]):
        assert (check.width, check.height, check.error) == (48, 64, "")
        assert "EXIF orientation applied" in check.note
    assert read_photo(tmp_path / "late.png").shape == (64, 48, 3)
    Image.new("L", (64, 48)).save(tmp_path / "mask.png")
    [check] = check_masks(HERE, tmp_path, [("mask.png", 48, 64, "", 0)], MAPPING)
    assert check.error == "64×48, the image is 48×64 upright; turn the mask"


def test_a_picture_that_ends_in_zeros_is_cut_off_and_one_with_an_appendix_is_not(
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "zeros.jpg").write_bytes(content[:-900] + bytes(900))
    (tmp_path / "more.jpg").write_bytes(content + bytes(9000))
    names = ["whole.jpg", "zeros.jpg", "more.jpg"]
    whole, zeros, more = check_images(HERE, tmp_path, [(name, 0) for name in names])
    assert "the file is cut off" in zeros.error
    assert (whole.error, more.error, more.width) == ("", "", 64)
