"""`index` on patches cut from real photographs, one rule a test."""

from pathlib import Path

import pytest
from PIL import Image

from salakseg.classes import read_class_mapping, read_mask
from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.errors import InputError
from tests.conftest import SAMPLES
from tests.data.samples import PHOTOS, SIDE, patch, problems, row_of, save_split


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


def test_same_bytes_with_any_number_of_workers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salakseg.data.image_checks.IMAGES_A_CHUNK", 20)
    monkeypatch.setattr("salakseg.data.mask_checks.MASKS_A_CHUNK", 20)
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


def test_bad_options(data: Path) -> None:
    with pytest.raises(InputError, match="--split-by photo"):
        index(data, split_by="photo")
    with pytest.raises(InputError, match="--val-split"):
        index(data, val_split=1.5)
    with pytest.raises(InputError, match="no such class mapping"):
        index(data, class_mapping=Path("nothing.csv"))
