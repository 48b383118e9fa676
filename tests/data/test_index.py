"""`index` on patches cut from real photographs, one rule a test."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data import index as index_module
from salakseg.data.folders import find_folders
from salakseg.data.index import index, read_index
from salakseg.data.split import frames, hold_out
from salakseg.errors import InputError

SAMPLES = Path(__file__).parents[1] / "samples/dubai"
PHOTOS = sorted(path.stem for path in (SAMPLES / "images").iterdir())
SIDE = 64


def cut_photo(
    photo: str, folder: Path, base: str = "", mask: bool = True, side: int = SIDE, rows: int = 2
) -> None:
    """Cut the top of a sample photo into patches named as drone surveys name them."""
    image = Image.open(SAMPLES / f"images/{photo}.jpg")
    colors = Image.open(SAMPLES / f"masks/{photo}.png").convert("RGB")
    for name in ("images", "masks") if mask else ("images",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        for column in range(image.width // side):
            box = (column * side, row * side, column * side + side, row * side + side)
            name = f"{base or photo}_patch_{row:03d}_{column:03d}.png"
            image.crop(box).save(folder / "images" / name)
            if mask:
                colors.crop(box).save(folder / "masks" / name)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight photographs in 12 patches each: six with masks in flight-1, two without in flight-2."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "DATA"
    for photo in PHOTOS[:6]:
        cut_photo(photo, folder / "flight-1")
    for photo in PHOTOS[6:]:
        cut_photo(photo, folder / "flight-2", mask=False)
    shutil.copy(SAMPLES / "class_mapping.csv", folder)
    return folder


def problems() -> pd.DataFrame:
    return pd.read_csv("index/problems.csv", keep_default_na=False)


def patch(data: Path, number: int = 0, what: str = "masks") -> Path:
    """One of the patches of the first photo."""
    return sorted((data / "flight-1" / what).iterdir())[number]


def row_of(path: Path) -> pd.Series:
    patches = read_index(Path("index")).patches
    return patches[patches["image"].str.endswith(f"images/{path.stem}.png")].iloc[0]


def save_split(data: Path, splits: dict[str, str], header: str = "base_image,split") -> Path:
    path = data.parent / "split.csv"
    lines = [header, *(f"{name},{split}" for name, split in splits.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_counts_pairs_and_class_pixels(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = index(data, num_workers=1)
    assert (summary["images"], summary["masks"], summary["labelled"]) == (96, 72, 72)
    found = read_index(Path("index"))
    assert found.summary == summary
    assert (found.data, found.patch_size) == (data, SIDE)
    assert found.mapping == read_class_mapping(SAMPLES / "class_mapping.csv")
    row = row_of(patch(data, 7))
    assert (row["folder"], row["base_image"], row["row"], row["column"]) == (
        "flight-1", PHOTOS[0], 1, 1,
    )  # fmt: skip
    labels = read_mask(data / row["mask"], found.mapping).labels
    for number, name in enumerate(found.mapping.names):
        assert row[f"pixels {name}"] == (labels == number).sum()
    assert row["ignored"] == (labels == 255).sum()
    printed = capsys.readouterr().out
    assert "TOTAL PATCHES: 96 images, 72 masks" in printed
    assert "72 as RGB colours" in printed
    assert f"Class mapping: {data / 'class_mapping.csv'}" in printed
    assert Image.open("index/preview.png").height > SIDE


def test_columns_are_typed_and_names_like_na_stay_text(data: Path) -> None:
    cut_photo(PHOTOS[0], data / "null", base="NA", mask=False)
    index(data, num_workers=1)
    patches = read_index(Path("index")).patches
    assert list(patches)[:14] == [
        "folder", "base_image", "row", "column", "image", "mask", "width", "height", "bytes",
        "split", "pixel_size", "x", "y", "ignored",
    ]  # fmt: skip
    unlabelled = patches[patches["folder"] == "null"]
    assert set(unlabelled["base_image"]) == {"NA"}
    assert set(unlabelled["mask"]) == {""}
    assert unlabelled["ignored"].isna().all()
    assert unlabelled["pixel_size"].isna().all()
    assert patches["row"].dtype == "Int64"
    assert patches["width"].dtype == "int64"


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


def test_same_bytes_with_any_number_of_workers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salakseg.data.checks.IMAGES_A_CHUNK", 20)
    monkeypatch.setattr("salakseg.data.checks.MASKS_A_CHUNK", 20)
    for workers in (1, 2):
        index(data, num_workers=workers, out=Path(f"index-{workers}"))
    for name in ("patches.csv", "base_images.csv", "problems.csv", "summary.json", "preview.png"):
        assert Path("index-1", name).read_bytes() == Path("index-2", name).read_bytes()


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


def test_without_masks_it_warns(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(data / "flight-1/masks")
    summary = index(data, num_workers=1)
    assert summary["splits"] == {"train": 0, "val": 0, "test": 0, "unlabeled": 96, "exclude": 0}
    assert "WARNING: no labelled patches" in capsys.readouterr().out
    assert Path("index/preview.png").exists()


def test_split_file_goes_round(data: Path) -> None:
    index(data, num_workers=1)
    before = {name: Path("index", name).read_bytes() for name in ("patches.csv", "base_images.csv")}
    index(data, num_workers=1, split_file=Path("index/base_images.csv"))
    assert before == {name: Path("index", name).read_bytes() for name in before}


def test_masks_that_may_not_be_used_are_not_opened(data: Path) -> None:
    roles = dict(
        zip(PHOTOS, ["train", "val", "test", "unlabeled", "exclude", "train"], strict=False)
    )
    for photo in PHOTOS[3:5]:
        for path in (data / "flight-1/masks").glob(f"{photo}*"):
            path.write_bytes(b"not to be read")
    (data / f"flight-2/masks/{PHOTOS[6]}_patch_000_000.png").parent.mkdir()
    roles |= {PHOTOS[6]: "val", PHOTOS[7]: "unlabeled"}
    summary = index(data, num_workers=1, split_file=save_split(data, roles))
    assert list(problems()["kind"]) == ["split without masks"]
    assert summary["splits"] == {"train": 24, "val": 12, "test": 12, "unlabeled": 24, "exclude": 24}
    patches = read_index(Path("index")).patches
    assert set(patches[patches["base_image"].isin(PHOTOS[3:5])]["mask"]) == {""}


def test_split_file_of_two_flights_needs_folders(data: Path) -> None:
    cut_photo(PHOTOS[5], data / "flight-2", base=PHOTOS[0], mask=False)
    roles = {photo: "train" for photo in PHOTOS}
    with pytest.raises(InputError, match=f"{PHOTOS[0]} is in flight-1 and in flight-2"):
        index(data, num_workers=1, split_file=save_split(data, roles))
    both = {f"{PHOTOS[0]},flight-1": "val", f"{PHOTOS[0]},flight-2": "unlabeled"}
    rest = {f"{photo},": "train" for photo in PHOTOS[1:]}
    path = save_split(data, both | rest, "base_image,folder,split")
    index(data, num_workers=1, split_file=path)
    bases = pd.read_csv("index/base_images.csv").set_index(["folder", "base_image"])["split"]
    assert bases["flight-1", PHOTOS[0]] == "val"
    assert bases["flight-2", PHOTOS[0]] == "unlabeled"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda roles: roles.pop(PHOTOS[2]), f"no row for 1 base image.*{PHOTOS[2]}"),
        (lambda roles: roles.update({PHOTOS[2]: "trian"}), "line 4: .*not 'trian'"),
        (lambda roles: roles.update({f'"{PHOTOS[2]}"': "val"}), "stands on line 4 already"),
    ],
    ids=["missing", "bad word", "twice"],
)
def test_bad_split_files(
    data: Path, change: Callable[[dict[str, str]], object], message: str
) -> None:
    roles = dict.fromkeys(PHOTOS, "train")
    change(roles)
    with pytest.raises(InputError, match=message):
        index(data, num_workers=1, split_file=save_split(data, roles))
    assert not Path("index").exists()


def test_split_file_may_name_more_than_there_is(data: Path) -> None:
    roles = dict.fromkeys(PHOTOS, "train") | {PHOTOS[0]: "val", "elsewhere": "val"}
    index(data, num_workers=1, split_file=save_split(data, roles))
    assert "elsewhere" in set(problems()["file"])
    with pytest.raises(InputError, match=r"none of its 1 base images.*names like tile1"):
        index(data, num_workers=1, split_file=save_split(data, {"tile1_part001.jpg": "val"}))
    with pytest.raises(InputError, match="needs the columns base_image and split"):
        index(data, num_workers=1, split_file=save_split(data, roles, "photo;split"))


def test_labeled_list_limits_the_masks(data: Path) -> None:
    names = [
        f"{PHOTOS[0]}_patch_000_001.png",
        f"flight-1/{PHOTOS[1]}",
        f"{PHOTOS[2]}_patch_001_000",
    ]
    Path("list.txt").write_text("# two patches, one photo\n" + "\n".join(names), encoding="utf-8")
    summary = index(data, num_workers=1, labeled_list=Path("list.txt"))
    assert (summary["masks"], summary["labelled"]) == (72, 14)
    Path("list.txt").write_text(f"{PHOTOS[0]}\nDJI_9999\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"1 name of neither a patch.*DJI_9999"):
        index(data, num_workers=1, labeled_list=Path("list.txt"))
    cut_photo(PHOTOS[0], data / "flight-2")
    Path("list.txt").write_text(PHOTOS[0], encoding="utf-8")
    with pytest.raises(InputError, match=r"is in flight-1 and in flight-2; write FOLDER/tile1"):
        index(data, num_workers=1, labeled_list=Path("list.txt"))


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


def test_mask_of_another_size_is_not_used(data: Path) -> None:
    Image.open(patch(data)).crop((0, 0, 63, 64)).save(patch(data))
    assert index(data, num_workers=1)["labelled"] == 71
    assert row_of(patch(data))["mask"] == ""
    found = problems().iloc[0]
    assert found["kind"] == "mask of another size"
    assert "63×64, the image is 64×64" in found["detail"]


def test_masks_are_compared_with_the_guess_that_they_began_as(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guess for three photographs: one corrected, one as it was, one not wholly comparable."""
    guesses = data / "flight-1/guess"
    guesses.mkdir()
    for photo in PHOTOS[:3]:
        for path in (data / "flight-1/masks").glob(f"{photo}*"):
            shutil.copy(path, guesses)
    mapping = read_class_mapping(data / "class_mapping.csv")
    labels = read_mask(patch(data), mapping).labels
    pixels = np.dstack([np.array(Image.open(patch(data))), np.full((SIDE, SIDE), 255, np.uint8)])
    corrected = labels[:2, :10] != 255
    other = np.array(mapping.colors, np.uint8)[(labels[:2, :10] + 1) % mapping.num_classes]
    pixels[:2, :10, :3] = np.where(corrected[..., None], other, pixels[:2, :10, :3])
    erased = labels[5, :7] != 255
    pixels[5, :7, 3] = 0
    Image.fromarray(pixels).save(patch(data))
    third = sorted(guesses.glob(f"{PHOTOS[2]}*"))
    third[0].write_bytes(b"no image")
    Image.open(third[1]).crop((0, 0, 63, 64)).save(third[1])
    shutil.copy(patch(data), guesses / "nobody.png")
    Path(guesses / "notes.txt").write_text("looked at by Ni", encoding="utf-8")
    shutil.copytree(guesses, data / "flight-2/guess")  # no masks there

    guessed = index(data, num_workers=1)["guessed"]
    changed = int(corrected.sum() + erased.sum())
    assert changed >= 20
    assert guessed == {
        "masks": 34,
        "base_images": 3,
        "pixels": 34 * SIDE**2,
        "changed_pixels": changed,
        "unchanged": [f"flight-1/{PHOTOS[1]}"],
    }
    said = " ".join(capsys.readouterr().out.split())
    share = changed / (34 * SIDE**2)
    assert f"3 photographs began as a model's guess: {share:.1%} of the pixels ({changed})" in said
    assert f"Still as guessed: 1 of them (flight-1/{PHOTOS[1]}); if nobody" in said
    found = problems().set_index("kind")["file"]
    for kind, path in (("unreadable guess", third[0]), ("guess of another size", third[1])):
        assert found[kind] == f"flight-1/guess/{path.name}"
    assert "63×64, its mask is 64×64" in Path("index/problems.csv").read_text("utf-8")

    # A guess is never a label: nothing else depends on it.
    for path in data.glob("*/guess"):
        shutil.rmtree(path)
    assert index(data, num_workers=1, out="without")["guessed"] is None
    assert "guess" not in capsys.readouterr().out
    for name in ("patches.csv", "base_images.csv", "preview.png"):
        assert Path("index", name).read_bytes() == Path("without", name).read_bytes()


@pytest.mark.parametrize("what", ["images", "masks"])
def test_damaged_files_are_left_out(data: Path, what: str) -> None:
    png, jpeg, empty = (patch(data, number, what) for number in range(3))
    png.write_bytes(png.read_bytes()[:-30])
    Image.open(jpeg).save(jpeg.with_suffix(".jpg"))
    jpeg.unlink()
    whole = jpeg.with_suffix(".jpg").read_bytes()
    jpeg.with_suffix(".jpg").write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")
    index(data, num_workers=1)
    kind = "unreadable image" if what == "images" else "unreadable mask"
    found = problems()
    assert set(found[found["kind"] == kind]["file"]) == {
        f"flight-1/{what}/{path.name}" for path in (png, jpeg.with_suffix(".jpg"), empty)
    }
    row = row_of(png)
    assert row["mask"] == ""
    assert row["split"] == ("exclude" if what == "images" else row["split"])


def test_bytes_after_the_end_of_an_image_do_no_harm(data: Path) -> None:
    for number, suffix in ((0, ".png"), (1, ".jpg")):
        path = patch(data, number, "images")
        picture = Image.open(path)
        path.unlink()
        picture.save(path.with_suffix(suffix))
        with open(path.with_suffix(suffix), "ab") as file:
            file.write(b"\0" * 100)
    assert index(data, num_workers=1)["labelled"] == 72
    assert problems().empty


def test_odd_bands_are_noted_with_the_rule(data: Path) -> None:
    paths = sorted((data / "flight-2/images").iterdir())
    picture = Image.open(paths[0])
    picture.convert("L").save(paths[0])
    picture.convert("RGBA").save(paths[1])
    Image.fromarray(np.full((SIDE, SIDE), 3000, np.uint16)).save(paths[2])
    index(data, num_workers=1)
    details = problems().set_index("file")["detail"].to_dict()
    assert {Path(str(file)).name: detail for file, detail in details.items()} == {
        paths[0].name: "1 of flight-2/: 1 band, repeated three times",
        paths[1].name: "1 of flight-2/: 4 bands, the first three taken",
        paths[2].name: "1 of flight-2/: 1 band, repeated three times; 16 bits, scaled to 8",
    }


def test_unknown_colours_are_ignored_and_named(data: Path) -> None:
    pixels = np.asarray(Image.open(patch(data))).copy()
    pixels[:5, :4] = (225, 170, 40)
    Image.fromarray(pixels).save(patch(data))
    index(data, num_workers=1)
    assert row_of(patch(data))["ignored"] >= 20
    found = problems().iloc[0]
    assert found["kind"] == "unknown colour"
    assert "225 170 40 × 20 pixels (nearest: Water)" in found["detail"]


def test_row_numbers_out_of_range(data: Path) -> None:
    pixels = np.ones((SIDE, SIDE), np.uint8)
    pixels[0, :7] = 9
    Image.fromarray(pixels).save(patch(data))
    summary = index(data, num_workers=1)
    assert summary["mask_kinds"] == {"RGB colours": 71, "row numbers": 1}
    assert row_of(patch(data))["pixels Water"] == SIDE * SIDE - 7
    assert "9 × 7 pixels (the mapping's rows are 0 to 5)" in problems().iloc[0]["detail"]


def test_jpeg_masks_are_counted_and_warned(data: Path) -> None:
    path = patch(data, 5)
    Image.open(path).save(path.with_suffix(".jpg"), quality=90)
    path.unlink()
    index(data, num_workers=1)
    found = problems()
    assert "JPEG mask" in set(found["kind"])
    assert "given to the nearest" in found[found["kind"] == "JPEG mask"].iloc[0]["detail"]


def test_a_mask_that_could_mean_two_things_is_not_used(data: Path) -> None:
    (data / "class_mapping.csv").write_text(
        "class_name,class_color\nsoil,2 2 2\ntree,1 1 1\nroad,0 0 0\n", encoding="utf-8"
    )
    for number in range(72):
        pixels = np.full((SIDE, SIDE), number % 3, np.uint8)
        pixels[0] = 1
        Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(patch(data, number))
    Image.fromarray(np.asarray(Image.open(patch(data)))[..., 0]).save(patch(data))
    index(data, num_workers=1)
    found = problems()
    assert list(found["file"]) == [f"flight-1/masks/{patch(data).name}"]
    assert "save the mask as RGB" in found["detail"].iloc[0]


def test_the_wrong_mapping_is_fatal_and_leaves_a_good_index(data: Path) -> None:
    index(data, num_workers=1)
    before = {path.name: path.read_bytes() for path in Path("index").iterdir()}
    wrong = Path("other.csv")
    wrong.write_text("class_name,class_color\na,1 2 3\nb,4 5 6\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"other\.csv: wrong class mapping: 100%.*--class-mapping"):
        index(data, num_workers=1, class_mapping=wrong)
    after = {path.name: path.read_bytes() for path in Path("index").iterdir()}
    assert "fatal" in after.pop("problems.csv").decode()
    del before["problems.csv"]
    assert after == before


def test_two_images_of_one_name_are_fatal(data: Path) -> None:
    path = patch(data, 0, "images")
    Image.open(path).save(path.with_suffix(".jpg"))
    with pytest.raises(InputError, match=r"two images of one name.*remove one of them"):
        index(data, num_workers=1)
    assert [path.name for path in Path("index").iterdir()] == ["problems.csv"]


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


def test_a_photograph_among_patches_is_fatal(data: Path) -> None:
    shutil.copy(SAMPLES / f"images/{PHOTOS[0]}.jpg", data / "flight-1/images/whole.jpg")
    with pytest.raises(InputError, match=r"whole\.jpg: too large for a patch.*salakseg patchify"):
        index(data, num_workers=1)


def test_full_photographs_are_fatal(data: Path) -> None:
    for kind in ("images", "masks"):
        (data / "full" / kind).mkdir(parents=True)
        Image.new("RGB", (1100, 700), (132, 41, 246)).save(data / "full" / kind / "DJI_0001.png")
    with pytest.raises(InputError, match=r"1100×700.*salakseg patchify"):
        index(data, num_workers=1)


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


def test_bad_options(data: Path) -> None:
    with pytest.raises(InputError, match="--split-by photo"):
        index(data, split_by="photo")
    with pytest.raises(InputError, match="--val-split"):
        index(data, val_split=1.5)
    with pytest.raises(InputError, match="no such class mapping"):
        index(data, class_mapping=Path("nothing.csv"))


def test_links_that_lead_back_are_followed_once(data: Path) -> None:
    try:
        (data / "flight-1/back").symlink_to(data, target_is_directory=True)
    except OSError:
        pytest.skip("no links on this system")
    assert [folder.name for folder in find_folders(data)] == ["flight-1", "flight-2"]


def test_read_index_says_what_is_wrong(data: Path) -> None:
    with pytest.raises(InputError, match="run salakseg index DATA first"):
        read_index(Path("index"))
    index(data, num_workers=1)
    table, summary = Path("index/patches.csv"), Path("index/summary.json")
    text = table.read_bytes()
    table.write_bytes(text[:-10])
    with pytest.raises(InputError, match=r"patches\.csv: missing, or not as"):
        read_index(Path("index"))
    table.write_bytes(text)
    content = summary.read_text(encoding="utf-8")
    for damaged in (content[:50], "[]", json.dumps({"format": "salakseg-index-1"})):
        summary.write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match="damaged"):
            read_index(Path("index"))
    summary.write_text(content, encoding="utf-8")
    data.rename(data.with_name("moved"))
    with pytest.raises(InputError, match="the data of index is gone"):
        read_index(Path("index"))


def test_an_index_that_fails_at_the_end_leaves_the_old_one(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(data, num_workers=1)
    before = {path.name: path.read_bytes() for path in Path("index").iterdir()}

    def fail(path: Path) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(index_module, "sha256_of", fail)
    with pytest.raises(OSError, match="disk full"):
        index(data, num_workers=1, seed=1)
    assert before == {path.name: path.read_bytes() for path in Path("index").iterdir()}
