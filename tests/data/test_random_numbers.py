import numpy as np

from salakseg.data.random_numbers import draw_bits, draw_uniform


def test_a_draw_depends_on_seed_purpose_and_number_alone() -> None:
    again = draw_bits(3, "labeled order", 7, 5)
    assert (draw_bits(3, "labeled order", 7, 5) == again).all()
    for other in ((4, "labeled order", 7), (3, "unlabeled order", 7), (3, "labeled order", 8)):
        assert (draw_bits(*other, 5) != again).all()


def test_rows_of_uniform_draws_do_not_depend_on_their_neighbours() -> None:
    together = draw_uniform(0, "weak view", np.array([5, 6, 7]), 4)
    alone = draw_uniform(0, "weak view", np.array([6]), 4)
    assert (together[1] == alone[0]).all()


def test_uniform_draws_fill_the_unit_interval_evenly() -> None:
    draws = draw_uniform(0, "x", np.arange(2000), 8)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert (np.abs(counts / draws.size - 0.1) < 0.01).all()


def test_known_bits_so_that_old_checkpoints_go_on_with_the_same_data() -> None:
    # Philox-4x64-10 is a published algorithm: these bits may never change.
    bits = draw_bits(0, "labeled order", 0, 2)
    assert bits.tolist() == [7431792633571591381, 5378142921254912066]
