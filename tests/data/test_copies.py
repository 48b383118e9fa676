"""The same picture on both sides of a split."""

import shutil
from pathlib import Path

from salakseg.data.index import index
from salakseg.data.index_files import read_index
from tests.data.samples import problems


def test_copies_of_held_out_patches_are_left_out(data: Path) -> None:
    index(data, num_workers=1)
    patches = read_index(Path("index")).patches
    held = data / patches[patches["split"] == "val"]["image"].iloc[0]
    shutil.copy(held, data / "flight-2/images/copy_patch_000_000.png")
    roles = Path("index/base_images.csv").read_text(encoding="utf-8")
    line = "flight-2,copy,unlabeled" + "," * (roles.splitlines()[0].count(",") - 2)
    Path("split.csv").write_text(roles + line + "\n", encoding="utf-8")
    index(data, num_workers=1, split_file=Path("split.csv"))
    patches = read_index(Path("index")).patches
    assert list(patches[patches["base_image"] == "copy"]["split"]) == ["exclude"]
    assert list(problems()["kind"]) == ["same bytes as a held-out patch"]
