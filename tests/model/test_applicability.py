"""What is far from all labelled patches is told from what is not."""

import numpy as np
import pytest

from salakseg.errors import InputError
from salakseg.model.applicability import (
    FAR_SHARE,
    MOST_LABELLED,
    Applicability,
    applicability_of,
    are_beyond,
    described_rows,
    is_far,
)

PHOTO = np.repeat(np.arange(8), 10)


def features(seed: int, centre: float = 0) -> np.ndarray:
    """80 patches of 8 photographs: float32 (80, 16), the last feature the same everywhere."""
    random = np.random.default_rng(seed)
    each = centre + random.normal(size=(8, 16))[PHOTO] + random.normal(size=(80, 16))
    each[:, -1] = 3
    return each.astype(np.float32)


@pytest.fixture
def known() -> Applicability:
    found = applicability_of(features(0), PHOTO)
    assert found is not None
    return found


def test_what_is_like_the_labelled_is_near_and_what_is_unlike_is_far(known: Applicability) -> None:
    again = known.distance(features(1))
    assert again.shape == (80,) and again.dtype == np.float32
    assert (again >= 1).mean() < 2 * FAR_SHARE
    assert (known.distance(features(2, centre=4)) >= 1).all()
    # The labelled patches themselves, in half precision.
    assert known.distance(features(0)).max() < 0.01


def test_the_limit_is_the_distance_among_photographs(known: Applicability) -> None:
    """By all pairs, one after the other, as the paper has it."""
    x = features(0).astype(np.float64)[:, :-1]
    x = (x - x.mean(0)) / x.std(0)
    nearest = [
        min(np.linalg.norm(x[i] - x[j]) for j in range(80) if PHOTO[j] != PHOTO[i])
        for i in range(80)
    ]
    assert known.limit == pytest.approx(np.quantile(nearest, 1 - FAR_SHARE), rel=1e-4)
    new = features(3)
    y = (new[:, :-1] - features(0)[:, :-1].mean(0)) / features(0)[:, :-1].std(0)
    expected = [min(np.linalg.norm(row - x[j]) for j in range(80)) / known.limit for row in y]
    np.testing.assert_allclose(known.distance(new), expected, rtol=1e-2)


def test_a_feature_that_never_varies_says_nothing(known: Applicability) -> None:
    other = features(1)
    other[:, -1] = 1000
    np.testing.assert_array_equal(known.distance(other), known.distance(features(1)))


def test_of_one_photograph_or_of_equal_patches_nothing_can_be_said() -> None:
    assert applicability_of(features(0)[:10], PHOTO[:10]) is None
    assert applicability_of(np.ones((80, 16), np.float32), PHOTO) is None


def test_it_survives_a_file(known: Applicability) -> None:
    plain = known.as_plain()
    back = Applicability.from_plain(plain)
    np.testing.assert_array_equal(back.distance(features(1)), known.distance(features(1)))
    for key, value in (("mean", plain["mean"][:3]), ("limit", -1.0), ("limit", float("nan"))):
        with pytest.raises(ValueError, match="does not fit"):
            Applicability.from_plain(plain | {key: value})
    with pytest.raises(InputError, match="by 16 features, its network has 5: train it again"):
        known.distance(np.zeros((2, 5), np.float32))


def test_a_few_patches_of_every_photograph_stand_for_many() -> None:
    assert described_rows(7).tolist() == list(range(7))
    rows = described_rows(10 * MOST_LABELLED)
    assert len(rows) == MOST_LABELLED and rows[0] == 0 and rows[-1] == 10 * MOST_LABELLED - 1
    assert np.diff(rows).max() - np.diff(rows).min() <= 1


def test_an_image_is_far_where_most_of_its_patches_are() -> None:
    beyond = are_beyond(np.array([0.2, 1, 3, 0.99], np.float32))
    assert beyond.tolist() == [False, True, True, False]
    assert not is_far(beyond.mean()) and is_far(0.51)
