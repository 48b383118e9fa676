"""How the masks of a data set are understood, all the way into the shards."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.shards import read_shards
from salakseg.data.shards_pack import shard
from salakseg.data.stream import Patches, read_split
from salakseg.errors import InputError
from tests.data.samples import problems, row_of


def fill(data: Path, *masks: np.ndarray, mapping: str = "water,0 0 255\nland,0 255 0\n") -> None:
    """DATA of small patches with these masks, two patches without one besides."""
    draws = np.random.default_rng(0)
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True, exist_ok=True)
    for number in range(len(masks) + 2):
        image = draws.integers(0, 255, (*np.shape(masks[0])[:2], 3), np.uint8)
        Image.fromarray(image).save(data / f"images/p{number}_patch_000_000.png")
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(data / f"masks/p{number}_patch_000_000.png")
    text = f"class_name,class_color\n{mapping}"
    (data / "class_mapping.csv").write_text(text, encoding="utf-8")


def halves(low: int, high: int) -> np.ndarray:
    return np.repeat(np.array([low, high], np.uint8), 128).reshape(16, 16)


@pytest.mark.parametrize("save", ["grey", "JPEG", "1-bit and grey"])
def test_two_values_are_two_classes_and_so_all_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save: str
) -> None:
    masks = [halves(0, 255), halves(255, 0), np.full((16, 16), 255, np.uint8)]
    fill(tmp_path / "DATA", *masks)
    for number, path in enumerate(sorted((tmp_path / "DATA/masks").iterdir())):
        if save == "JPEG":
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
        elif save != "grey" and number != 1:
            Image.open(path).convert("1").save(path)
    index("DATA", num_workers=1)
    found = read_index(Path("index"))
    assert found.patches["pixels land"].dropna().tolist() == [128, 128, 256]
    printed = capsys.readouterr().out
    assert "0 = water (33%), 255 = land (67%) (two values, two classes)" in printed
    assert found.mapping.values == ((0, 0), (255, 1))
    shard(num_workers=1)
    shards = read_shards()
    assert shards.mapping == found.mapping
    [batch, *_] = read_split(shards, "train", 3)
    assert batch.masks is not None and set(batch.masks.unique().tolist()) == {0, 1}


def test_what_is_said_goes_before_what_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "DATA", halves(0, 255), halves(255, 0))
    index("DATA", num_workers=1, mask_values="0:land,255:water")
    assert read_index(Path("index")).patches["pixels land"].dropna().tolist() == [128, 128]
    assert "0 = land (50%), 255 = water (50%) (as said)" in capsys.readouterr().out
    mapping = tmp_path / "DATA/class_mapping.csv"
    mapping.write_text(
        "class_name,class_color,mask_value\nwater,0 0 255,255\nland,0 255 0,0\n", encoding="utf-8"
    )
    index("DATA", num_workers=1, out="by column")
    index("DATA", num_workers=1, out="by option", mask_offset=0, split_by="patch")
    of_column, of_option = (read_index(Path(f"by {name}")) for name in ("column", "option"))
    assert of_column.mapping.values == ((0, 1), (255, 0))
    assert of_option.patches["ignored"].dropna().tolist() == [128, 128]
    with pytest.raises(InputError, match="give one of them"):
        index("DATA", num_workers=1, mask_values="0:land", mask_offset=1)
    with pytest.raises(InputError, match="--mask-offset -1"):
        index("DATA", num_workers=1, mask_offset=-1)


def test_a_single_class_and_255_has_to_be_said(tmp_path: Path) -> None:
    mapping = "water,0 0 255\nland,0 255 0\nroad,255 0 0\n"
    fill(tmp_path / "DATA", halves(0, 255), halves(255, 0), mapping=mapping)
    with pytest.raises(
        InputError, match=r"numbers in masks: 2 masks hold .* --mask-values 0:water"
    ):
        index("DATA", num_workers=1)
    assert not Path("index/patches.csv").exists()
    assert index("DATA", num_workers=1, mask_values="0:water,255:road")["labelled"] == 2


def test_numbers_from_1_are_understood_and_the_doubt_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 2), halves(2, 0))
    index("DATA", num_workers=1)
    table = read_index(Path("index")).patches
    assert table[["pixels water", "pixels land"]].sum().tolist() == [256, 256]
    assert "WARNING: 0 is taken for not labelled" in capsys.readouterr().out


def test_patches_whose_mask_holds_no_class_are_unlabelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where few polygons are drawn on an orthomosaic: most patches hold none of them."""
    nothing = [np.full((16, 16), 255, np.uint8)] * 6
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 0), halves(0, 1), *nothing)
    summary = index("DATA", num_workers=1)
    assert (summary["masks"], summary["labelled"], summary["masks_without_class"]) == (9, 3, 6)
    assert summary["splits"] == {"train": 2, "val": 1, "test": 0, "unlabeled": 8, "exclude": 0}
    assert "Masks without a pixel of a class: 6;" in capsys.readouterr().out
    assert list(problems()["kind"]) == ["mask without a class"] * 6
    patches = read_index(Path("index")).patches
    assert (patches["mask"] != "").sum() == patches["ignored"].notna().sum() == 3
    shard(num_workers=1)
    samples = read_shards().samples
    assert (samples["mask_bytes"] > 0).sum() == 3


@pytest.mark.parametrize("color", [(0, 0, 0), (9, 9, 9)])
def test_masks_without_any_class_end_it(tmp_path: Path, color: tuple[int, int, int]) -> None:
    mapping = "void,0 0 0\nwater,0 0 255\nland,0 255 0\n"
    fill(tmp_path / "DATA", *[np.full((16, 16, 3), color, np.uint8)] * 3, mapping=mapping)
    text = (tmp_path / "DATA/class_mapping.csv").read_text("utf-8")
    text = text.replace("class_color\n", "class_color,ignore\n").replace(
        "void,0 0 0", "void,0 0 0,yes"
    )
    (tmp_path / "DATA/class_mapping.csv").write_text(text, encoding="utf-8")
    kind = "no class in any mask: none of the 3 masks has a pixel of water, land"
    with pytest.raises(InputError, match=kind if color == (0, 0, 0) else "wrong class mapping"):
        index("DATA", num_workers=1)
    # Data without any mask, or whose masks may not be used, are no mistake.
    Path("list.txt").touch()
    assert index("DATA", num_workers=1, labeled_list="list.txt")["labelled"] == 0
    shutil.rmtree(tmp_path / "DATA/masks")
    assert index("DATA", num_workers=1)["labelled"] == 0


def test_unknown_colours_beside_a_single_class_are_the_other_one(tmp_path: Path) -> None:
    white = np.repeat(halves(0, 255)[..., None], 3, 2)
    white[:14] = 0  # an eighth is white
    fill(tmp_path / "DATA", white, white, mapping="land,0 0 0\nhouse,255 0 0\n")
    with pytest.raises(InputError, match=r"12% of the mask pixels .*255 255 255 × 64 pixels"):
        index("DATA", num_workers=1)


def palette_mask(path: Path, rows: np.ndarray, *colors: tuple[int, int, int]) -> None:
    image = Image.fromarray(rows)
    image.putpalette(bytes(np.array(colors, np.uint8)))
    image.save(path)


def test_palettes_that_contradict_each_other(tmp_path: Path) -> None:
    fill(tmp_path / "DATA", *[halves(0, 1)] * 3)
    first, second, _ = sorted((tmp_path / "DATA/masks").iterdir())
    palette_mask(first, halves(0, 1), (9, 9, 9), (90, 90, 90))
    palette_mask(second, halves(0, 1), (90, 90, 90), (9, 9, 9))
    with pytest.raises(InputError, match=f"{second.name}: palettes that differ: 0 has another"):
        index("DATA", num_workers=1)
    palette_mask(second, halves(0, 1), (0, 255, 0), (0, 0, 255))
    with pytest.raises(InputError, match=f"{second.name}: two kinds of mask: its palette has the"):
        index("DATA", num_workers=1)
    palette_mask(second, halves(0, 1), (0, 0, 255), (0, 255, 0))
    summary = index("DATA", num_workers=1)
    kinds = {"grey numbers": 1, "palette colours": 1, "palette numbers": 1}
    assert summary["mask_kinds"] == kinds
    palette_mask(first, halves(0, 1), (0, 0, 255), (0, 255, 0))
    Image.open(first).save(first, transparency=0)
    index("DATA", num_workers=1)
    assert row_of(first)["ignored"] == 128


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "kind", [{"dtype": "int64"}, {"dtype": "float64"}, {"dtype": "uint8", "compress": "lerc"}]
)
def test_masks_that_only_gdal_reads(tmp_path: Path, kind: dict[str, str]) -> None:
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 0))
    for path in (tmp_path / "DATA/masks").iterdir():
        rows = np.asarray(Image.open(path)).astype(kind["dtype"])
        path.unlink()
        with rasterio.open(path.with_suffix(".tif"), "w", "GTiff", 16, 16, 1, **kind) as file:
            file.write(rows, 1)
    assert index("DATA", num_workers=1)["labelled"] == 2
    assert set(problems()["kind"]) == set()


def test_what_is_transparent_is_neither_counted_nor_packed(tmp_path: Path) -> None:
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 0), halves(0, 1))
    images = sorted((tmp_path / "DATA/images").iterdir())
    for path, hidden in zip(images, (4, 16, 0, 16), strict=False):
        pixels = np.dstack([np.asarray(Image.open(path)), np.full((16, 16), 255, np.uint8)])
        pixels[:hidden, :, 3] = 0
        Image.fromarray(pixels).save(path)
    summary = index("DATA", num_workers=1)
    assert (summary["labelled"], summary["splits"]["exclude"]) == (2, 2)
    assert row_of(images[0])["ignored"] == 64
    assert set(problems()["kind"]) == {"kind of image", "nothing in the image"}
    shard(num_workers=1)
    shards = read_shards()
    for split in ("train", "val"):
        for name in shards.split(split).key:
            place = shards.split(split).key.tolist().index(name)
            batch = Patches(shards, {split: split}).read(split, np.array([place]))
            assert batch.masks is not None
            row = shards.split(split).iloc[place]
            assert (batch.masks == 255).sum() == row["ignored"] == (64 if "p0" in name else 0)
    # Another picture of the same size under the same name: what the mask holds is another thing.
    pixels[:4, :, 3], pixels[4:, :, 3] = 255, 255
    Image.fromarray(pixels).save(images[0])
    index("DATA", num_workers=1)
    assert row_of(images[0])["ignored"] == 0


@pytest.mark.parametrize("said", [{}, {"mask_offset": 0}])
def test_jpeg_masks_of_row_numbers_end_it(tmp_path: Path, said: dict[str, int]) -> None:
    mapping = "water,0 0 255\nland,0 255 0\nroad,255 0 0\n"
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 2), halves(2, 0), mapping=mapping)
    for path in (tmp_path / "DATA/masks").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(InputError, match=r"p0_patch_000_000\.jpg: numbers .* again, as PNG"):
        index("DATA", num_workers=1, **said)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_0_that_is_nodata_has_to_be_said_beside_a_single_class(tmp_path: Path) -> None:
    """As `gdal_rasterize -a_nodata 0` writes them."""
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 0))
    for path in (tmp_path / "DATA/masks").iterdir():
        rows = np.asarray(Image.open(path))
        path.unlink()
        kind = {"dtype": "uint8", "nodata": 0}
        with rasterio.open(path.with_suffix(".tif"), "w", "GTiff", 16, 16, 1, **kind) as file:
            file.write(rows, 1)
    with pytest.raises(InputError, match=r"gdal_edit\.py -unsetnodata FILE\.tif"):
        index("DATA", num_workers=1)


def told_beside(image: Path, kind: str, hole: np.ndarray) -> None:
    """What is not there, in a file beside the image: all, or where it is black."""
    if kind == "mask":
        with rasterio.open(f"{image}.msk", "w", "GTiff", 16, 16, 1, dtype="uint8") as file:
            file.write(np.where(hole, 0, 255).astype(np.uint8), 1)
            file.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": 2 for band in (1, 2, 3)})
        return
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>0</NoDataValue></PAMRasterBand>'
        for band in (1, 2, 3)
    )
    Path(f"{image}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>", encoding="utf-8")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", ["mask", "nodata"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_what_files_beside_a_patch_say_is_not_there(tmp_path: Path, kind: str, suffix: str) -> None:
    fill(tmp_path / "DATA", halves(0, 1), halves(1, 0), halves(0, 1))
    hole = np.zeros((16, 16), bool)
    hole[:, :8] = True
    for path in sorted((tmp_path / "DATA/images").iterdir()):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[hole] = 0
        path.unlink()
        Image.fromarray(pixels).save(path.with_suffix(suffix), quality=100, subsampling=0)
    index("DATA", num_workers=1)
    assert read_index(Path("index")).patches["ignored"].dropna().tolist() == [0, 0, 0]
    for path in sorted((tmp_path / "DATA/images").iterdir()):
        told_beside(path, kind, hole)
    # The images are the same files as before: what is new stands beside them.
    summary = index("DATA", num_workers=1)
    table = read_index(Path("index")).patches
    least = 128 if kind == "mask" or suffix == ".png" else 64
    assert (table["ignored"].dropna() >= least).all()
    shard(num_workers=1)
    shards = read_shards()
    [batch, *_] = read_split(shards, "train", summary["splits"]["train"])
    assert batch.valid is not None and batch.masks is not None
    assert (batch.masks[~batch.valid] == 255).all()
    assert (~batch.valid).sum(dim=(1, 2)).min() >= least
