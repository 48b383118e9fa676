import pytest
import torch

from salakseg.training.losses import (
    at_most,
    cross_entropy_loss,
    discriminator_loss,
    drawn_class_maps,
    feature_matching_loss,
    self_training_loss,
)


def test_cross_entropy_is_torchs_mean_over_the_pixels_that_have_a_class() -> None:
    logits = torch.randn(2, 3, 4, 4)
    labels = torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    labels[0, :2] = 255
    expected = torch.nn.functional.cross_entropy(logits, labels.long(), ignore_index=255)
    assert cross_entropy_loss(logits, labels) == pytest.approx(float(expected), rel=1e-5)


def test_cross_entropy_of_nothing_is_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = cross_entropy_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None and (logits.grad == 0).all()


def test_self_training_counts_trusted_pixels_against_all() -> None:
    logits = torch.zeros(1, 2, 2, 2)  # cross entropy log 2 everywhere
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    trust = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    expected = torch.log(torch.tensor(2.0)) / 4
    assert self_training_loss(logits, labels, trust) == pytest.approx(float(expected))


def test_feature_matching_compares_means_not_samples() -> None:
    real = torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    assert feature_matching_loss(real, real.flip(0)) == 0
    assert feature_matching_loss(real, real + 3) == pytest.approx(3)


def test_a_loss_above_its_limit_is_scaled_down_with_its_gradient_and_the_limit_has_none() -> None:
    for value, limit, expected in ((0.3, 0.5, 0.3), (2.0, 0.5, 0.5), (2.0, 0.0, 0.0), (0, 0, 0)):
        x = torch.tensor(float(value), requires_grad=True)
        other = torch.tensor(float(limit), requires_grad=True)
        loss = at_most(x * 1.0, other)
        assert loss.item() == pytest.approx(expected)
        loss.backward()
        assert other.grad is None
        if value:
            assert float(x.grad) == pytest.approx(expected / value)


def test_discriminator_loss_is_log_2_for_a_guess_and_small_for_the_right_answer() -> None:
    assert discriminator_loss(torch.zeros(2), torch.zeros(5)) == pytest.approx(0.6931, abs=1e-4)
    assert discriminator_loss(torch.full((2,), 9.0), torch.full((5,), -9.0)) < 0.001


def test_drawn_maps_have_no_holes_where_the_mask_is_ignored() -> None:
    labels = torch.tensor([[[1, 255]]], dtype=torch.uint8)
    probabilities = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    maps = drawn_class_maps(labels, probabilities)
    assert maps[0, :, 0, 0].tolist() == [0, 1, 0]
    assert torch.equal(maps[0, :, 0, 1], probabilities[0, :, 0, 1])
