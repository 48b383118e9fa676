"""`index` on patches cut from real photographs, one rule a test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data import index as index_module
from salakseg.data.index import index, read_index
from salakseg.errors import InputError
from tests.conftest import SAMPLES
from tests.data.samples import PHOTOS, SIDE, cut_photo, patch, problems, row_of, save_split


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


def test_same_bytes_with_any_number_of_workers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salakseg.data.checks.IMAGES_A_CHUNK", 20)
    monkeypatch.setattr("salakseg.data.checks.MASKS_A_CHUNK", 20)
    for workers in (1, 2):
        index(data, num_workers=workers, out=Path(f"index-{workers}"))
    for name in ("patches.csv", "base_images.csv", "problems.csv", "summary.json", "preview.png"):
        assert Path("index-1", name).read_bytes() == Path("index-2", name).read_bytes()


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


def test_bad_options(data: Path) -> None:
    with pytest.raises(InputError, match="--split-by photo"):
        index(data, split_by="photo")
    with pytest.raises(InputError, match="--val-split"):
        index(data, val_split=1.5)
    with pytest.raises(InputError, match="no such class mapping"):
        index(data, class_mapping=Path("nothing.csv"))


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
    # A class by another name, and one that is no class in the table: its column is empty in parts.
    for before, after in (('"Water"', '"Flood"'), ('"ignore": true', '"ignore": false')):
        assert before in content
        summary.write_text(content.replace(before, after, 1), encoding="utf-8")
        with pytest.raises(InputError, match=r"summary\.json: does not fit .*patches\.csv"):
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
