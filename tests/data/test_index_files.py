"""What `index` writes, and what is said where it is not there or not whole."""

import json
from pathlib import Path

import pytest

from salakseg.data import index_files
from salakseg.data.index import index
from salakseg.data.index_files import read_index
from salakseg.errors import InputError
from tests.data.samples import PHOTOS, cut_photo


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

    monkeypatch.setattr(index_files, "sha256_of", fail)
    with pytest.raises(OSError, match="disk full"):
        index(data, num_workers=1, seed=1)
    assert before == {path.name: path.read_bytes() for path in Path("index").iterdir()}
