"""Patches of more than three bands, ours and other programs': cut, indexed, packed, read again."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg import index, patchify, shard
from salakseg.data.index_files import read_index
from salakseg.data.patchify_record import RECORD
from salakseg.data.shards import Shards, read_shards
from salakseg.data.stream import Patches, TrainingStream
from salakseg.errors import InputError
from tests.data.cutting import QUIET, file_bytes
from tests.multispectral import MAPPING, ground, write_bands, write_photos

pytestmark = QUIET
BANDS = "3,2,1,5"


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """Patches of 96 pixels of two photographs with masks and one without."""
    photos = write_photos(tmp_path / "photos", 2, 1)
    patchify(photos, out=tmp_path / "cut", size=96, bands=BANDS, num_workers=1)
    return tmp_path / "cut"


def packed(data: Path, out: Path, **options: object) -> Shards:
    index(data, out=out / "index", split_by="patch", num_workers=1, **options)
    shard(index_dir=out / "index", out=out / "shards", num_workers=1)
    return read_shards(out / "shards")


def test_patches_hold_the_bands_by_one_scale_for_all_photos(cut: Path) -> None:
    assert len(list((cut / "images").glob("*.tif"))) == 12
    assert len(list((cut / "masks").glob("*.png"))) == 8
    values, _ = ground(1)
    with rasterio.open(cut / "images/plot1_patch_000_001.tif") as raster:
        assert raster.descriptions == ("red", "green", "blue", "nir")
        found = raster.read() * np.array(raster.scales)[:, None, None]
        half_a_step = np.array(raster.scales).max() / 2
    assert np.abs(found - np.trunc(values[[2, 1, 0, 4], :96, 96:])).max() <= half_a_step + 0.01
    with rasterio.open(cut / "images/plot1_patch_000_000.tif") as raster:
        assert raster.count == 5 and not raster.read(5)[:, :20].any()


def test_patchify_goes_on_by_the_same_scale_and_cuts_all_again_by_a_wider_one(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, before = tmp_path / "photos", file_bytes(cut)
    patchify(photos, out=cut, size=96, num_workers=1)  # the bands are those of the first run
    assert file_bytes(cut) == before
    values, _ = ground(7)
    write_bands(photos / "images/like.tif", values.astype(np.uint16))
    patchify(photos, out=cut, size=96, num_workers=1)
    assert before.items() <= {**file_bytes(cut), "layout.csv": before["layout.csv"]}.items()
    write_bands(photos / "images/bright.tif", (values * 2).astype(np.uint16))
    capsys.readouterr()
    patchify(photos, out=cut, size=96, num_workers=1)
    said = capsys.readouterr().out
    assert "4 photos cut with another white level, scale or class mapping" in said
    assert "Bands, in 8 bits by one scale for all photos: red 0 to" in said
    scale = json.loads((cut / RECORD).read_text(encoding="utf-8"))["band_set"]["bands"][3]
    assert scale["high"] > 2 * 4500
    fresh = tmp_path / "fresh"
    patchify(photos, out=fresh, size=96, bands=BANDS, num_workers=2)
    assert file_bytes(fresh) == file_bytes(cut)


def test_patchify_refuses_what_makes_no_set(cut: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    with pytest.raises(InputError, match=r"more than three bands have a scale of their own"):
        patchify(photos, out=tmp_path / "out", bands=BANDS, white_level=4095)
    with pytest.raises(InputError, match=r"cut with --bands 3,2,1,5, not with --bands 1,2,3,4"):
        patchify(photos, out=cut, size=96, bands="1,2,3,4", num_workers=1)
    with pytest.raises(
        InputError, match=r"must be one or three band numbers, .* or more different"
    ):
        patchify(photos, out=tmp_path / "out", bands="1,2,3,3")
    Image.new("RGB", (192, 192)).save(photos / "images/colours.png")
    with pytest.raises(InputError, match=r"colours.png: has no band 5, only 3; see --bands"):
        patchify(photos, out=tmp_path / "out", bands=BANDS, num_workers=1)


def test_the_index_measures_bands_and_batches_hold_them(cut: Path, tmp_path: Path) -> None:
    shards = packed(cut, tmp_path)
    bands = shards.band_set
    assert bands is not None and bands.names == ["red", "green", "blue", "nir"]
    assert shards.channels == 4 and read_index(tmp_path / "index").band_set == bands
    train = shards.split("train")
    batch = Patches(shards, {"train": "train"}).read("train", np.arange(len(train)))
    assert batch.images.shape == (len(train), 4, 96, 96)
    assert batch.masks is not None and bool((batch.masks[~batch.valid] == 255).all())
    assert 0 < (~batch.valid).sum() < batch.valid.numel() / 4
    # Not much else than these is in the statistics.
    seen = batch.images.permute(0, 2, 3, 1)[batch.valid].float() / 255
    assert seen.mean(0).tolist() == pytest.approx(bands.mean, abs=0.05)
    assert seen.std(0).tolist() == pytest.approx(bands.std, abs=0.05)
    # Files that patchify wrote are packed as they are.
    with tarfile.open(shards.folder / str(train.shard[0])) as tar:
        for key in train.key:
            file = tar.extractfile(f"{key}.tif")
            assert file is not None
            assert file.read() == (cut / f"images/{key}.tif").read_bytes()
    streams = [
        iter(TrainingStream(shards, 2, seed=0, unlabeled_batch_size=2, num_workers=workers))
        for workers in (0, 2)
    ]
    for (one, _), (other, _), _ in zip(*streams, range(3), strict=False):
        assert one.images.equal(other.images)


def foreign(data: Path, **options: object) -> Path:
    """Patches of reflectance and height, as another program cuts them."""
    for number in range(6):
        values, labels = ground(number, 64)
        layers = np.concatenate([values[[2, 1, 0, 4]] / 10_000, 100 + 9 * labels[None]])
        if number % 2:
            layers[:, :9] = -10_000
        nodata = {"nodata": -10_000, **options}
        write_bands(data / f"images/p{number}.tif", layers.astype(np.float32), None, **nodata)
        (data / "masks").mkdir(exist_ok=True)
        Image.fromarray(labels).save(data / f"masks/p{number}.png")
    (data / "class_mapping.csv").write_text(MAPPING, encoding="utf-8")
    return data


def test_patches_of_other_programs_by_the_numbers_of_their_bands(tmp_path: Path) -> None:
    data = foreign(tmp_path / "data")
    shards = packed(data, tmp_path, bands="1,2,3,5")
    bands = shards.band_set
    assert bands is not None and bands.names == ["band 1", "band 2", "band 3", "band 5"]
    assert bands.count == 5 and (bands.bands[3].low, bands.bands[3].high) == (95, 123)
    assert bands.bands[0].low == 0 and 0.2 < bands.bands[0].high < 0.4
    batch = Patches(shards, {"train": "train"}).read("train", np.arange(2))
    assert batch.images.shape == (2, 4, 64, 64)
    height = batch.images[:, 3].float() * (123 - 95) / 255 + 95
    assert batch.masks is not None
    for label in (0, 1, 2):
        here = height[(batch.masks == label) & batch.valid]
        assert (here - (100 + 9 * label)).abs().max() < 0.1
    with pytest.raises(InputError, match=r"holds shards of another index"):
        packed(data, tmp_path, bands="1,2,3,4")


def test_the_index_refuses_bands_that_no_patch_has(tmp_path: Path) -> None:
    data = foreign(tmp_path / "data")
    options = {"out": tmp_path / "index", "num_workers": 1}
    with pytest.raises(InputError, match="has no band 9, only 5; see --bands"):
        index(data, bands="1,2,3,9", **options)
    for number in range(6):
        (data / f"images/p{number}.tif").unlink()
        Image.new("RGB", (64, 64)).save(data / f"images/p{number}.png")
    with pytest.raises(InputError, match=r"--bands 1,2,3,4: no patch has a band 4"):
        index(data, bands="1,2,3,4", **options)


def test_the_index_refuses_mixed_sets(cut: Path, tmp_path: Path) -> None:
    data = foreign(tmp_path / "data")
    options = {"out": tmp_path / "index", "num_workers": 1}
    with pytest.raises(InputError, match=r"float32.*more than three bands may be of any type"):
        index(data, **options)
    with pytest.raises(InputError, match=r"--bands 1,2,3: more than three"):
        index(data, bands="1,2,3", **options)
    with pytest.raises(InputError, match=r"--bands 1,2,3,4: patchify has chosen"):
        index(cut, bands="1,2,3,4", **options)
    write_bands(data / "images/p0.tif", ground(0, 64)[0].astype(np.uint16), None)
    with pytest.raises(InputError, match=r"differ in their type of values: .*uint16"):
        index(data, bands="1,2,3,5", **options)
    (data / "images/p0.tif").unlink()
    Image.new("RGB", (64, 64)).save(data / "images/p0.png")
    with pytest.raises(InputError, match=r"p0.png: has red, green and blue alone"):
        index(data, bands="1,2,3,5", **options)
    (data / "images/p0.png").unlink()
    with pytest.raises(InputError, match=r"were cut with other bands or scales"):
        other = write_photos(tmp_path / "more", 1)
        values, labels = ground(0)
        write_bands(other / "images/plot0.tif", (values * 3).astype(np.uint16))
        write_bands(other / "masks/plot0.tif", labels[None], None)
        patchify(other, out=cut / "flight", size=96, bands=BANDS, num_workers=1)
        index(cut, **options)


def test_what_was_found_in_patches_is_remembered(
    cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summaries = [
        index(cut, out=tmp_path / "index", split_by="patch", num_workers=1, cache=cache)
        for cache in (False, True)
    ]
    assert summaries[0] == summaries[1] and "bands" in summaries[0]
