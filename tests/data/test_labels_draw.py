"""Areas into rows of a mask: centres, holes, order, overlaps, and strips that fit together."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from salakseg.data.labels_draw import (
    Drawing,
    Tally,
    bitmap,
    ellipse,
    polygon,
    rectangle,
    turned,
)
from salakseg.masks import packed

ROWS = (("Road", (255, 0, 0), False), ("Water", (0, 0, 255), False), ("Tree", (0, 9, 0), True))
EVERYWHERE = shapely.multipolygons([shapely.box(-5, -5, 99, 99)])


def test_a_pixel_belongs_to_a_polygon_by_its_centre() -> None:
    rows, _ = Drawing(8, 6, ((1, rectangle(1.6, 0.4, 4.4, 3.6)),), ROWS).draw(0, 6)
    assert (rows[0:4, 2:4] == 1).all() and (rows == 1).sum() == 8 and (rows == 255).sum() == 40


def test_holes_stay_open_and_parts_that_overlap_are_one() -> None:
    holed = polygon([(0, 0), (8, 0), (8, 8), (0, 8)], [[(2, 2), (6, 2), (6, 6), (2, 6)]])
    rows, _ = Drawing(8, 8, ((0, holed),), ROWS).draw(0, 8)
    assert (rows == 0).sum() == 64 - 16 and (rows[2:6, 2:6] == 255).all()
    parts = shapely.multipolygons([shapely.box(0, 0, 5, 5), shapely.box(3, 3, 8, 8)])
    rows, _ = Drawing(8, 8, ((0, parts),), ROWS).draw(0, 8)
    assert (rows == 0).sum() == 25 + 25 - 4


def test_the_later_one_holds_and_overlaps_of_classes_are_told() -> None:
    inside = np.zeros((4, 4), bool)
    inside[1:3, 1:3] = True
    areas = (
        (0, rectangle(0, 0, 4, 4)),
        (0, rectangle(2, 0, 6, 4)),  # the same class: no overlap of classes
        (1, bitmap(inside, 2, 0)),
        (2, rectangle(4, 1, 5, 3)),
        (0, rectangle(4, 2, 5, 3)),
    )
    rows, several = Drawing(8, 4, areas, ROWS).draw(0, 4)
    assert rows[1, :7].tolist() == [0, 0, 0, 1, 2, 0, 255]
    assert rows[2, :7].tolist() == [0, 0, 0, 1, 0, 0, 255]
    assert several.sum() == 4 and several[1:3, 3:5].all()


@pytest.mark.parametrize("strip", [1, 3, 7, 20])
def test_strips_are_parts_of_the_whole(strip: int) -> None:
    random = np.random.default_rng(strip)
    areas = tuple(
        (number % 3, ellipse(*random.uniform(0, 40, 2), *random.uniform(1, 9, 2)))
        if number % 2
        else (number % 3, bitmap(random.random((9, 7)) > 0.4, *random.integers(-4, 38, 2).tolist()))
        for number in range(30)
    )
    drawing = Drawing(40, 41, areas, ROWS, outside=1, complete=ellipse(20, 20, 18, 15))
    whole = drawing.draw(0, 41)
    parts = [drawing.draw(top, min(top + strip, 41)) for top in range(0, 41, strip)]
    for number in (0, 1):
        assert np.array_equal(np.concatenate([part[number] for part in parts]), whole[number])


def test_outside_and_where_labels_are_complete() -> None:
    areas = ((0, rectangle(0, 0, 4, 2)),)
    rows, _ = Drawing(6, 3, areas, ROWS, outside=1).draw(0, 3)
    assert (rows[:2, :4] == 0).all() and (rows == 1).sum() == 10
    rows, _ = Drawing(6, 3, areas, ROWS, 1, rectangle(2, 0, 6, 2)).draw(0, 3)
    assert rows.tolist() == [[255, 255, 0, 0, 1, 1]] * 2 + [[255] * 6]
    rows, _ = Drawing(6, 3, areas, ROWS, None, rectangle(2, 0, 6, 2)).draw(0, 3)
    assert rows.tolist() == [[255, 255, 0, 0, 255, 255]] * 2 + [[255] * 6]


def test_a_mask_has_the_classes_colours_and_tallies_each_row_once() -> None:
    tally = Tally()
    drawing = Drawing(8, 10, ((1, EVERYWHERE), (2, rectangle(0, 0, 4, 10))), ROWS)
    mask = drawing.as_mask(4, tally)
    for top in (0, 4, 6):  # the last patch ends at the edge
        colors, valid = mask.read(top, top + 4)
        assert valid is not None and valid.all()
        assert (colors[:, :4] == packed(np.array((0, 9, 0)))).all()
    assert tally.pixels == {1: 40, 2: 40} and tally.overlapping == 40


def test_a_bitmap_is_cropped_and_comes_back() -> None:
    inside = np.random.default_rng(1).random((13, 21)) > 0.5
    kept = np.zeros((50, 60), bool)
    kept[8:21, 5:26] = inside
    found = bitmap(kept)
    assert found.width <= 21
    again = np.zeros_like(kept)
    rows, columns = slice(found.top, found.top + found.height), slice(found.left, None)
    again[rows, columns][:, : found.width] = found.inside
    assert np.array_equal(again, kept)
    assert bitmap(np.zeros((3, 3), bool)).inside.size == 0


def test_turned_is_clockwise_as_one_sees_it() -> None:
    area = turned(rectangle(0, 0, 4, 2), 90, 0, 0)
    assert np.allclose(area.bounds, (-2, 0, 0, 4))


def test_a_polygon_has_three_points_of_two_numbers() -> None:
    for points in ([(0, 0), (1, 1)], [(0, 0, 0)] * 3, [(0, float("nan"))] * 3):
        with pytest.raises(ValueError, match="three points"):
            polygon(points)


def test_the_fingerprint_is_of_what_is_drawn() -> None:
    drawing = Drawing(8, 8, ((0, rectangle(0, 0, 4, 4)),), ROWS)
    assert replace(drawing, rows=(*ROWS, ("New", (1, 1, 1), False))).fingerprint == (
        drawing.fingerprint
    )
    others = [
        replace(drawing, areas=((1, rectangle(0, 0, 4, 4)),)),
        replace(drawing, areas=((0, rectangle(0, 0, 4, 5)),)),
        replace(drawing, areas=((0, bitmap(np.ones((4, 4), bool))),)),
        replace(drawing, outside=1),
        replace(drawing, complete=EVERYWHERE),
        replace(drawing, rows=(("Road", (254, 0, 0), False), *ROWS[1:])),
    ]
    assert len({one.fingerprint for one in [drawing, *others]}) == 7
