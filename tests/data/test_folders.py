"""DATA's folders: pairs of images and masks, names and places."""

import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from salakseg.data.folders import (
    Folder,
    base_images_of,
    files_by_stem,
    find_folders,
    pair,
)
from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.data.problems import Problems
from salakseg.errors import InputError
from tests.data.samples import PHOTOS, patch, problems, row_of, save_split


def test_folders_with_what_is_in_them_at_any_depth(tmp_path: Path) -> None:
    for name in (
        "Images/b.png", "far/below/masks/a.png", "far/below/masks/more/c.png",
        "far/below/guess/a.png", "far/below/layout.csv", ".trash/images/a.png", "other/images.txt",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_folders(tmp_path) == [
        Folder(".", images="Images", image_files=["b.png"]),
        Folder(
            "far/below",
            masks="masks",
            mask_files=["a.png"],
            guess_files=["a.png"],
            unread=1,
            layout=True,
        ),
    ]


def test_images_and_masks_are_paired_by_name() -> None:
    found = Problems()
    patches = pair(
        Path("DATA"),
        [
            Folder("b", "images", "Masks", ["x_patch_001_020.JPG", "y.png"], ["y.tif", "z.png"]),
            Folder("c", "images", image_files=["x_patch_000_000.png", "x_patch_001_000.png"]),
        ],
        found,
    )
    assert patches[["image", "mask", "base"]].values.tolist() == [
        ["b/images/x_patch_001_020.JPG", "", 0],
        ["b/images/y.png", "b/Masks/y.tif", 1],
        ["c/images/x_patch_000_000.png", "", 2],
        ["c/images/x_patch_001_000.png", "", 2],
    ]
    assert patches[["row", "column"]].iloc[0].tolist() == [1, 20]
    assert patches["parsed"].tolist() == [True, False, True, True]
    assert patches["mask_placed"].tolist() == [False, True, False, False]
    assert base_images_of(patches).values.tolist() == [["b", "x"], ["b", "y"], ["c", "x"]]
    assert [(kind, file) for _, kind, file, _ in sorted(found.rows)] == [
        ("mask without image", "b/Masks/z.png")
    ]


def test_layout_says_where_a_patch_lies(data: Path) -> None:
    shutil.rmtree(data / "flight-2")
    stems = sorted(path.stem for path in (data / "flight-1/images").iterdir())
    lines = ["patch,base_image,row,column,x,y,width,height,image_width,image_height,pixel_size"]
    lines += [f"{stem},photo {stem[:5]},7,3,192,17,64,64,400,400,0.0275" for stem in stems]
    (data / "flight-1/layout.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    index(data, num_workers=1)
    row = row_of(patch(data))
    assert (row["base_image"], row["row"], row["column"]) == ("photo tile1", 7, 3)
    assert (row["x"], row["y"], row["pixel_size"]) == (192, 17, 0.0275)
    (data / "flight-1/layout.csv").write_text("patch,x\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"layout\.csv: damaged \(no column base_image"):
        index(data, num_workers=1)


def test_any_mix_of_image_files(data: Path) -> None:
    images = sorted((data / "flight-1/images").iterdir())
    for path, suffix in zip(images, [".JPG", ".tiff", ".TIF", ".jpeg"], strict=False):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    mask = data / f"flight-1/masks/{images[0].stem}.png"
    Image.open(mask).save(mask.with_suffix(".tif"))
    mask.unlink()
    summary = index(data, num_workers=1)
    assert (summary["images"], summary["labelled"]) == (96, 72)
    assert problems().empty


def test_images_at_the_top_and_names_that_do_not_parse(data: Path) -> None:
    folder = data / "flight-1"
    for what in ("images", "masks"):
        shutil.move(folder / what, data / what)
    for what in ("images", "masks"):
        path = sorted((data / what).iterdir())[0]
        path.rename(path.with_name("orchard.png"))
    index(data, num_workers=1)
    row = row_of(Path("orchard.png"))
    assert (row["folder"], row["base_image"], row["image"]) == (
        ".",
        "orchard",
        "images/orchard.png",
    )
    assert pd.isna(row["row"])
    assert list(problems()["kind"]) == ["name without row and column"]


def test_mask_without_image(data: Path) -> None:
    patch(data, 0, "images").unlink()
    assert index(data, num_workers=1)["images"] == 95
    assert problems()[["kind", "file"]].values.tolist() == [
        ["mask without image", f"flight-1/masks/{patch(data).name}"]
    ]


def test_two_images_of_one_name_are_fatal(data: Path) -> None:
    path = patch(data, 0, "images")
    Image.open(path).save(path.with_suffix(".jpg"))
    with pytest.raises(InputError, match=r"two images of one name.*remove one of them"):
        index(data, num_workers=1)
    assert [path.name for path in Path("index").iterdir()] == ["problems.csv"]


def test_data_without_images(data: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        index(data / "nowhere")
    loose = shutil.copytree(data / "flight-1/images", data.parent / "loose")
    with pytest.raises(InputError, match="put them into a folder"):
        index(loose)
    with pytest.raises(InputError, match="give the folder above it"):
        index(data / "flight-1/images")
    shutil.rmtree(data / "flight-1/images")
    shutil.rmtree(data / "flight-2")
    with pytest.raises(InputError, match="masks alone cannot be indexed"):
        index(data)
    shutil.rmtree(data / "flight-1")
    with pytest.raises(InputError, match="no images in it"):
        index(data)
    assert not Path("index").exists()


def test_files_that_are_not_read_are_counted(data: Path) -> None:
    shutil.copytree(data / "flight-2/images", data / "flight-1/images/more")
    for name in ("notes.txt", "Thumbs.db", ".DS_Store"):
        (data / "flight-1/images" / name).write_text("x", encoding="utf-8")
    assert index(data, num_workers=1)["images"] == 96
    details = problems().set_index("kind")["detail"]
    assert details["folder inside images/"].startswith("24 files in folders below")
    assert details["other file"].startswith("2 files of flight-1/images/")


def test_links_that_lead_back_are_followed_once(data: Path) -> None:
    try:
        (data / "flight-1/back").symlink_to(data, target_is_directory=True)
    except OSError:
        pytest.skip("no links on this system")
    assert [folder.name for folder in find_folders(data)] == ["flight-1", "flight-2"]


def test_names_meet_whether_accents_are_composed_or_not(data: Path) -> None:
    """As macOS and its archives write them, and as everybody else and the user's lists do."""
    apart, one = (unicodedata.normalize(form, "Água_é") for form in ("NFD", "NFC"))
    assert apart != one
    for what, base in (("images", one), ("masks", apart)):
        for path in (data / "flight-1" / what).glob(f"{PHOTOS[0]}*"):
            path.rename(path.with_name(path.name.replace(PHOTOS[0], base)))
    roles = {apart: "val"} | dict.fromkeys(PHOTOS[1:], "train")
    summary = index(data, num_workers=1, split_file=save_split(data, roles))
    assert (summary["labelled"], summary["splits"]["val"]) == (72, 12)
    row = read_index(Path("index")).patches.query("base_image == @one").iloc[0]
    assert (data / row["mask"]).is_file() and apart in row["mask"] and one in row["image"]
    Path("list.txt").write_text(apart, encoding="utf-8")
    assert index(data, num_workers=1, labeled_list="list.txt", split_by="patch")["labelled"] == 12


def test_files_that_lie_beside_images_for_gdal_are_no_images() -> None:
    names = ["a.TIF", "a.tif.aux.xml", "a.tfw", "a.tif.ovr", ".b.png", "c.bmp", "c.b.jpg", "a.png"]
    found, other = files_by_stem(names)
    assert (found, other) == ({"a": ["a.TIF", "a.png"], "c.b": ["c.b.jpg"]}, ["c.bmp"])
