"""The folder to label in: what is in it, and the way back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from salakseg import index, patchify, shard, suggest
from salakseg.classes import read_class_mapping
from salakseg.data.index_files import read_index
from salakseg.data.shards import Shards, read_shards
from salakseg.errors import InputError
from salakseg.suggestion.export import exporting
from salakseg.suggestion.originals import find_photo
from tests.conftest import SAMPLES, SPLIT
from tests.suggestion.test_suggest import UNLABELLED, save_tiny_model


def test_what_lies_beside_the_photographs(index_dir: Path) -> None:
    found = read_index(index_dir)
    with exporting(Path("label"), found) as export:
        assert export is not None
        export.add(find_photo(found, ".", "tile6_part008"), None)
        assert not Path("label").exists()
    assert read_class_mapping(Path("label/class_mapping.csv")) == found.mapping
    split = pd.read_csv("label/split.csv").set_index("base_image").split
    assert split.to_dict() == SPLIT | {"tile6_part008": "train"}
    names = [name for name, _, _ in found.mapping.rows]
    lines = Path("label/labelmap.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == names
    lines = Path("label/labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["__ignore__", "_background_", *names[1:]]
    assert "no model has guessed yet" in Path("label/HOWTO.md").read_text(encoding="utf-8")


def test_stopped_it_leaves_nothing(index_dir: Path) -> None:
    found = read_index(index_dir)
    with pytest.raises(KeyboardInterrupt), exporting(Path("label"), found) as export:
        assert export is not None
        export.add(find_photo(found, ".", "tile6_part008"), None)
        raise KeyboardInterrupt
    assert not list(Path().iterdir())


def guessed() -> dict[str, object]:
    """What the index says of the guesses."""
    found: dict[str, object] = json.loads(Path("index/summary.json").read_text("utf-8"))["guessed"]
    return found


def paint(mask: Path, rows: slice, columns: slice, color: tuple[int, int, int]) -> int:
    """Paint a rectangle; by how many pixels that changes the mask."""
    pixels = np.array(Image.open(mask))
    changed = (pixels[rows, columns] != color).any(2).sum()
    pixels[rows, columns] = color
    Image.fromarray(pixels).save(mask)
    assert changed > 0
    return int(changed)


def test_exported_corrected_and_back(
    split_file: Path, shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    """suggest --export, one mask corrected, patchify, index, shard: the correction is learnt."""
    shutil.copytree(SAMPLES, "photos")
    for name in UNLABELLED:
        Path("photos/masks", f"{name}.png").unlink()
    patchify(Path("photos"), out=Path("DATA"), size=128, num_workers=1)
    index(Path("DATA"), split_file=split_file, num_workers=1)
    shard(num_workers=1)
    model = save_tiny_model(shards.mapping, Path("model.pth"))
    suggest(count=2, export=Path("label"), model=model, device="cpu")

    mapping = read_class_mapping(Path("label/class_mapping.csv"))
    assert mapping.as_plain() == shards.mapping.as_plain()
    howto = Path("label/HOWTO.md").read_text(encoding="utf-8")
    assert "salakseg patchify" in howto and "split.csv" in howto
    for name in UNLABELLED:
        exported = Path("label/images", f"{name}.jpg").read_bytes()
        assert exported == Path("photos/images", f"{name}.jpg").read_bytes()
    mask_path = Path("label/masks/tile6_part008.png")
    assert mask_path.read_bytes() == Path("label/guess/tile6_part008.png").read_bytes()
    changed = paint(mask_path, slice(128), slice(128), mapping.colors[1])

    # What HOWTO.md says.
    assert "Copy `masks`, `guess` into the same folders of" in howto
    for part in ("masks", "guess"):
        shutil.copytree(f"label/{part}", f"photos/{part}", dirs_exist_ok=True)
    assert patchify(Path("photos"), out=Path("DATA"), size=128, num_workers=1)["cut"] == 2
    capsys.readouterr()
    index(Path("DATA"), split_file=Path("label/split.csv"), num_workers=1)
    said = capsys.readouterr().out
    assert "2 photographs began as a model's guess" in said and f"({changed:,}) were" in said
    assert "Still as guessed: 1 of them (tile7_part009)" in said
    assert guessed() == {
        "masks": 18,
        "base_images": 2,
        "pixels": 18 * 128**2,
        "changed_pixels": changed,
        "unchanged": ["tile7_part009"],
    }
    shard(overwrite=True, num_workers=1)
    again = read_shards()
    assert len(again.split("train")) == len(shards.split("train")) + 18
    assert (again.split("val").key == shards.split("val").key).all()
    samples = again.samples.set_index("key")
    corrected = samples.loc["tile6_part008_patch_000_000"]
    assert corrected[f"pixels {mapping.names[1]}"] == 128 * 128
    with pytest.raises(InputError, match="no unlabelled patches"):
        suggest(model=model, device="cpu")


def test_a_mosaic_where_the_photograph_is_not_known(
    patch_folders: Path, split_file: Path, shards: Shards
) -> None:
    """Patches alone, with some masks: the photograph is put together, and cut again the same.

    One image is alone, and needs no cutting.
    """
    shutil.copytree(patch_folders / "images", "DATA/flight/images")
    shutil.copytree(patch_folders / "masks", "DATA/flight/masks")
    shutil.copy(patch_folders / "class_mapping.csv", "DATA/class_mapping.csv")
    known = "tile6_part008_patch_000_000.png"
    for path in Path("DATA/flight/masks").glob("tile[67]*"):
        if path.name != known:
            path.unlink()
    shutil.copy("DATA/flight/images/tile7_part009_patch_001_001.png", "DATA/flight/images/lone.png")
    split = split_file.read_text(encoding="utf-8").replace(
        "tile6_part008,unlabeled", "tile6_part008,train"
    )
    Path("split.csv").write_text(f"{split}lone,unlabeled\n", encoding="utf-8")
    index(Path("DATA"), split_file=Path("split.csv"), num_workers=1)
    shard(num_workers=1)
    model = save_tiny_model(shards.mapping, Path("model.pth"))
    suggest(count=3, export=Path("label"), model=model, device="cpu")

    # The mask that is there already is not replaced by a guess.
    truth = np.array(Image.open(patch_folders / "masks" / known).convert("RGB"))
    mask = np.array(Image.open("label/flight/masks/tile6_part008.png"))
    in_mapping = (truth[:, :, None] == np.array(shards.mapping.colors)).all(3).any(2)
    assert (mask[:128, :128] == truth)[in_mapping].all()
    color = shards.mapping.colors[1]
    changed = paint(
        Path("label/flight/masks/tile6_part008.png"), slice(130, 190), slice(128), color
    ) + paint(Path("label/flight/masks/lone.png"), slice(9), slice(9), color)
    # What HOWTO.md says.
    parts = "`flight/masks`, `flight/guess`"
    howto = Path("label/HOWTO.md").read_text(encoding="utf-8")
    assert f"copy {parts} from `label-patches` into" in howto
    assert f"Single patches are not cut: copy {parts} into" in howto
    patchify(Path("label"), out=Path("label-patches"), size=128, num_workers=1)
    names = {path.name for path in Path("label-patches/flight/masks").glob("tile*")}
    assert names == {path.name for path in Path("DATA/flight/images").glob("tile[67]*")}
    for name in sorted(names):
        one, two = (Image.open(Path(d, "flight/images", name)) for d in ("label-patches", "DATA"))
        assert np.array_equal(np.array(one), np.array(two))
    for source in ("label-patches", "label"):
        for part in ("masks", "guess"):
            shutil.copytree(f"{source}/flight/{part}", f"DATA/flight/{part}", dirs_exist_ok=True)
    index(Path("DATA"), split_file=Path("label/split.csv"), num_workers=1)
    assert (read_index(Path("index")).patches.split != "unlabeled").all()
    assert guessed() == {
        "masks": 19,
        "base_images": 3,
        "pixels": 19 * 128**2,
        "changed_pixels": changed,
        "unchanged": ["flight/tile7_part009"],
    }


def test_single_patches_go_straight_back(
    patch_folders: Path, split_file: Path, shards: Shards
) -> None:
    shutil.copytree(patch_folders, "DATA")
    for path in Path("DATA/masks").glob("tile[67]*"):
        path.unlink()
    index(Path("DATA"), split_file=split_file, num_workers=1)
    shard(num_workers=1)
    model = save_tiny_model(shards.mapping, Path("model.pth"))
    suggest(count=3, unit="patch", export=Path("label"), model=model, device="cpu")
    howto = Path("label/HOWTO.md").read_text(encoding="utf-8")
    assert "copy `masks`, `guess` into the same folders of" in howto and "patchify" not in howto
    mask = sorted(Path("label/masks").iterdir())[0]
    changed = paint(mask, slice(30), slice(30), shards.mapping.colors[1])
    for part in ("masks", "guess"):
        shutil.copytree(f"label/{part}", f"DATA/{part}", dirs_exist_ok=True)
    index(Path("DATA"), split_file=Path("label/split.csv"), num_workers=1)
    found = guessed()
    assert (found["masks"], found["changed_pixels"]) == (3, changed)
