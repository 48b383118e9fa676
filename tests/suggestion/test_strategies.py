"""Orders of units, checked against doing it the slow way."""

from itertools import combinations

import numpy as np
import pytest

from salakseg.suggestion.strategies import (
    Floats,
    k_centre,
    lazy_greedy,
    least_alike,
    most_unsure,
    random_order,
    swapped,
)


def problem(seed: int, units: int = 12, targets: int = 40) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    table = random.random((units, targets), np.float32) ** 4
    return table, random.random(targets, np.float32), random.random(targets, np.float32) / 4


def total(table: Floats, weights: Floats, covered: Floats, chosen: tuple[int, ...]) -> float:
    best = covered
    for unit in chosen:
        best = np.maximum(best, table[unit])
    return float((best - covered) @ weights)


def greedy(table: Floats, weights: Floats, covered: Floats, count: int) -> list[int]:
    """Every gain computed again at every step."""
    chosen: list[int] = []
    for _ in range(count):
        values = [
            -1 if unit in chosen else total(table, weights, covered, (*chosen, unit))
            for unit in range(len(table))
        ]
        chosen.append(int(np.argmax(values)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_lazy_is_plain_greedy(seed: int) -> None:
    given = problem(seed)
    order, gains = lazy_greedy(*given, 6)
    assert order == greedy(*given, 6)
    assert sum(gains) == pytest.approx(total(*given, tuple(order)), rel=1e-5)
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_swaps_come_near_the_best_of_all_choices(seed: int) -> None:
    given = problem(seed)
    order, _ = lazy_greedy(*given, 4)
    better = swapped(*given, order)
    best = max(total(*given, some) for some in combinations(range(12), 4))
    assert total(*given, tuple(order)) >= (1 - 1 / np.e) * best
    assert total(*given, tuple(order)) <= total(*given, tuple(better)) + 1e-6
    assert total(*given, tuple(better)) >= 0.97 * best
    # No single swap is left that pays.
    for place, unit in ((p, u) for p in range(4) for u in range(12)):
        other = (*better[:place], unit, *better[place + 1 :])
        assert total(*given, other) <= total(*given, tuple(better)) * (1 + 1e-4)


def test_swaps_find_what_greedy_misses() -> None:
    # The middle unit is the best single one, and no part of the best pair.
    table = np.array([[1, 1, 0, 0], [0, 0.9, 0.9, 0.9], [0, 0, 1, 1]], np.float32)
    weights, covered = np.ones(4, np.float32), np.zeros(4, np.float32)
    order, _ = lazy_greedy(table, weights, covered, 2)
    assert 1 in order
    assert sorted(swapped(table, weights, covered, order)) == [0, 2]


def test_what_is_covered_already_adds_nothing() -> None:
    table = np.eye(3, dtype=np.float32)
    order, gains = lazy_greedy(table, np.ones(3, np.float32), table[1], 3)
    assert (order, gains) == ([0, 2, 1], [1, 1, 0])


def test_equal_units_keep_their_order_and_need_no_swap() -> None:
    table, weights, covered = np.ones((4, 5), np.float32), np.ones(5, np.float32), np.zeros(5)
    order, gains = lazy_greedy(table, weights, covered.astype(np.float32), 4)
    assert (order, gains) == ([0, 1, 2, 3], [5, 0, 0, 0])
    assert swapped(table, weights, covered.astype(np.float32), [0, 1]) == [0, 1]


def test_more_than_there_are() -> None:
    table, weights, covered = problem(0, units=3)
    order, _ = lazy_greedy(table, weights, covered, 10)
    assert sorted(order) == [0, 1, 2]


def test_k_centre_takes_the_furthest_each_time() -> None:
    features = np.array([[0.0], [1], [10], [6]], np.float32)
    assert k_centre(features, np.zeros((1, 1), np.float32), 3) == [2, 3, 1]
    assert k_centre(features, np.zeros((0, 1), np.float32), 2) == [3, 0]
    assert sorted(k_centre(features, np.zeros((0, 1), np.float32), 9)) == [0, 1, 2, 3]


def test_most_unsure_and_random() -> None:
    assert most_unsure(np.array([0.1, 0.7, 0.7, 0.9], np.float32), 3) == [3, 1, 2]
    assert random_order(20, 5, seed=1) == random_order(20, 5, seed=1) != random_order(20, 5, seed=2)
    assert len(set(random_order(20, 20, seed=3))) == 20


def test_least_alike_takes_what_neither_others_nor_the_taken_are_like() -> None:
    directions = np.array([[1, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]], np.float32)
    likeness = (directions @ np.array([1, 0], np.float32)).astype(np.float32)
    assert least_alike(directions, likeness, 2) == [3, 1]
    assert sorted(least_alike(directions, likeness, 9)) == [0, 1, 2, 3]
