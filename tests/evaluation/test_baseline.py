"""What answering one class everywhere scores, counted again from the masks themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

import salakseg
from salakseg.classes import read_class_mapping, read_mask
from salakseg.evaluation.baseline import commonest_class
from tests.conftest import SPLIT


def truth_of(patch_folders: Path, split: str) -> np.ndarray:
    """The class of every pixel of the split's masks that has one."""
    mapping = read_class_mapping(patch_folders / "class_mapping.csv")
    masks = [
        path
        for path in sorted((patch_folders / "masks").iterdir())
        if SPLIT[path.name.split("_patch_")[0]] == split
    ]
    assert masks
    labels = [read_mask(path, mapping).labels.ravel() for path in masks]
    truth = np.concatenate(labels)
    return truth[truth != 255]


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_score_is_that_of_the_same_answer_everywhere(
    patch_folders: Path, shards_dir: Path, split: str
) -> None:
    mapping = read_class_mapping(patch_folders / "class_mapping.csv")
    training = truth_of(patch_folders, "train")
    answer = int(np.bincount(training).argmax())
    truth = truth_of(patch_folders, split)
    miou_of_answer = jaccard_score(
        truth, np.full_like(truth, answer), labels=np.unique(truth), average="macro"
    )
    name, miou = commonest_class(shards_dir, split)
    assert name == mapping.names[answer]
    assert miou == pytest.approx(miou_of_answer)


def test_the_answer_is_learnt_from_the_training_patches_alone(tmp_path: Path) -> None:
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for name, color, rows in (("A", green, 3), ("B", red, 12)):
        mask = np.full((16, 16, 3), color, np.uint8)
        mask[rows:] = red if name == "A" else green
        for kind in ("images", "masks"):
            path = tmp_path / "data" / kind / f"{name}_patch_000_000.png"
            Image.fromarray(mask).save(path)
    lines = ["class_name,class_color,ignore"]
    lines += [
        f"{name},{' '.join(map(str, color))},"
        for name, color in (("Blue", blue), ("Red", red), ("Green", green))
    ]
    (tmp_path / "data/class_mapping.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "split.csv").write_text("base_image,split\nB,train\nA,val\n", encoding="utf-8")
    salakseg.index(
        tmp_path / "data", out=tmp_path / "index", split_file=tmp_path / "split.csv", num_workers=1
    )
    salakseg.shard(index_dir=tmp_path / "index", out=tmp_path / "shards", num_workers=1)
    assert commonest_class(tmp_path / "shards") == ("Red", 13 / 16 / 2)
