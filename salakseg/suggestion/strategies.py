"""Which to label next: pure functions on arrays, units (photographs or patches) in, an order out.

Coverage is facility location: targets (patches, or prototypes of them) each count by their
similarity to the nearest chosen unit. `covered` holds what each target has by what is labelled
already. The others are what "Active Learning for Improved Semi-Supervised Semantic Segmentation in
Satellite Images" (Desai and Ghose, WACV 2022) compares, here to compare with.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

# The strategies that rank by what a model is unsure of; each is a column of the embedding.
UNCERTAINTIES = ("confidence", "margin", "entropy")
STRATEGIES = ("coverage", "random", *UNCERTAINTIES, "k-centre")
MOST_SWAPS = 100
# A swap that gains less than this share of what is covered is no better than rounding.
LEAST_GAIN = 1e-6

Floats = NDArray[np.float32]


def lazy_greedy(
    table: Floats, weights: Floats, covered: Floats, count: int
) -> tuple[list[int], list[float]]:
    """The units that add most, one after the other; a unit's gain never grows, so few are redone.

    Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978. Of equal
    gains the first unit is taken.

    Args:
        table: (units, targets), similarity of each target to each unit, 0 or more.
        weights: (targets,).
        covered: (targets,), similarity to what is chosen already.
        count: how many, at most as many as there are.

    Returns:
        Units in the order in which they are chosen, and what each adds.
    """
    covered = covered.copy()
    # (−gain, unit, number of units chosen when the gain was computed)
    heap = [(-gain(row, weights, covered), unit, 0) for unit, row in enumerate(table)]
    heapq.heapify(heap)
    order: list[int] = []
    gains: list[float] = []
    while heap and len(order) < count:
        negative, unit, when = heapq.heappop(heap)
        if when < len(order):
            heapq.heappush(heap, (-gain(table[unit], weights, covered), unit, len(order)))
            continue
        order.append(unit)
        gains.append(-negative)
        np.maximum(covered, table[unit], out=covered)
    return order, gains


def swapped(table: Floats, weights: Floats, covered: Floats, chosen: list[int]) -> list[int]:
    """`chosen` after every exchange of one unit for another that pays, in the greedy order."""
    chosen = list(chosen)
    least = LEAST_GAIN * float(weights.sum())
    swaps, place, unchanged = 0, 0, 0
    while chosen and unchanged < len(chosen) and swaps < MOST_SWAPS:
        others = [unit for unit in chosen if unit != chosen[place]]
        without = np.maximum(covered, table[others].max(0)) if others else covered
        gains = np.array([gain(row, weights, without) for row in table])
        gains[others] = -1
        best = int(gains.argmax())
        if gains[best] > gains[chosen[place]] + least:
            chosen[place] = best
            swaps, unchanged = swaps + 1, 0
        else:
            unchanged += 1
        place = (place + 1) % len(chosen)
    order, _ = lazy_greedy(table[sorted(chosen)], weights, covered, len(chosen))
    return [sorted(chosen)[place] for place in order]


def gain(row: Floats, weights: Floats, covered: Floats) -> float:
    """What one more unit, a row of the table, adds to the weighted sum."""
    return float(np.maximum(row - covered, 0) @ weights)


def random_order(units: int, count: int, seed: int) -> list[int]:
    """Units in a random order."""
    return np.random.default_rng(seed).permutation(units)[:count].tolist()


def most_unsure(scores: Floats, count: int) -> list[int]:
    """The units with the largest scores; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count].tolist()


def k_centre(features: Floats, labelled: Floats, count: int) -> list[int]:
    """The unit furthest from all that is chosen, again and again (core-set, Sener and Savarese).

    Args:
        features: (units, D).
        labelled: (n, D), chosen already; with none, the first is the one nearest to the mean.
    """
    distance = np.full(len(features), np.inf, np.float32)
    for feature in labelled:
        np.minimum(distance, np.linalg.norm(features - feature, axis=1), out=distance)
    order: list[int] = []
    while len(order) < min(count, len(features)):
        if np.isinf(distance).all():
            unit = int(np.linalg.norm(features - features.mean(0), axis=1).argmin())
        else:
            unit = int(distance.argmax())
        order.append(unit)
        np.minimum(distance, np.linalg.norm(features - features[unit], axis=1), out=distance)
        distance[unit] = -1
    return order


def least_alike(directions: Floats, likeness: Floats, count: int) -> list[int]:
    """The rows least like what there is and like each other, one after the other.

    Args:
        directions: (n, D), of length 1.
        likeness: (n,), of each to the nearest of what there is, 1 at most.
    """
    likeness = likeness.copy()
    order: list[int] = []
    while len(order) < min(count, len(directions)):
        order.append(int(likeness.argmin()))
        np.maximum(likeness, directions @ directions[order[-1]], out=likeness)
        likeness[order[-1]] = np.inf
    return order
