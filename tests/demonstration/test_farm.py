"""Photographs of the drawn farm, of small places."""

import numpy as np

from salakseg.demonstration.farm import draw
from salakseg.demonstration.light import AFTERNOON, NOON


def test_a_photograph_is_a_function_of_seed_place_and_light() -> None:
    image, labels = draw(0, 900, 1500, 320, 256, NOON)
    again, labels_again = draw(0, 900, 1500, 320, 256, NOON)
    assert (image == again).all() and (labels == labels_again).all()
    later, labels_later = draw(0, 900, 1500, 320, 256, AFTERNOON)
    assert (labels == labels_later).all()
    assert np.abs(image.astype(int) - later).mean() > 5
    assert (draw(1, 900, 1500, 320, 256, NOON)[1] != labels).mean() > 0.1


def test_photographs_of_the_same_ground_show_the_same() -> None:
    _, labels = draw(0, 1024, 1500, 400, 256, NOON)
    _, further = draw(0, 1124, 1500, 400, 256, AFTERNOON)
    assert len(np.unique(labels)) >= 4
    assert (labels[:, 100:] == further[:, :300]).mean() > 0.95
