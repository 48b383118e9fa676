"""Few labelled images: their ground in blocks, with a margin that no side uses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from salakseg import index, patchify, shard
from salakseg.data.index_files import read_index
from salakseg.data.shards import read_shards
from salakseg.data.split_area import correlation_range
from salakseg.errors import InputError
from salakseg.evaluation.shard_split import ShardSplit
from tests.data.cutting import QUIET, write_geotiff
from tests.data.labelling import on_ground, write_layer

pytestmark = QUIET
SIZE = 32


def field(data: Path, across: int = 16, down: int = 12, name: str = "field") -> Path:
    """An orthomosaic of so many patches, with noise, so that none is a copy of another."""
    pixels = np.random.default_rng(len(name)).integers(
        0, 255, (3, down * SIZE, across * SIZE), np.uint8
    )
    write_geotiff(data / "images" / f"{name}.tif", pixels)
    return data


def stripes(path: Path, across: int = 16, down: int = 12, wide: int = 3) -> Path:
    """Polygons over all of `field`, `wide` patches each, of two classes in turn."""
    step = wide * SIZE
    areas, names = [], []
    for row in range(0, down, wide):
        for column in range(0, across, wide):
            x, y = column * SIZE, row * SIZE
            areas.append(on_ground(shapely.box(x, y, x + step, y + step)))
            names.append("Road" if (row + column) // wide % 2 else "Water")
    return write_layer(path, areas, what=names)


def gaps(patches: pd.DataFrame) -> np.ndarray:
    """Pixels between the edges of each patch of validation and each other used one."""
    held = patches[patches["split"] == "val"]
    used = patches[patches["split"].isin(("train", "unlabeled"))]
    apart = [
        np.maximum(
            np.abs(np.subtract.outer(held[axis].to_numpy(int), used[axis].to_numpy(int))) - SIZE, 0
        )
        for axis in ("x", "y")
    ]
    return np.hypot(*apart)


def test_one_orthomosaic_is_split_without_a_leak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No pixel of training within a patch of validation; both classes on both sides."""
    data = field(tmp_path / "data")
    labels = stripes(tmp_path / "labels.gpkg", across=8)  # the left half
    patchify(data, out="DATA", labels=labels, size=SIZE, num_workers=1)
    summary = index("DATA", num_workers=1)
    assert summary["split_by"] == "area"
    area = summary["area"]
    assert area["block_size"] >= 2 and area["margin_patches"] > 0
    patches = read_index(Path("index")).patches
    splits = summary["splits"]
    assert splits["val"] >= 8 and splits["train"] >= 20 and splits["unlabeled"] >= 60
    assert gaps(patches).min() >= SIZE and gaps(patches).min() == area["apart_pixels"]
    assert area["apart_metres"] == pytest.approx(0.1 * area["apart_pixels"], rel=0.01)
    for split in ("train", "val"):
        assert min(summary["class_pixels"][split].values()) > 0
    assert set(patches[patches["mask"] == ""]["split"]) <= {"unlabeled", "exclude"}
    problems = pd.read_csv("index/problems.csv")
    margin = problems[problems["kind"] == "in the margin of a held-out block"]
    assert len(margin) == area["margin_patches"]
    out = " ".join(capsys.readouterr().out.split())
    assert "Training and validation lie at least 32 pixels (3.2 m on the ground) apart" in out
    assert "Split by blocks of ground" in out
    with Image.open("index/preview.png") as preview:
        colors = {color for _, color in preview.getcolors(1 << 24) or ()}
    assert {(46, 125, 50), (230, 120, 20), (197, 225, 165), (200, 200, 200)} <= colors


def test_what_eval_says_of_such_scores(tmp_path: Path) -> None:
    data = field(tmp_path / "data")
    patchify(data, out="DATA", labels=stripes(tmp_path / "l.gpkg"), size=SIZE, num_workers=1)
    index("DATA", num_workers=1)
    shard(num_workers=1)
    shards = read_shards(Path("shards"))
    assert shards.apart_pixels == SIZE
    (note,) = ShardSplit(shards, "val").notes
    assert "in training too, at least 32 pixels from these patches" in note


def test_the_same_data_and_seed_give_the_same_split(tmp_path: Path) -> None:
    data = field(tmp_path / "data")
    patchify(data, out="DATA", labels=stripes(tmp_path / "l.gpkg"), size=SIZE, num_workers=1)
    index("DATA", out="one", num_workers=1)
    index("DATA", out="two", num_workers=2)
    index("DATA", out="three", num_workers=1, seed=1)
    one, two, three = (Path(name, "patches.csv").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_two_orthomosaics_of_the_same_ground(tmp_path: Path) -> None:
    """Of another date, too: what is held out of the one is not learnt from the other."""
    data = field(field(tmp_path / "data", name="may"), name="june")
    stripes(tmp_path / "labels.gpkg")
    patchify(data, out="DATA", labels=tmp_path / "labels.gpkg", size=SIZE, num_workers=1)
    area = index("DATA", num_workers=1)["area"]
    patches = read_index(Path("index")).patches
    assert (patches["split"] == "val").any() and (patches["split"] == "train").any()
    assert gaps(patches).min() >= SIZE and area["apart_pixels"] == gaps(patches).min()
    with pytest.raises(InputError, match="too few blocks of ground"):
        index("DATA", block_size=100, num_workers=1)  # each is one block


def test_two_small_images_of_the_same_ground_are_refused(tmp_path: Path) -> None:
    data = field(field(tmp_path / "data", 2, 1, "may"), 2, 1, "june")
    labels = stripes(tmp_path / "labels.gpkg", 2, 1, 1)
    patchify(data, out="DATA", labels=labels, size=SIZE, num_workers=1)
    with pytest.raises(InputError, match="or say --split-by base, whose sides show the same"):
        index("DATA", num_workers=1)
    assert index("DATA", num_workers=1, split_by="base")["splits"]["val"] == 2
    layout = Path("DATA/layout.csv")
    pd.read_csv(layout, dtype=str).assign(crs="", transform="").to_csv(layout, index=False)
    assert index("DATA", num_workers=1)["splits"]["val"] == 2  # of ground that is not known


def test_the_size_of_blocks_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = field(tmp_path / "data")
    patchify(data, out="DATA", labels=stripes(tmp_path / "l.gpkg"), size=SIZE, num_workers=1)
    summary = index("DATA", num_workers=1, split_by="area", block_size=4)
    assert summary["area"]["block_size"] == 4
    patches = read_index(Path("index")).patches
    held = patches[patches["split"] == "val"]
    blocks = set(zip(held["x"] // (4 * SIZE), held["y"] // (4 * SIZE), strict=True))
    assert len(held) == 16 * len(blocks)
    capsys.readouterr()
    index("DATA", num_workers=1, block_size=1)
    assert "too high)" in " ".join(capsys.readouterr().out.split())  # and not that it must be so
    with pytest.raises(InputError, match="too few blocks of ground"):
        index("DATA", num_workers=1, block_size=99)
    with pytest.raises(InputError, match="--block-size 2: is of --split-by area, not base"):
        index("DATA", num_workers=1, split_by="base", block_size=2)
    with pytest.raises(InputError, match="--block-size 0"):
        index("DATA", num_workers=1, block_size=0)


def test_three_labelled_images_or_unknown_places_are_split_as_before(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("one", "second", "the third"):
        field(data, 4, 4, name)
    labels = stripes(tmp_path / "l.gpkg", 4, 4, 2)
    patchify(data, out="DATA", labels=labels, size=SIZE, num_workers=1)
    summary = index("DATA", num_workers=1)
    assert (summary["split_by"], summary["area"]) == ("base", None)
    for path in Path("DATA/masks").glob("the third*"):
        path.unlink()
    assert index("DATA", num_workers=1)["split_by"] == "area"
    assert index("DATA", num_workers=1, split_by="base")["split_by"] == "base"
    Path("DATA/layout.csv").unlink()
    assert index("DATA", num_workers=1)["split_by"] == "base"
    with pytest.raises(InputError, match=r"--split-by area: where .* is not known"):
        index("DATA", num_workers=1, split_by="area")


def test_ground_that_cannot_be_divided_is_refused_as_before(tmp_path: Path) -> None:
    data = field(tmp_path / "data", 3, 1)
    labels = stripes(tmp_path / "l.gpkg", 3, 1, 1)
    patchify(data, out="DATA", labels=labels, size=SIZE, num_workers=1)
    summary = index("DATA", num_workers=1)
    assert summary["splits"] | {"train": 1, "val": 1} == summary["splits"]
    for path in sorted(Path("DATA/masks").glob("*"))[1:]:
        path.unlink()
    with pytest.raises(InputError, match="only masks of one base image"):
        index("DATA", num_workers=1)


@pytest.mark.parametrize("wide", [2, 4, 8])
def test_how_far_labels_are_alike(wide: int) -> None:
    """Random classes in squares of `wide` patches have nothing in common beyond about that."""
    random = np.random.default_rng(wide)
    side = 40
    classes = random.integers(0, 3, (side // wide + 1, side // wide + 1))
    rows, columns = (axis.ravel() for axis in np.indices((side, side)))
    pixels = np.eye(3, dtype=np.int64)[classes[rows // wide, columns // wide]] * 100
    centres = np.stack([columns, rows], 1) * 32.0 + 16
    found = correlation_range(centres, np.zeros(len(rows), int), pixels, 32)
    assert found is not None and wide / 2 <= found <= 2 * wide
    alone = correlation_range(centres[:3], np.zeros(3, int), pixels[:3], 32)
    assert alone is None
