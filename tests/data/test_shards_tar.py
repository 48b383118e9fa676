"""What goes into a tar of shards/, as it is or as PNG, and what is left out."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image

from salakseg import index, shard
from salakseg.data.shards import read_shards
from salakseg.data.shards_tar import damage_of, plain_extension, tar_header


def test_an_image_that_fails_its_checksums_is_left_out_and_named(
    patch_folders: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(patch_folders, data)
    victim = data / "images" / "tile1_part001_patch_000_000.png"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1  # inside the pixels: header and end mark stay right
    victim.write_bytes(content)
    index(data, num_workers=1)
    manifest = shard(num_workers=1)
    assert manifest["left_out"] == [
        "images/tile1_part001_patch_000_000.png: a part of the PNG fails its checksum"
    ]
    assert sum(manifest["counts"].values()) == 71


def test_images_that_are_no_plain_png_or_jpeg_are_stored_as_png(tmp_path: Path) -> None:
    images, masks = tmp_path / "data" / "images", tmp_path / "data" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    wide = np.full((64, 64), 65535, np.uint16)
    Image.fromarray(wide).save(images / "a_patch_000_000.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(images / "b_patch_000_000.tif")
    turned = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(images / "c_patch_000_000.jpg", exif=exif)
    for name in "abc":
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(masks / f"{name}_patch_000_000.png")
    index(tmp_path / "data", num_workers=1)
    manifest = shard(num_workers=1)
    assert manifest["re_encoded"] == 3


def test_all_16_bit_patches_of_a_set_are_read_by_one_white_level(tmp_path: Path) -> None:
    # 12 bits: divided by 257 they would be black; each by its own values, a dark one too bright.
    for name, value, suffix in (("a", 4095, "png"), ("b", 900, "png"), ("c", 2048, "tif")):
        for kind, pixels in (
            ("images", np.full((64, 64), value, np.uint16)),
            ("masks", np.full((64, 64), value % 2, np.uint8)),
        ):
            path = tmp_path / "data" / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    assert index(tmp_path / "data", num_workers=1)["white_level"] == 4095
    assert shard(num_workers=1)["white_level"] == read_shards(Path("shards")).white_level == 4095
    values = set()
    for path in Path("shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".png") and not member.name.endswith(".mask.png"):
                    with Image.open(io.BytesIO(tar.extractfile(member).read())) as image:
                        values.add(np.asarray(image)[0, 0, 0].item())
    assert values == {255, 56, 128}


@pytest.mark.parametrize(
    ("save", "extension"),
    [
        (lambda path: Image.new("RGBA", (8, 8)).save(path), "png"),
        (lambda path: Image.new("LA", (8, 8)).save(path), None),
        (lambda path: Image.new("RGB", (8, 8)).save(path, transparency=(0, 0, 0)), None),
        (lambda path: wide(path, 3), None),
        (lambda path: wide(path, 4), None),
    ],
)
def test_only_what_the_stream_decodes_is_stored_as_it_is(tmp_path: Path, save, extension) -> None:
    save(tmp_path / "a.png")
    assert plain_extension((tmp_path / "a.png").read_bytes()) == extension


def wide(path: Path, bands: int) -> None:
    with rasterio.open(path, "w", "PNG", 8, 8, bands, dtype="uint16") as file:
        file.write(np.full((bands, 8, 8), 40_000, np.uint16))


def test_names_with_dots_and_the_same_name_in_two_folders_get_keys_of_their_own(
    tmp_path: Path,
) -> None:
    for folder in ("v1.0", "v1_0"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / folder / kind).mkdir(parents=True)
            Image.fromarray(np.zeros((64, 64), np.uint8)).save(
                tmp_path / "data" / folder / kind / "DJI.0001_patch_000_000.png"
            )
    index(tmp_path / "data", num_workers=1)
    shard(num_workers=1)
    samples = read_shards().samples
    assert samples.key.is_unique
    assert not samples.key.str.contains(".", regex=False).any()
    assert isinstance(samples, pd.DataFrame)


def test_damage_is_found_in_cut_files(patch_folders: Path) -> None:
    whole = next((patch_folders / "images").glob("*.png")).read_bytes()
    assert damage_of(whole) is None
    assert plain_extension(whole) == "png"
    assert damage_of(whole[: len(whole) // 2]) is not None
    assert damage_of(b"\xff\xd8\xff\xe0" + bytes(5000)) == "the JPEG is cut off"


@pytest.mark.parametrize(
    "name", ["a.png", "folder/a.mask.png", "x" * 96 + ".png", "x" * 97 + ".png", "straße/ä.json"]
)
def test_headers_are_those_of_tarfile(name: str) -> None:
    for size in (0, 1, 511, 123_456_789, 8**11 - 1, 8**11):
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o444
        member.uname = member.gname = "salakseg"
        assert tar_header(name, size) == member.tobuf(encoding="utf-8")


def test_tars_are_those_of_tarfile(shards_dir: Path) -> None:
    for path in shards_dir.glob("*.tar"):
        again = io.BytesIO()
        with tarfile.open(path) as tar, tarfile.open(fileobj=again, mode="w") as other:
            for member in tar:
                other.addfile(member, tar.extractfile(member))
        assert again.getvalue() == path.read_bytes()
