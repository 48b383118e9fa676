"""What is in a mask: its size, its classes, and the guess that it began as."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data.image_checks import check_images
from salakseg.data.index import index
from salakseg.data.mask_checks import check_masks, compare_guesses, counted
from salakseg.data.workers import Workers
from salakseg.errors import InputError
from tests.conftest import SAMPLES
from tests.data.samples import SIDE, patch, problems, row_of

HERE = Workers(1)
MAPPING = read_class_mapping(SAMPLES / "class_mapping.csv")


def test_masks_are_counted_by_class() -> None:
    [path] = (SAMPLES / "masks").glob("tile1*")
    labels = read_mask(path, MAPPING).labels
    name, (height, width) = f"masks/{path.name}", labels.shape
    items = [(name, width, height, "", 0), (name, 9, 9, "", 0)]
    right, wrong = check_masks(HERE, SAMPLES, items, MAPPING)
    counts = np.bincount(labels.ravel(), minlength=256)
    assert (right.pixels, right.ignored) == (counts[: MAPPING.num_classes].tolist(), counts[255])
    assert right.error == ""
    assert (wrong.problem, wrong.pixels) == ("mask of another size", ())


def test_pixels_that_a_guess_had_otherwise(tmp_path: Path) -> None:
    rows = np.zeros((8, 8), np.uint8)
    Image.fromarray(rows).save(tmp_path / "mask.png")
    rows[:2, :3] = 1
    Image.fromarray(rows).save(tmp_path / "guess.png")
    pairs = [("mask.png", "mask.png"), ("guess.png", "mask.png")]
    assert [check.changed for check in compare_guesses(HERE, tmp_path, pairs, MAPPING)] == [0, 6]


def test_mask_of_another_size_is_not_used(data: Path) -> None:
    Image.open(patch(data)).crop((0, 0, 63, 64)).save(patch(data))
    assert index(data, num_workers=1)["labelled"] == 71
    assert row_of(patch(data))["mask"] == ""
    found = problems().iloc[0]
    assert found["kind"] == "mask of another size"
    assert "63×64, the image is 64×64" in found["detail"]


def test_unknown_colours_are_ignored_and_named(data: Path) -> None:
    pixels = np.asarray(Image.open(patch(data))).copy()
    pixels[:5, :4] = (225, 170, 40)
    Image.fromarray(pixels).save(patch(data))
    index(data, num_workers=1)
    assert row_of(patch(data))["ignored"] >= 20
    found = problems().iloc[0]
    assert found["kind"] == "unknown colour"
    assert "225 170 40 × 20 pixels (nearest: Water)" in found["detail"]


def test_row_numbers_out_of_range(data: Path) -> None:
    pixels = np.ones((SIDE, SIDE), np.uint8)
    pixels[0, :7] = 9
    Image.fromarray(pixels).save(patch(data))
    summary = index(data, num_workers=1)
    assert summary["mask_kinds"] == {"RGB colours": 71, "grey numbers": 1}
    assert row_of(patch(data))["pixels Water"] == SIDE * SIDE - 7
    assert "9 × 7 pixels (the classes' numbers are 0, 1, 2, …)" in problems().iloc[0]["detail"]


def test_jpeg_masks_are_counted_and_warned(data: Path) -> None:
    path = patch(data, 5)
    Image.open(path).save(path.with_suffix(".jpg"), quality=90)
    path.unlink()
    index(data, num_workers=1)
    found = problems()
    assert "JPEG mask" in set(found["kind"])
    assert "given to the nearest" in found[found["kind"] == "JPEG mask"].iloc[0]["detail"]


def test_a_mask_that_could_mean_two_things_has_to_be_said(data: Path) -> None:
    (data / "class_mapping.csv").write_text(
        "class_name,class_color\nsoil,2 2 2\ntree,1 1 1\nroad,0 0 0\n", encoding="utf-8"
    )
    for number in range(72):
        pixels = np.full((SIDE, SIDE), number % 3, np.uint8)
        pixels[0] = 1
        Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(patch(data, number))
    Image.fromarray(np.asarray(Image.open(patch(data)))[..., 0]).save(patch(data))
    with pytest.raises(InputError, match=f"{patch(data).name}: numbers in masks: .* masks as RGB"):
        index(data, num_workers=1)
    assert index(data, num_workers=1, mask_offset=0)["labelled"] == 72


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_not_there_in_a_patch_has_no_class(tmp_path: Path) -> None:
    picture = np.full((8, 8, 4), 200, np.uint8)
    picture[:2, :, 3] = 0
    Image.fromarray(picture).save(tmp_path / "rgba.png")
    Image.fromarray(picture[..., [0, 3]]).save(tmp_path / "grey.png")
    palette = Image.fromarray((picture[..., 3] > 0).astype(np.uint8))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "palette.png", transparency=0)
    with rasterio.open(tmp_path / "m.tif", "w", "GTiff", 8, 8, 3, dtype="uint8", nodata=0) as file:
        file.write(np.moveaxis(picture[..., :3] * (picture[..., 3:] > 0), 2, 0))
    names = ["rgba.png", "grey.png", "palette.png", "m.tif"]
    checks = check_images(HERE, tmp_path, [(name, 0) for name in names])
    assert [(check.width, check.nodata) for check in checks] == [(8, 16)] * 4
    Image.fromarray(np.tile(np.array(MAPPING.colors[1], np.uint8), (8, 8, 1))).save(
        tmp_path / "mask.png"
    )
    for name in names:
        [check] = check_masks(HERE, tmp_path, [("mask.png", 8, 8, name, 1)], MAPPING)
        assert (check.pixels[1], check.ignored, check.unknown) == (48, 16, 0)
    Image.fromarray(np.full((8, 8), 2, np.uint8)).save(tmp_path / "mask.png")
    [check] = check_masks(HERE, tmp_path, [("mask.png", 8, 8, "rgba.png", 1)], MAPPING)
    check = counted(check, MAPPING)
    assert (check.kind, check.pixels[1], check.ignored) == ("grey numbers", 48, 16)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_tiff_mask_that_its_tag_turns_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for name, tags in (("turned.tif", {"exif": exif}), ("plain.tif", {})):
        Image.new("L", (8, 8)).save(tmp_path / name, **tags)
    items = [("turned.tif", 8, 8, "", 0), ("plain.tif", 8, 8, "", 0)]
    assert [check.turned for check in check_masks(HERE, tmp_path, items, MAPPING)] == [True, False]
