"""Names of labels and rows of the mapping; mappings made from names."""

from pathlib import Path

import pytest

from salakseg.classes import read_class_mapping
from salakseg.data.labels_classes import mapping_for, rows_by_name
from salakseg.errors import InputError

ROWS = (("Bare soil", (1, 1, 1), False), ("water", (2, 2, 2), False), ("Water", (3, 3, 3), True))


def test_names_without_regard_to_case_and_space_but_exact_ones_first() -> None:
    found = rows_by_name([" bare SOIL", "Water", "water ", "Bare soil"], ROWS, Path("m.csv"))
    assert found == {" bare SOIL": 0, "Water": 2, "water ": 1, "Bare soil": 0}


def test_names_that_are_not_there_are_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match=r"m\.csv: 2 classes are not in it .*'Pond', 'Lake'.* it "):
        rows_by_name(["Pond", "water", "Lake"], ROWS, Path("m.csv"))


def test_one_that_is_made_keeps_what_was_made_before(tmp_path: Path) -> None:
    names = ["road", "Bare, soil", "Road ", "water"]
    rows, text, path = mapping_for(tmp_path, tmp_path / "out", names, False)
    assert [name for name, _, _ in rows] == ["Bare, soil", "road", "water"]
    assert path == tmp_path / "out" / "class_mapping.csv" and text is not None
    path.parent.mkdir()
    path.write_text(text.replace("water", "Wet"), encoding="utf-8")
    more, text, _ = mapping_for(tmp_path, tmp_path / "out", ["Apple", "road"], False)
    assert [name for name, _, _ in more] == ["Bare, soil", "road", "Wet", "Apple"]
    assert [color for _, color, _ in more[:3]] == [color for _, color, _ in rows]
    path.write_text(str(text), encoding="utf-8")
    assert read_class_mapping(path).rows == more


def test_colours_are_distinct(tmp_path: Path) -> None:
    rows, _, _ = mapping_for(tmp_path, tmp_path / "out", [f"c{n}" for n in range(254)], False)
    colors = [color for _, color, _ in rows]
    assert len(set(colors)) == 254
    first = colors[:12]
    assert (
        min(
            sum(abs(a - b) for a, b in zip(one, other, strict=True))
            for number, one in enumerate(first)
            for other in first[:number]
        )
        > 60
    )
    with pytest.raises(InputError, match="the most is 254"):
        mapping_for(tmp_path, tmp_path / "out", [f"c{n}" for n in range(255)], False)


def test_an_accent_of_its_own_and_no_name_at_all(tmp_path: Path) -> None:
    rows, _, _ = mapping_for(tmp_path, tmp_path / "out", ["Fore\u0302t", "for\xeat", "Road"], False)
    assert [name for name, _, _ in rows] == ["For\xeat", "Road"]
    assert rows_by_name(["FORE\u0302T"], rows, Path("m.csv")) == {"FORE\u0302T": 0}
    with pytest.raises(InputError, match="a class without a name"):
        mapping_for(tmp_path, tmp_path / "out", ["Road", " "], False)


def test_a_single_class_or_masks_without_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a single class, Road; --outside CLASS"):
        mapping_for(tmp_path, tmp_path / "out", ["Road", "road"], False)
    with pytest.raises(InputError, match=r"has masks/ but no class_mapping\.csv"):
        mapping_for(tmp_path, tmp_path / "out", ["Road", "Water"], True)
