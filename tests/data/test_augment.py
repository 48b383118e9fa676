import numpy as np
import pytest
import torch

from salakseg.data import augment
from salakseg.data.augment import (
    FROM_LABELED,
    NEIGHBOR,
    color_view,
    cutmix,
    plan,
    to_float,
    weak_view,
)

EVERYWHERE = torch.ones(16, 64, 64, dtype=torch.bool)


def drawn(positions: range = range(16), stream: str = "labeled") -> torch.Tensor:
    return torch.from_numpy(plan(0, stream, np.array(positions)))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose colour says the class of each pixel: masks can be read off them."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 4, (16, 8, 8), generator=generator, dtype=torch.uint8)
    masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return (masks * 60)[:, None].repeat(1, 3, 1, 1), masks


def test_image_and_mask_move_together(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    view, labels, _ = weak_view(*batch, EVERYWHERE, drawn())
    assert view.shape == (16, 3, 64, 64) and labels.dtype == torch.uint8
    read_off = (view[:, 0] * 255 / 60).round()
    # Away from the edges of blocks, where the image is interpolated.
    inner = -torch.nn.functional.max_pool2d(-labels[:, None].float(), 3, 1, 1)[:, 0]
    outer = torch.nn.functional.max_pool2d(labels[:, None].float(), 3, 1, 1)[:, 0]
    flat = inner == outer
    assert flat.float().mean() > 0.5
    assert (read_off == labels)[flat].float().mean() > 0.999


def test_views_differ_by_position_and_by_nothing_else(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, masks = batch
    whole, *_ = weak_view(images, masks, EVERYWHERE, drawn())
    part, *_ = weak_view(images[4:6], masks[4:6], EVERYWHERE[4:6], drawn(range(4, 6)))
    assert torch.equal(whole[4:6], part)
    other, *_ = weak_view(images, masks, EVERYWHERE, drawn(range(100, 116)))
    assert not torch.equal(whole, other)


def test_without_scale_the_view_is_the_patch_flipped_and_turned(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "SCALE_RANGE", (1.0, 1.0))
    images, masks = batch
    _, labels, _ = weak_view(images, masks, EVERYWHERE, drawn())
    kinds = set()
    for mask, label in zip(masks, labels, strict=True):
        candidates = [
            torch.rot90(mirrored, turns) for mirrored in (mask, mask.flip(1)) for turns in range(4)
        ]
        matches = [kind for kind, turned in enumerate(candidates) if torch.equal(turned, label)]
        assert len(matches) == 1
        kinds.add(matches[0])
    assert len(kinds) >= 5  # of the eight ways


def test_ignored_pixels_stay_ignored(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, masks = batch
    for no_class in (torch.full_like(masks, 255), None):
        _, labels, _ = weak_view(images, no_class, EVERYWHERE, drawn())
        assert labels.dtype == torch.uint8 and (labels == 255).all()


def test_what_is_not_valid_moves_with_the_image_and_what_a_view_mirrors_is_ground() -> None:
    valid = EVERYWHERE.clone()
    valid[:, 40:] = False
    images = (valid * 255).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)
    view, _, seen = weak_view(images, None, valid, drawn())
    assert seen.dtype == torch.bool
    assert torch.equal(view[:, 0] > 0.5, seen)
    assert len(set(seen.sum((1, 2)).tolist())) > 4  # turned and scaled, not as they were
    _, _, seen = weak_view(images, None, EVERYWHERE, drawn())
    assert seen.all()


def test_colours_change_within_range_and_by_strength(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images = to_float(batch[0])
    strong = color_view(images, drawn())
    half = color_view(images, drawn(), 0.5)
    none = color_view(images, drawn(), 0.0)
    assert strong.min() >= 0 and strong.max() <= 1
    assert (none - images).abs().max() < 1e-5
    assert 0 < (half - images).abs().mean() < (strong - images).abs().mean()


def test_of_more_bands_only_red_green_and_blue_are_tinted_and_as_they_are_alone(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images = to_float(batch[0])
    five = torch.cat([images[:, 1:2] * 0.5, images.flip(1), images[:, :1]], 1)
    tinted, untinted = (color_view(five, drawn(), 1.0, which) for which in ((3, 2, 1), None))
    assert torch.equal(tinted[:, [0, 4]], untinted[:, [0, 4]])
    assert (tinted[:, 1:4] - untinted[:, 1:4]).abs().mean() > 0.01
    assert (color_view(five, drawn(), 0.0, (3, 2, 1)) - five).abs().max() < 1e-5
    grey = torch.full_like(five, 0.5)  # without contrast
    alone = color_view(grey[:, :3], drawn())
    assert torch.allclose(color_view(grey, drawn(), 1.0, (3, 2, 1))[:, [3, 2, 1]], alone)


def test_cutmix_pastes_a_rectangle_of_the_next_sample() -> None:
    rectangles = cutmix(64, drawn(range(400))[:, NEIGHBOR])
    area = rectangles.inside.float().mean((1, 2, 3))
    mixed = area > 0
    assert 0.4 < mixed.float().mean() < 0.6
    assert area[mixed].min() > 0.08 and area.max() < 0.52
    values = torch.arange(400.0).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    result = rectangles.mix(values, values.roll(-1, 0))
    inside = rectangles.inside.expand_as(values)
    assert torch.equal(result[~inside], values[~inside])
    assert torch.equal(result[inside], ((values + 1) % 400)[inside])
    labels = torch.arange(400).view(-1, 1, 1).expand(-1, 64, 64)
    assert torch.equal(rectangles.mix(labels, labels.roll(-1, 0)), result[:, 0].long())


def test_a_plan_is_one_row_of_numbers_a_sample_whatever_the_batch() -> None:
    whole = plan(3, "unlabeled", np.arange(40))
    assert whole.dtype == np.float32 and whole.shape == (40, FROM_LABELED.stop)
    assert np.array_equal(whole[7:9], plan(3, "unlabeled", np.array([7, 8])))
    for other in (plan(4, "unlabeled", np.arange(40)), plan(3, "labeled", np.arange(40))):
        assert not np.isclose(whole[:, augment.COLOR], other[:, augment.COLOR]).any()


def test_the_draws_of_a_plan_are_independent() -> None:
    columns = plan(0, "unlabeled", np.arange(4000))
    # Whether there is a rectangle, of either kind, says nothing of the other or of the blur.
    marks = np.stack(
        [
            columns[:, NEIGHBOR.start + 1] > 0,
            columns[:, FROM_LABELED.start + 1] > 0,
            columns[:, augment.BLUR.start] > 0.5,
            *(columns[:, augment.COLOR] > 0).T,
        ]
    )
    assert np.abs(marks.mean(1) - 0.5).max() < 0.04
    assert np.abs(np.corrcoef(marks) - np.eye(len(marks))).max() < 0.06


def test_without_saturation_every_pixel_is_its_luminance() -> None:
    neutral = torch.zeros(1, FROM_LABELED.stop)
    neutral[0, augment.BLUR] = torch.tensor([1.0, 2.0])  # not blurred
    neutral[0, augment.COLOR.start + 2] = -1 / augment.SATURATION
    image = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    assert torch.allclose(color_view(image, neutral), torch.full((1, 3, 16, 16), grey), atol=1e-6)
