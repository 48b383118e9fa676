"""What numbers in masks stand for: each rule of docs/data.md, and what is said where in doubt."""

import shlex

import pytest

from salakseg.errors import InputError
from salakseg.mask_meaning import (
    Row,
    Understood,
    by_color_or_row,
    in_words,
    mask_values_option,
    parse_values,
    row_numbers,
    understand,
)

WATER, ROAD, TREES = ("water", (0, 0, 200)), ("road", (200, 0, 0)), ("trees", (0, 200, 0))
BLACK, WHITE = ("land", (0, 0, 0)), ("palm", (255, 255, 255))


def rows(*classes: tuple[str, tuple[int, int, int]]) -> tuple[Row, ...]:
    return tuple((name, color, False) for name, color in classes)


TWO, THREE = rows(WATER, ROAD), rows(WATER, ROAD, TREES)
VOID_FIRST = (("void", (9, 9, 9), True), *THREE)


def evenly(*numbers: int) -> dict[int, int]:
    return dict.fromkeys(numbers, 1000)


def classes(found: Understood) -> dict[int, int]:
    """Number → row, of those that stand for one."""
    return {number: row for number, row in found.reading.items() if row is not None}


@pytest.mark.parametrize(
    ("numbers", "of", "reading"),
    [
        (evenly(0, 255), TWO, {0: 0, 255: 1}),
        (evenly(0, 1), TWO, {0: 0, 1: 1}),
        (evenly(0, 1, 255), TWO, {0: 0, 1: 1}),
        (evenly(0, 38), TWO, {0: 0, 38: 1}),
        (evenly(0, 65535), TWO, {0: 0, 65535: 1}),
        (evenly(0, 2), TWO, {0: 0, 2: 1}),
        ({0: 100_000, 255: 3}, TWO, {0: 0, 255: 1}),
        ({0: 3, 255: 100_000}, TWO, {0: 0, 255: 1}),
        (evenly(0, 255), rows(ROAD, BLACK), {0: 1, 255: 0}),
        (evenly(0, 255), rows(WHITE, ROAD), {0: 1, 255: 0}),
        (evenly(0, 255), rows(ROAD, ("_background_", (9, 9, 0))), {0: 1, 255: 0}),
        (evenly(0, 255), rows(BLACK, WHITE), {0: 0, 255: 1}),
        (evenly(0, 1), rows(BLACK, WHITE), {0: 0, 1: 1}),
        (evenly(0, 1, 2), THREE, {0: 0, 1: 1, 2: 2}),
        (evenly(0, 1, 2, 255, -1), THREE, {0: 0, 1: 1, 2: 2}),
        (evenly(1, 2, 3), THREE, {1: 0, 2: 1, 3: 2}),
        (evenly(0, 1, 2, 3, 255), THREE, {1: 0, 2: 1, 3: 2}),
        (evenly(0, 3, 1), THREE, {1: 0, 2: 1, 3: 2}),
        (evenly(0, 255, 1, 2), rows(BLACK, ROAD, WHITE), {0: 0, 1: 1, 2: 2}),
        (evenly(10, 90, 255), rows(("a", (90,) * 3), ("b", (10,) * 3)), {10: 1, 90: 0}),
    ],
)  # fmt: skip
def test_each_rule(numbers: dict[int, int], of: tuple[Row, ...], reading: dict[int, int]) -> None:
    found = understand(numbers, of)
    assert classes(found) == reading
    assert not found.grave


def test_smooth_edges_do_not_hide_two_values() -> None:
    numbers = evenly(0, 255) | {64: 40, 128: 50, 191: 40}
    found = understand(numbers, TWO)
    assert classes(found) == {0: 0, 255: 1}
    assert "128 = unknown" in found.words


def test_how_it_was_understood_is_said_with_shares() -> None:
    assert understand({0: 3000, 255: 1000}, TWO).words == (
        "0 = water (75%), 255 = road (25%) (two values, two classes)"
    )
    assert understand(evenly(0, 1, 2, 255), THREE).words == (
        "0 = water (25%), 1 = road (25%), 2 = trees (25%), 255 = no class (25%) (row numbers)"
    )
    ignored = (*TWO, ("void", (1, 1, 1), True))
    assert in_words(evenly(0, 2, 9), row_numbers(3), ignored) == (
        "0 = water (33%), 2 = void, ignored (33%), 9 = unknown (33%)"
    )
    many = in_words({n: 1000 + n for n in range(30)}, row_numbers(30), THREE * 10)
    assert many.startswith("18 = ") and many.endswith(", …")


@pytest.mark.parametrize(
    ("numbers", "of", "doubt"),
    [
        (evenly(0, 1, 2, 3), THREE, "0 is taken for not labelled, .* --mask-offset 0"),
        (evenly(1, 2), THREE, "no mask holds a 0, water; if 1 is water, say --mask-offset 1"),
        (
            evenly(0, 1, 2),
            VOID_FIRST,
            "more than 2; if they count the classes without the ignored "
            "ones, .* say --mask-values 0:water,1:road,2:trees; if .* row .* --mask-offset 0",
        ),
        (evenly(1, 2, 255), VOID_FIRST, "more than 2; if they count .* --mask-offset 0"),
    ],
)
def test_doubts_are_said(numbers: dict[int, int], of: tuple[Row, ...], doubt: str) -> None:
    found = understand(numbers, of)
    assert not found.grave
    with pytest.raises(InputError, match=doubt):
        raise InputError(found.doubt)


@pytest.mark.parametrize(
    ("numbers", "of", "doubt"),
    [
        (evenly(0, 255), THREE, "say --mask-values 0:water; if .* --mask-values 0:water,255:CLASS"),
        (evenly(1, 255), TWO, "--mask-values 1:road; .* --mask-values 1:road,255:CLASS"),
        (evenly(0, 3), THREE, "if 0 is none, say --mask-values 3:trees"),
        (evenly(0, 127, 255), THREE, "--mask-values 0:water,127:road,255:trees"),
        (evenly(0, 100), THREE, "--mask-values 0:water,100:road"),
        (evenly(0, 1), VOID_FIRST, "more than 1; .* --mask-values 0:water,1:road,2:trees; "),
        (evenly(*range(7, 100, 7)), THREE, "as in --mask-values 7:CLASS,14:CLASS"),
        (evenly(0, 1, 2) | {3: 1}, THREE, "3 stands in 1 of .* --mask-offset 1.* --mask-offset 0"),
    ],
)
def test_what_could_be_otherwise_with_damage_is_grave(
    numbers: dict[int, int], of: tuple[Row, ...], doubt: str
) -> None:
    found = understand(numbers, of)
    assert found.grave
    with pytest.raises(InputError, match=doubt):
        raise InputError(found.doubt)


def test_a_first_row_that_is_ignored_may_be_absent() -> None:
    assert understand(evenly(1, 2), (("void", (9, 9, 9), True), *TWO)).doubt == ""


def test_row_numbers_and_grey_colours_at_once() -> None:
    grey = rows(("low", (1, 1, 1)), ("mid", (0, 0, 0)), ("high", (90, 90, 90)))
    for count in (understand, by_color_or_row):
        with pytest.raises(InputError, match=r"numbers \[0, 1\] are row numbers .* and grey"):
            count(evenly(0, 1), grey)
    assert by_color_or_row(evenly(1, 2), grey) == row_numbers(3)
    assert by_color_or_row(evenly(1, 0, 90), grey) == {255: None, 1: 0, 0: 1, 90: 2}


def test_readings_that_are_said() -> None:
    assert parse_values("0:road, 255:Water,7:-,-1:ignore", TWO) == {
        255: 0, 0: 1, 7: None, -1: None,
    }  # fmt: skip
    assert parse_values("3:water", TWO) == {255: None, 3: 0}
    assert parse_values("1:a:b", rows(("a:b", (1, 2, 3)))) == {255: None, 1: 0}
    assert row_numbers(2, 1) == {-1: None, 0: None, 255: None, 1: 0, 2: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("water", "write NUMBER:CLASS, as in 0:water"),
        ("0.5:water", "write NUMBER:CLASS"),
        ("70000:water", "write NUMBER:CLASS"),
        ("", "write NUMBER:CLASS"),
        ("1:pond", "no class of that name; there are water, road; - is no class"),
        ("1:water,1:road", "1 comes twice"),
    ],
)
def test_readings_that_say_nothing(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--mask-values .*{message}"):
        parse_values(text, TWO)


def test_a_first_row_that_is_ignored_is_no_doubt_where_the_last_class_comes() -> None:
    for numbers in (evenly(0, 1, 2, 3), evenly(1, 2, 3), evenly(0, 1, 2) | {3: 1}):
        assert understand(numbers, VOID_FIRST).doubt == ""
    void_last = (*THREE, ("void", (9, 9, 9), True))
    assert understand(evenly(0, 1, 2), void_last).doubt == ""


def test_a_0_that_is_nodata_is_not_called_absent() -> None:
    found = understand(evenly(1, 2), THREE, nothing_is_0=True)
    assert not found.grave
    assert "no mask holds a 0" not in found.doubt
    assert "if 0 is water, take away that it is nodata in the files" in found.doubt
    found = understand(evenly(1), TWO, nothing_is_0=True)
    assert found.grave
    assert "if 0 is none, say --mask-values 1:road; if it is one, take away that" in found.doubt
    assert understand(evenly(1, 2, 3), THREE, nothing_is_0=True).doubt == ""


@pytest.mark.parametrize(
    "names", [("soil", "water"), ("bare soil", "still, deep"), ("a", "1, 2"), ('24" pot', "ü$x")]
)
def test_what_is_to_be_typed_can_be_typed(names: tuple[str, str]) -> None:
    of = rows(*((name, (n, 0, 0)) for n, name in enumerate(names)))
    option, text = shlex.split(mask_values_option(dict(enumerate(names))))
    assert option == "--mask-values"
    assert parse_values(text, of) == {255: None, 0: 0, 1: 1}
