"""Names of patches, of this program and of others."""

import pytest

from salakseg.data.patch_names import PatchName, composed, understood


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("DJI_0462_patch_013_000", PatchName("DJI_0462", 13, 0)),
        ("a_r3_c4", PatchName("a", 3, 4)),
        ("a-Row03-Col04", PatchName("a", 3, 4)),
        ("a_row_3_column_4", PatchName("a", 3, 4)),
        ("a_x256_y512", PatchName("a", x=256, y=512)),
        ("a_Y512_X256", PatchName("a", x=256, y=512)),
        ("tile_x3_y5", PatchName("tile", 5, 3)),
        ("DJI_20230105_0001", None),
        ("flight_2_0001", None),
        ("field_0_256", None),  # alone it may be anything
        ("field", None),
        ("x3_y5", None),
    ],
)
def test_a_name_by_itself(stem: str, said: PatchName | None) -> None:
    assert understood([stem]).get(stem) == said


def test_two_bare_numbers_are_pixels_where_they_are_steps_from_0() -> None:
    steps = [f"f_1_{a}_{b}" for a in (0, 192, 384) for b in (0, 96)]
    assert understood(steps) == dict.fromkeys(steps, PatchName("f_1"))
    for others in (
        ["f_1_1", "f_1_2", "f_2_1", "f_2_2"],  # rows and columns, or flights and frames
        ["f_256_256", "f_512_256"],  # nothing begins
        ["f_0_0"],
        ["f_0_0", "f_0_10", "f_10_0"],
        ["2023_0105_0000", "2023_0105_0001"],
    ):
        assert understood(others) == {}


def test_names_in_two_unicodes_are_one() -> None:
    assert composed("e\u0301") == "\u00e9"
