import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import webdataset
from PIL import Image

from salakseg import index, shard
from salakseg.classes import read_mask
from salakseg.data.index import read_index
from salakseg.data.shards import damage_of, plain_extension, read_shards
from salakseg.errors import InputError, WorkError
from salakseg.files import sha256_of


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def test_every_usable_patch_is_packed_once(shards_dir: Path, index_dir: Path) -> None:
    shards = read_shards(shards_dir)
    counts = shards.samples.split.value_counts().to_dict()
    assert counts == {"train": 36, "val": 18, "unlabeled": 18}
    assert shards.samples.key.is_unique
    assert shards.patch_size == 128


def test_plain_webdataset_reads_them(shards_dir: Path, index_dir: Path) -> None:
    indexed = read_index(index_dir)
    rows = indexed.patches.set_index("image")
    tars = sorted(str(path) for path in shards_dir.glob("labeled-train-*.tar"))
    assert len(tars) > 1
    seen = 0
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        described = json.loads(sample["json"])
        assert "." not in sample["__key__"]
        image = indexed.data / described["image"]
        assert sample["png"] == image.read_bytes()
        expected = read_mask(indexed.data / rows.loc[described["image"]]["mask"], indexed.mapping)
        with Image.open(__import__("io").BytesIO(sample["mask.png"])) as mask:
            assert (np.asarray(mask) == expected.labels).all()
        seen += 1
    assert seen == 36


def test_unlabelled_shards_hold_no_masks(shards_dir: Path) -> None:
    for path in shards_dir.glob("unlabeled-*.tar"):
        with tarfile.open(path) as tar:
            assert not [name for name in tar.getnames() if name.endswith(".mask.png")]


def test_same_bytes_with_more_workers_and_after_an_interruption(
    shards_dir: Path, index_dir: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(shards_dir, half)
    # As a kill leaves it: some shards, a temporary one, no manifest.
    fingerprint = json.loads((half / "manifest.json").read_text(encoding="utf-8"))["fingerprint"]
    (half / ".plan").write_text(fingerprint + "\n", encoding="utf-8")
    for name in ("manifest.json", "samples.csv", "labeled-train-000000.tar"):
        (half / name).unlink()
    (half / ".partial-1-labeled-train-000000.tar").write_bytes(b"half a shard")
    shard(index_dir=index_dir, out=half, shard_size=1, num_workers=2)
    assert contents(half) == contents(shards_dir)


def test_called_again_it_packs_damaged_shards_again(
    shards_dir: Path, index_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    victim = copy / "labeled-val-000000.tar"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    shard(index_dir=index_dir, out=copy, shard_size=1, num_workers=1)
    assert contents(copy) == contents(shards_dir)


def test_another_index_needs_overwrite(
    shards_dir: Path, patch_folders: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    index(patch_folders, num_workers=1)
    with pytest.raises(InputError, match="--overwrite"):
        shard(out=copy, shard_size=1, num_workers=1)
    assert contents(copy) == contents(shards_dir)
    manifest = shard(out=copy, shard_size=1, num_workers=1, overwrite=True)
    assert manifest["counts"]["train"] + manifest["counts"]["val"] == 72


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="salakseg index"):
        shard(index_dir=tmp_path / "index")


def test_a_patch_that_changed_since(patch_folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patch_folders, data)
    index(data, num_workers=1)
    victim = next((data / "images").iterdir())
    victim.write_bytes(victim.read_bytes() + b"more")
    with pytest.raises(InputError, match=f"{victim.name}.*index the data again"):
        shard(num_workers=1)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_a_mask_that_changed_since(patch_folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(patch_folders, data)
    index(data, num_workers=1)
    victim = data / "masks" / "tile1_part001_patch_000_000.png"
    with Image.open(victim) as mask:
        mask.crop((0, 0, 100, 128)).save(victim)
    with pytest.raises(InputError, match=f"{victim.name}.*index the data again"):
        shard(num_workers=1)


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


def test_disk_too_small(index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WorkError, match="make room"):
        shard(index_dir=index_dir, num_workers=1)
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no finished shards"),
        (lambda folder: (folder / "manifest.json").write_text("{", "utf-8"), "damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}", "utf-8"), "not written by"),
        (lambda folder: (folder / "samples.csv").write_text("x\n", "utf-8"), "damaged"),
        (lambda folder: (folder / "labeled-val-000000.tar").unlink(), "missing"),
        (lambda folder: (folder / "labeled-val-000000.tar").write_bytes(b"x"), "1 bytes long"),
    ],
)
def test_spoilt_shards_are_named(shards_dir: Path, tmp_path: Path, spoil, message: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards_dir, copy)
    spoil(copy)
    with pytest.raises(InputError, match=message):
        read_shards(copy)


def test_no_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="salakseg shard"):
        read_shards(tmp_path / "shards")


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
