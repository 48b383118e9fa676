import numpy as np
import pytest
import torch

from salakseg.data import augment
from salakseg.data.augment import color_view, cutmix, to_float, weak_view

POSITIONS = np.arange(16)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose colour says the class of each pixel: masks can be read off them."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 4, (16, 8, 8), generator=generator, dtype=torch.uint8)
    masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return (masks * 60)[:, None].repeat(1, 3, 1, 1), masks


def test_image_and_mask_move_together(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    view, labels = weak_view(*batch, 0, "labeled", POSITIONS)
    assert labels is not None
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
    whole, _ = weak_view(images, masks, 0, "labeled", POSITIONS)
    part, _ = weak_view(images[4:6], masks[4:6], 0, "labeled", POSITIONS[4:6])
    assert torch.equal(whole[4:6], part)
    other, _ = weak_view(images, masks, 0, "labeled", POSITIONS + 100)
    assert not torch.equal(whole, other)


def test_without_scale_the_view_is_the_patch_flipped_and_turned(
    batch: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augment, "SCALE_RANGE", (1.0, 1.0))
    images, masks = batch
    _, labels = weak_view(images, masks, 0, "labeled", POSITIONS)
    assert labels is not None
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
    _, labels = weak_view(images, torch.full_like(masks, 255), 0, "labeled", POSITIONS)
    assert labels is not None and (labels == 255).all()


def test_colours_change_within_range_and_by_strength(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images = to_float(batch[0])
    strong = color_view(images, 0, "unlabeled", POSITIONS)
    half = color_view(images, 0, "unlabeled", POSITIONS, 0.5)
    none = color_view(images, 0, "unlabeled", POSITIONS, 0.0)
    assert strong.min() >= 0 and strong.max() <= 1
    assert (none - images).abs().max() < 1e-5
    assert 0 < (half - images).abs().mean() < (strong - images).abs().mean()


def test_cutmix_pastes_a_rectangle_of_the_next_sample() -> None:
    rectangles = cutmix(64, 0, "unlabeled", np.arange(400), torch.device("cpu"))
    area = rectangles.inside.float().mean((1, 2, 3))
    mixed = area > 0
    assert 0.4 < mixed.float().mean() < 0.6
    assert area[mixed].min() > 0.08 and area.max() < 0.52
    values = torch.arange(400.0).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    result = rectangles.mix(values)
    inside = rectangles.inside.expand_as(values)
    assert torch.equal(result[~inside], values[~inside])
    assert torch.equal(result[inside], ((values + 1) % 400)[inside])
    labels = torch.arange(400).view(-1, 1, 1).expand(-1, 64, 64)
    assert torch.equal(rectangles.mix(labels), result[:, 0].long())
