"""Names of bands, which band is which, and how values become 8 bits."""

import numpy as np
import pytest

from salakseg.band_set import ALPHA, Band, BandSet, band_names
from salakseg.errors import InputError

CAMERA = BandSet(
    tuple(Band(name, number, 0, 100) for name, number in (("red", 3), ("green", 2), ("nir", 5))), 5
)
UNNAMED = BandSet(tuple(Band(f"band {number}", number, 0, 100) for number in (1, 2, 3, 4)), 5)
HEIGHT = BandSet(
    (
        Band("red", 1, 0, 255),
        Band("green", 2, 0, 255),
        Band("blue", 3, 0, 255),
        Band("band 4", 4, 0, 9),
    ),
    4,
)


def test_one_name_for_what_programs_call_a_band() -> None:
    texts = [
        "Band 1: Blue 475 nm",
        "G",
        "RED",
        "red_edge",
        "Near-Infrared (842 nm)",
        "DSM",
        "band 7",
    ]
    assert band_names(texts) == ["blue", "green", "red", "rededge", "nir", "dsm", ""]


def test_two_bands_of_one_colour_keep_their_wavelengths_and_those_of_one_name_have_none() -> None:
    assert band_names(["Blue-444", "Blue-475", "gray", ""]) == ["blue 444", "blue 475", "", ""]
    assert band_names(["nir", "nir", "red"]) == ["", "", "red"]


def test_bands_are_found_by_name_in_any_order_and_that_is_said() -> None:
    names = ["nir", "rededge", "red", "green", "blue", ALPHA]
    numbers, note = CAMERA.numbers_in(names, None)
    assert numbers == (3, 4, 1) and "3,4,1 are taken for red, green, nir, by their names" in note
    assert CAMERA.numbers_in(["blue", "green", "red", "rededge", "nir"], None) == ((3, 2, 5), "")


def test_without_names_those_of_training_where_there_are_as_many_bands() -> None:
    for bands in (CAMERA, UNNAMED):
        numbers, note = bands.numbers_in([""] * 5 + [ALPHA], None)
        assert numbers == tuple(band.number for band in bands.bands)
        assert "by their numbers, as in training" in note
        with pytest.raises(InputError, match=r"in training there were 5\); --bands takes"):
            bands.numbers_in([""] * 6, None)
    assert HEIGHT.numbers_in(["blue", "green", "red", ""], None)[0] == (3, 2, 1, 4)


def test_a_band_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"which of its bands is nir \(it has red, green, blue;"):
        CAMERA.numbers_in(["red", "green", "blue"], None)
    # Height by its number would be a colour.
    with pytest.raises(InputError, match="which of its bands is red, band 4"):
        HEIGHT.numbers_in(["blue", "green", "nir", "red"], None)


def test_what_the_user_says_holds_if_there_are_as_many() -> None:
    assert CAMERA.numbers_in(["blue", "green", "red"], (3, 2, 1)) == ((3, 2, 1), "")
    with pytest.raises(InputError, match="must be 3 band numbers, for red, green, nir"):
        CAMERA.numbers_in([""] * 5, (3, 2))


def test_values_become_8_bits_by_the_scale_of_their_band_and_keep_to_it() -> None:
    bands = BandSet((Band("red", 1, 0, 0.5), Band("nir", 2, 100, 200)), 2)
    values = np.array([[[0, 0.25, 0.5, 1e38]], [[100, 150, np.nan, -5]]], np.float32)
    expected = [[[0, 0], [128, 128], [255, 0], [255, 0]]]
    with np.errstate(over="raise"):
        np.testing.assert_array_equal(bands.quantised(values), expected)


def test_people_see_red_green_and_blue_or_the_first_three() -> None:
    pixels = np.arange(4, dtype=np.uint8)[None, None]
    mixed = BandSet(tuple(Band(name, 1, 0, 1) for name in ("nir", "blue", "green", "red")), 4)
    assert mixed.colours == (3, 2, 1) and UNNAMED.colours is None
    assert mixed.picture(pixels).tolist() == [[[3, 2, 1]]]
    assert UNNAMED.picture(pixels).tolist() == [[[0, 1, 2]]]


def test_a_set_goes_through_plain_values_and_its_statistics_are_no_part_of_what_it_is() -> None:
    measured = BandSet(CAMERA.bands, 5, (0.1, 0.2, 0.3), (0.1, 0.1, 0.1))
    for bands in (CAMERA, measured):
        back = BandSet.from_plain(bands.as_plain())
        assert back == bands == CAMERA and back.mark == CAMERA.mark
        assert (back.mean, back.std) == (bands.mean, bands.std)
    with pytest.raises(ValueError, match="no bands"):
        BandSet.from_plain({"bands": [], "count": 3})
