"""Edges and rings of small blocks of labels, written out."""

import numpy as np
import pytest
import shapely
from affine import Affine

from salakseg.mapping.components import components
from salakseg.mapping.outlines import Edges, concatenated, edges, polygons


def framed(rows: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and areas of letters, "." for nodata, with a frame of nothing."""
    letters = np.array([list(row) for row in rows])
    labels = np.where(letters == ".", 255, letters.view(np.int32) - ord("a")).astype(np.uint8)
    labels = np.pad(labels, 1, constant_values=255)
    return labels, components(labels).ids.astype(np.int64)


def outlines(rows: list[str]) -> list[str]:
    labels, ids = framed(rows)
    across = labels.shape[1]
    found = polygons(edges(labels, ids, 0, 0, across), across, Affine.scale(1, -1))
    return [geometry.wkt for geometry in shapely.normalize(found)]


def test_a_pixel_has_four_corners_anticlockwise() -> None:
    labels, ids = framed(["a"])
    found = edges(labels, ids, 7, 4, 100)
    assert sorted(found.start >> 1) == sorted(found.end >> 1) == [704, 705, 804, 805]
    [square] = polygons(found, 100, Affine.identity())
    assert shapely.equals(square, shapely.box(4, 7, 5, 8))
    [square] = polygons(found, 100, Affine.scale(1, -1))
    assert shapely.is_ccw(shapely.get_exterior_ring(square))
    assert shapely.get_num_coordinates(square) == 5


def test_a_straight_side_has_a_vertex_where_what_is_beyond_changes() -> None:
    wide = "POLYGON ((0 -1, 0 0, 3 0, 3 -1, 2 -1, 1 -1, 0 -1))"
    assert outlines(["aaa", "bc."])[0] == wide
    # Not where it only goes on.
    assert outlines(["aaa", "bbb"])[0] == "POLYGON ((0 -1, 0 0, 3 0, 3 -1, 0 -1))"


def test_a_hole_that_touches_the_outer_ring_is_a_ring_of_its_own() -> None:
    [polygon] = outlines(["aaa", "a.a", "aa."])
    assert polygon.count("(") == 3
    geometry = shapely.from_wkt(polygon)
    assert shapely.is_valid(geometry) and shapely.area(geometry) == 7


@pytest.mark.parametrize("split", [1, 2, 3])
def test_parts_of_an_edge_at_a_seam_are_put_together(split: int) -> None:
    rows = ["aabb", "aaab", "ccab", "cc.b"]
    labels, ids = framed(rows)
    across = labels.shape[1]
    parts = [
        edges(labels[: split + 1], ids[: split + 1], 0, 0, across),
        edges(labels[split:], ids[split:], split, 0, across),
    ]
    found = polygons(concatenated(parts), across, Affine.scale(1, -1))
    assert [geometry.wkt for geometry in shapely.normalize(found)] == outlines(rows)


def test_no_edges_are_no_polygons() -> None:
    nothing = np.zeros(0, np.int64)
    found = polygons(
        Edges(nothing, nothing, nothing, nothing.astype(np.int16)), 5, Affine.identity()
    )
    assert len(found) == 0
