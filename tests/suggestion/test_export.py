"""The folder to label in: what is in it, and the way back."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from salakseg import index, patchify, shard, suggest
from salakseg.classes import read_class_mapping
from salakseg.data.index import read_index
from salakseg.data.shards import Shards, read_shards
from salakseg.errors import InputError
from salakseg.suggestion.export import exporting
from salakseg.suggestion.photos import find_photo
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


def test_exported_corrected_and_back(split_file: Path, shards: Shards) -> None:
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
    mask = np.array(Image.open(mask_path))
    mask[:128, :128] = mapping.colors[1]
    Image.fromarray(mask).save(mask_path)

    # What HOWTO.md says.
    shutil.copytree("label/masks", "photos/masks", dirs_exist_ok=True)
    patchify(Path("photos"), out=Path("DATA"), size=128, num_workers=1)
    index(Path("DATA"), split_file=Path("label/split.csv"), num_workers=1)
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
    """Patches alone, with some masks: the photograph is put together, and cut again the same."""
    shutil.copytree(patch_folders / "images", "DATA/flight/images")
    shutil.copytree(patch_folders / "masks", "DATA/flight/masks")
    shutil.copy(patch_folders / "class_mapping.csv", "DATA/class_mapping.csv")
    known = "tile6_part008_patch_000_000.png"
    for path in Path("DATA/flight/masks").glob("tile[67]*"):
        if path.name != known:
            path.unlink()
    split = split_file.read_text(encoding="utf-8").replace(
        "tile6_part008,unlabeled", "tile6_part008,train"
    )
    Path("split.csv").write_text(split, encoding="utf-8")
    index(Path("DATA"), split_file=Path("split.csv"), num_workers=1)
    shard(num_workers=1)
    model = save_tiny_model(shards.mapping, Path("model.pth"))
    suggest(count=2, export=Path("label"), model=model, device="cpu")

    # The mask that is there already is not replaced by a guess.
    truth = np.array(Image.open(patch_folders / "masks" / known).convert("RGB"))
    mask = np.array(Image.open("label/flight/masks/tile6_part008.png"))
    in_mapping = (truth[:, :, None] == np.array(shards.mapping.colors)).all(3).any(2)
    assert (mask[:128, :128] == truth)[in_mapping].all()
    patchify(Path("label"), out=Path("label-patches"), size=128, num_workers=1)
    names = {path.name for path in Path("label-patches/flight/masks").iterdir()}
    assert names == {path.name for path in Path("DATA/flight/images").glob("tile[67]*")}
    for name in sorted(names):
        one, two = (Image.open(Path(d, "flight/images", name)) for d in ("label-patches", "DATA"))
        assert np.array_equal(np.array(one), np.array(two))
    shutil.copytree("label-patches/flight/masks", "DATA/flight/masks", dirs_exist_ok=True)
    index(Path("DATA"), split_file=Path("label/split.csv"), num_workers=1)
    assert (read_index(Path("index")).patches.split != "unlabeled").all()
