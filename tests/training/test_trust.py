import numpy as np
import pytest
import torch

from salakseg.training.trust import (
    CONFIDENCE,
    DISCRIMINATOR,
    SCORE_WINDOW,
    ClassShares,
    ImageTrust,
    PixelTrust,
    Probe,
    mean_confidence,
    rank_correlation,
)

CPU = torch.device("cpu")


def maps(*shares: float) -> torch.Tensor:
    """Maps of two pictures, each pixel with these probabilities."""
    return torch.tensor(shares).view(1, -1, 1, 1).expand(2, -1, 4, 4)


def test_a_class_that_is_found_less_and_less_keeps_its_share() -> None:
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    shares = ClassShares(3, CPU)
    before = maps(0.5, 0.3, 0.2)
    assert shares.kept(before, valid, hold=False) is before
    assert shares.now.tolist() == pytest.approx([0.5, 0.3, 0.2])
    for _ in range(500):
        kept = shares.kept(maps(0.7, 0.2, 0.1), valid, hold=True)
    # Held are those of the first batch that was held; a running mean, so not quite those before.
    assert shares.held.tolist() == pytest.approx([0.504, 0.298, 0.198], abs=1e-4)
    assert kept.sum(1).flatten().tolist() == pytest.approx([1.0] * 32)
    assert kept[0, :, 0, 0].tolist() == pytest.approx([0.504, 0.298, 0.198], abs=1e-3)


def test_shares_are_those_of_ground_and_of_a_class_never_found_nothing_is_made() -> None:
    shares = ClassShares(2, CPU)
    beside = torch.cat([maps(1.0, 0.0), maps(0.0, 1.0)], 3)  # where there is no ground
    valid = torch.arange(8).expand(2, 4, 8) < 4
    nothing = shares.kept(beside, torch.zeros_like(valid), hold=True)
    assert torch.equal(nothing, beside)
    for _ in range(3):
        kept = shares.kept(beside, valid, hold=True)
    assert shares.now.tolist() == [1, 0] and torch.equal(kept, beside)
    other = ClassShares(2, CPU)
    other.load_state_dict(shares.state_dict())
    assert torch.equal(other.held, shares.held) and torch.equal(other.now, shares.now)


def test_each_class_keeps_its_own_most_confident_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    trust = PixelTrust(2, 0.8, CPU)
    sure, unsure = (
        0.9 + 0.1 * torch.rand(5000, generator=generator),
        torch.rand(5000, generator=generator),
    )
    confidence = torch.cat([sure, unsure]).view(1, 100, 100)
    labels = (torch.arange(10000) >= 5000).view(1, 100, 100).to(torch.uint8)
    trusted = trust.trusted(confidence, labels)
    for k in (0, 1):
        assert trusted[labels == k].float().mean() == pytest.approx(0.8, abs=0.05)
    high, low = trust.thresholds().tolist()
    assert high > 0.9 and low == pytest.approx(0.2, abs=0.02)


def test_a_class_that_was_never_seen_has_no_threshold() -> None:
    trust = PixelTrust(3, 0.8, CPU)
    trust.trusted(torch.full((1, 4, 4), 0.9), torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert trust.thresholds().tolist()[1:] == [0, 0]


def test_pixels_without_ground_are_neither_counted_nor_trusted() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(2, 32, 32, generator=generator)
    labels = torch.randint(0, 2, (2, 32, 32), generator=generator, dtype=torch.uint8)
    alone, beside = PixelTrust(2, 0.8, CPU), PixelTrust(2, 0.8, CPU)
    expected = alone.trusted(confidence, labels)
    # As wide again of padding, of which the teacher is sure.
    trusted = beside.trusted(
        torch.cat([confidence, torch.ones(2, 32, 32)], 2),
        torch.cat([labels, torch.full_like(labels, 255)], 2),
    )
    assert torch.equal(alone.histogram, beside.histogram)
    assert torch.equal(trusted[..., :32], expected)
    assert not trusted[..., 32:].any()


def test_the_histogram_is_a_count_of_classes_and_confidences() -> None:
    trust = PixelTrust(3, 0.8, CPU)
    random = np.random.default_rng(0)
    confidence = random.random((2, 40, 40), np.float32)
    labels = random.integers(0, 3, confidence.shape).astype(np.uint8)
    trust.trusted(torch.from_numpy(confidence), torch.from_numpy(labels))
    expected, *_ = np.histogram2d(
        labels.ravel(), confidence.ravel(), bins=(3, 256), range=((0, 3), (0, 1))
    )
    assert np.array_equal(trust.histogram.numpy(), expected)


def test_thresholds_follow_the_teacher() -> None:
    trust = PixelTrust(1, 0.8, CPU)
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    trust.trusted(torch.full((1, 8, 8), 0.3), labels)
    for _ in range(300):
        trust.trusted(torch.full((1, 8, 8), 0.8), labels)
    assert trust.thresholds()[0] == pytest.approx(0.8, abs=0.01)


def test_acceptance_by_rank_is_never_dead_and_never_all() -> None:
    generator = torch.Generator().manual_seed(1)
    trust = ImageTrust(None, 0.8, CPU)
    # Scores on any scale, and drifting.
    accepted = [
        trust.accepted(torch.zeros(8), 0.001 * torch.rand(8, generator=generator) + i * 1e-6)
        for i in range(200)
    ]
    share = torch.stack(accepted[64:]).float().mean()
    assert 0.7 < share < 0.95


def test_an_image_without_ground_is_neither_accepted_nor_remembered() -> None:
    valid = torch.ones(3, 8, 8, dtype=torch.bool)
    valid[1], valid[2, :, 4:] = False, False
    confidence = torch.full((3, 8, 8), 0.5)
    confidence[2, :, 4:] = 1.0  # the teacher is sure of what is not there
    means = mean_confidence(confidence, valid)
    assert means[[0, 2]].tolist() == [0.5, 0.5] and means[1].isnan()
    for judge in (CONFIDENCE, DISCRIMINATOR):
        trust = ImageTrust(None, 0.8, CPU)
        trust.listen_to(judge)
        accepted = trust.accepted(torch.tensor([1.0, 9.0, 2.0]), means)
        assert not accepted[1] and accepted[2]
        assert int((~trust.recent.isnan()).sum()) == 2
    fixed = ImageTrust(0.2, 0.8, CPU)
    assert fixed.accepted(torch.tensor([1.0, 9.0, 2.0]), means).tolist() == [True, False, True]


def test_the_discriminators_scores_rank_images_that_bfloat16_cannot_tell_apart() -> None:
    trust = ImageTrust(None, 0.8, CPU)
    trust.listen_to(DISCRIMINATOR)
    # Probabilities of 0.998 to 0.9998: two numbers in bfloat16.
    scores = torch.linspace(6.5, 8.5, SCORE_WINDOW, dtype=torch.bfloat16)
    accepted = trust.accepted(scores, torch.ones(SCORE_WINDOW))
    assert 0.75 < accepted.float().mean() < 0.85


def test_the_papers_threshold_looks_at_the_discriminators_probability() -> None:
    trust = ImageTrust(0.2, 0.8, CPU)
    scores = torch.logit(torch.tensor([0.1, 0.19, 0.21, 0.9]))
    assert trust.accepted(scores, torch.ones(4)).tolist() == [False, False, True, True]
    trust.listen_to(CONFIDENCE)  # a fixed threshold is the discriminator's, always
    assert trust.accepted(scores, torch.ones(4)).tolist() == [False, False, True, True]


def test_a_new_judge_starts_with_an_empty_window_and_a_state_goes_on_with_a_full_one() -> None:
    trust = ImageTrust(None, 0.8, CPU)
    trust.accepted(torch.zeros(16), torch.linspace(0, 1, 16))
    other = ImageTrust(None, 0.8, CPU)
    other.load_state_dict(trust.state_dict())
    scores = torch.linspace(0, 1, 4)
    assert torch.equal(
        other.accepted(torch.zeros(4), scores), trust.accepted(torch.zeros(4), scores)
    )
    trust.listen_to(DISCRIMINATOR)
    assert trust.recent.isnan().all()


def test_a_run_that_goes_on_with_another_rule_listens_as_one_that_began_with_it() -> None:
    by_rank, by_threshold = ImageTrust(None, 0.8, CPU), ImageTrust(0.6, 0.8, CPU)
    by_rank.accepted(torch.zeros(16), torch.linspace(0, 1, 16))
    state = by_rank.state_dict()
    by_threshold.load_state_dict(state)
    assert by_threshold.judge == DISCRIMINATOR
    # Earlier versions did not say which rule it was.
    older = ImageTrust(0.6, 0.8, CPU)
    older.load_state_dict({key: value for key, value in state.items() if key != "by_rank"})
    assert older.judge == DISCRIMINATOR
    other = ImageTrust(None, 0.8, CPU)
    other.load_state_dict(by_threshold.state_dict())
    assert other.judge == CONFIDENCE and other.recent.isnan().all()


@pytest.mark.parametrize(
    ("probe", "judge"),
    [
        (Probe(0.8, 0.6), DISCRIMINATOR),
        (Probe(0.5, 0.8), CONFIDENCE),
        (Probe(0.1, -0.5), CONFIDENCE),  # better than confidence, but of no use
        (Probe(float("nan"), 0.4), CONFIDENCE),
        (Probe(0.4, float("nan")), DISCRIMINATOR),
    ],
)
def test_the_discriminator_judges_only_where_it_was_shown_to_rank(probe: Probe, judge: str) -> None:
    assert probe.judge == judge


def test_rank_correlation_is_spearmans() -> None:
    a = np.array([1.0, 2, 3, 4, 5])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    # Ties get mean ranks: 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4]))
    assert tied == pytest.approx(0.9487, abs=1e-4)
    assert np.isnan(rank_correlation(np.ones(5), a))
    assert np.isnan(rank_correlation(a[:2], a[:2]))
