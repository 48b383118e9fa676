import torch

from salakseg.model.discriminator import Discriminator


def test_one_score_and_features_for_each_pair_of_any_size() -> None:
    discriminator = Discriminator(5, width=8).eval()
    valid = torch.ones(3, 70, 50, dtype=torch.bool)
    scores, features = discriminator(torch.rand(3, 3, 70, 50), torch.rand(3, 5, 70, 50), valid)
    assert scores.shape == (3,)
    assert features.shape == (3, 64)


def test_a_score_does_not_depend_on_the_other_images_of_the_batch() -> None:
    # Scaling each batch by its own extremes would break this.
    discriminator = Discriminator(2, width=8).eval()
    images, maps = torch.rand(2, 3, 64, 64), torch.rand(2, 2, 64, 64)
    images[1] *= 0.1
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    together = discriminator(images, maps, valid)[0]
    alone = torch.cat([discriminator(images[[i]], maps[[i]], valid[[i]])[0] for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_what_is_not_ground_is_no_evidence() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=8).eval()
    images, maps = torch.rand(3, 3, 64, 64), torch.rand(3, 2, 64, 64)
    valid = torch.ones(3, 64, 64, dtype=torch.bool)
    valid[1, :, 40:], valid[2] = False, False
    scores, features = discriminator(images, maps, valid)
    other_images, other_maps = (
        torch.where(valid[:, None], given, torch.rand_like(given)) for given in (images, maps)
    )
    other_scores, other_features = discriminator(other_images, other_maps, valid)
    assert torch.equal(scores, other_scores)
    assert torch.equal(features, other_features)
    # Features of part of an image are as large as those of all of it; of nothing they are nothing.
    assert torch.allclose(features[1].norm(), features[0].norm(), rtol=0.3)
    assert (features[2] == 0).all() and scores[2] == discriminator.score.bias


def test_its_scores_are_of_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=8).eval()
    images, maps = torch.rand(1, 3, 64, 64), torch.rand(1, 2, 64, 64)
    near = torch.linspace(0, 0.02, 40).view(-1, 1, 1, 1)
    valid = torch.ones(40, 64, 64, dtype=torch.bool)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores, _ = discriminator(images + near, maps.expand(40, -1, -1, -1), valid)
    assert scores.dtype == torch.float32
    assert len(scores.unique()) > 30


def test_it_can_learn_to_tell_crisp_maps_from_soft_ones() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=8)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    images = torch.rand(8, 3, 64, 64)
    valid = torch.ones(16, 64, 64, dtype=torch.bool)
    labels = torch.randint(0, 2, (8, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    crisp = torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2).float()
    soft = crisp * 0.6 + 0.2
    for _ in range(30):
        scores, _ = discriminator(images.repeat(2, 1, 1, 1), torch.cat([crisp, soft]), valid)
        target = torch.tensor([1.0] * 8 + [0.0] * 8)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
