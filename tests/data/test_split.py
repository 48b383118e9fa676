"""What is held out: whole photographs, runs or folders, the same on every machine."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.problems import Problems
from salakseg.data.split import (
    cut,
    frames,
    frames_on_both_sides,
    hold_out,
    note_roles_without_masks,
    patch_splits,
    split_bases,
    split_by_patch,
)
from salakseg.errors import InputError
from tests.data.samples import PHOTOS, cut_photo, save_split


def bases_of(names: str, splits: str, labelled: list[int]) -> pd.DataFrame:
    """Base images of the folder `a`; names and splits are words."""
    columns = {"base_image": names.split(), "split": splits.split(), "labelled": labelled}
    return pd.DataFrame({"folder": "a"} | columns)


def test_runs_are_cut_into_pieces_of_a_share_of_their_length() -> None:
    pieces = cut([list(range(10)), [10, 11], [12]], 0.25)
    assert pieces == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10], [11], [12]]


def test_a_patch_without_a_mask_is_neither_learnt_nor_scored() -> None:
    words = np.array(["train", "train", "val", "test", "unlabeled", "exclude"], object)
    labelled = np.array([True, False, True, False, True, True])
    assert patch_splits(words, labelled).tolist() == [
        "train", "unlabeled", "val", "exclude", "unlabeled", "exclude",
    ]  # fmt: skip


def test_neighbouring_frames_on_both_sides_are_counted() -> None:
    names = "DJI_1 DJI_2 DJI_3 DJI_5 DJI_6 DJI_7"
    splits = "train val test unlabeled exclude val"
    assert frames_on_both_sides(bases_of(names, splits, [1] * 6)) == 1


def test_a_role_that_needs_masks_and_has_none_is_noted() -> None:
    problems = Problems()
    note_roles_without_masks(
        bases_of("one two three four", "train val unlabeled train", [0, 0, 0, 5]), problems
    )
    assert [(file, detail.rpartition(" are ")[2]) for _, _, file, detail in problems.rows] == [
        ("a/one", "used as unlabelled"),
        ("a/two", "left out"),
    ]


def test_only_what_has_masks_is_held_out() -> None:
    bases = bases_of("DJI_1 DJI_2 DJI_8 DJI_9", "? ? ? ?", [3, 0, 3, 3])
    pixels = np.ones((4, 2), np.int64)
    for seed in range(5):
        splits = split_bases(bases, pixels, "base", 0.3, seed)
        assert sorted(splits[[0, 2, 3]]) == ["train", "train", "val"]
        assert splits[1] == "unlabeled"
        splits = split_bases(bases, pixels, "block", 0.4, seed)
        assert splits.tolist() in (
            ["val", "exclude", "train", "train"], ["train", "unlabeled", "val", "val"],
        )  # fmt: skip
    assert set(split_bases(bases.assign(labelled=0), pixels, "base", 0.3, 0)) == {"unlabeled"}
    with pytest.raises(InputError, match=r"masks of one folder \(a\).*--split-by base"):
        split_bases(bases, pixels, "folder", 0.3, 0)


def test_a_single_mask_cannot_be_split_by_patch() -> None:
    patches = pd.DataFrame({"mask": ["m.png", ""], "image": ["i.png", "j.png"], "base": [0, 0]})
    bases = bases_of("one", "?", [1])
    with pytest.raises(InputError, match="only one patch has a usable mask"):
        split_by_patch(patches, bases, np.ones((2, 1), np.int64), 0.2, 0)
    splits, words = split_by_patch(
        patches.assign(mask="m.png"), bases, np.ones((2, 1), np.int64), 0.2, 0
    )
    assert (sorted(splits), words.tolist()) == (["train", "val"], ["mixed"])


def test_no_photograph_on_both_sides(data: Path) -> None:
    cut_photo(PHOTOS[0], data / "flight-1", rows=4)  # rows 2 and 3 of it have no mask …
    for path in (data / "flight-1/masks").glob(f"{PHOTOS[0]}_patch_00[23]*"):
        path.unlink()
    for seed in range(5):
        index(data, num_workers=1, seed=seed)
        patches = read_index(Path("index")).patches
        for _, one in patches.groupby(["folder", "base_image"]):
            splits = set(one["split"])
            assert splits <= {"train", "unlabeled"} or splits <= {"val", "exclude"}
        assert {"train", "val"} <= set(patches["split"])
        partly = set(patches[(patches["base_image"] == PHOTOS[0]) & (patches["mask"] == "")].split)
        whole = set(patches[(patches["base_image"] == PHOTOS[0]) & (patches["mask"] != "")].split)
        assert partly == ({"exclude"} if whole == {"val"} else {"unlabeled"})


def test_the_split_is_the_same_on_every_machine() -> None:
    pixels = np.arange(40).reshape(10, 4) % 7
    names = [f"flight/DJI_{number:04d}" for number in range(10)]
    held = hold_out(names, list(range(5, 15)), pixels, 0.2, seed=3)
    assert np.flatnonzero(held).tolist() == [1, 7]
    other = hold_out(names, list(range(5, 15)), pixels, 0.2, seed=4)
    assert held.tolist() != other.tolist()


def test_every_class_is_on_both_sides_where_it_can_be() -> None:
    # 40 photographs of Land; each other class is on two of them only, or on one.
    pixels = np.zeros((40, 8), np.int64)
    pixels[:, 0] = 1000
    for number in range(1, 7):
        pixels[[2 * number, 2 * number + 1], number] = 10
    pixels[30, 7] = 10
    held = hold_out([f"photo{number}" for number in range(40)], [9] * 40, pixels, 0.2, seed=0)
    for number in range(7):
        assert pixels[held, number].any()
        assert pixels[~held, number].any()
    assert pixels[~held, 7].any()  # what only one photograph shows is there to be learnt
    assert held.sum() == 8


def test_blocks_of_consecutive_frames_stay_together(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "flight-1")
    for number, photo in zip((1, 2, 11, 12, 21, 22, 31, 32, 41, 42), PHOTOS + PHOTOS, strict=False):
        cut_photo(photo, data / "flight-1", base=f"DJI_{number:04d}", rows=1)
    summary = index(data, num_workers=1, split_by="block")
    bases = pd.read_csv("index/base_images.csv")
    bases = bases[bases["folder"] == "flight-1"]
    run = bases["base_image"].str[4:7]
    assert (bases.groupby(run)["split"].nunique() == 1).all()
    assert (bases["split"] == "val").sum() == 2
    assert summary["frames_on_both_sides"] == 0
    index(data, num_workers=1, split_file=save_split(
        data, dict(zip(bases["base_image"], ["train", "val"] * 5, strict=True))
        | dict.fromkeys(PHOTOS[6:], "unlabeled"),
    ))  # fmt: skip
    assert "5 pairs of consecutive frames" in capsys.readouterr().out


def test_frames_run_on_within_a_folder() -> None:
    keys = [("a", "DJI_0009"), ("a", "DJI_0010"), ("b", "DJI_0011"), ("a", "x"), ("a", "DJI_0012")]
    assert sorted(frames(keys)) == [[0, 1], [2], [3], [4]]


def test_one_long_run_is_cut_for_blocks(data: Path) -> None:
    shutil.rmtree(data / "flight-1")
    for number in range(10):
        cut_photo(PHOTOS[number % 8], data / "flight-1", base=f"DJI_{number:04d}", rows=1)
    summary = index(data, num_workers=1, split_by="block")
    assert summary["splits"]["val"] == 12
    assert summary["frames_on_both_sides"] <= 2


def test_split_by_folder(data: Path) -> None:
    for photo in PHOTOS[6:]:
        cut_photo(photo, data / "flight-2")
    cut_photo(PHOTOS[0], data / "flight-2", base="without", mask=False)
    index(data, num_workers=1, split_by="folder")
    patches = read_index(Path("index")).patches
    assert set(patches[patches["folder"] == "flight-1"]["split"]) == {"train"}
    held = patches[patches["folder"] == "flight-2"]
    assert set(held[held["mask"] != ""]["split"]) == {"val"}
    assert set(held[held["mask"] == ""]["split"]) == {"exclude"}


def test_split_by_patch_leaks_and_says_so(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = index(data, num_workers=1, split_by="patch")
    assert summary["bases_on_both_sides"] > 0
    assert summary["splits"]["val"] == 14
    assert "leaks" in capsys.readouterr().out
    with pytest.raises(InputError, match="'mixed'"):
        index(data, num_workers=1, split_file=Path("index/base_images.csv"))


def test_one_labelled_photograph_cannot_be_split(data: Path) -> None:
    for photo in PHOTOS[1:6]:
        for path in (data / "flight-1/masks").glob(f"{photo}*"):
            path.unlink()
    with pytest.raises(InputError, match=r"one base image \(flight-1/tile1.*--split-by patch"):
        index(data, num_workers=1)
    assert index(data, num_workers=1, split_by="patch")["splits"]["val"] == 2
