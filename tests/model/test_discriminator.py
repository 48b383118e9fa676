import torch

from salakseg.model.discriminator import Discriminator


def test_one_score_and_features_for_each_pair_of_any_size() -> None:
    discriminator = Discriminator(5, width=8).eval()
    scores, features = discriminator(torch.rand(3, 3, 70, 50), torch.rand(3, 5, 70, 50))
    assert scores.shape == (3,)
    assert features.shape == (3, 64)


def test_a_score_does_not_depend_on_the_other_images_of_the_batch() -> None:
    # Scaling each batch by its own extremes would break this.
    discriminator = Discriminator(2, width=8).eval()
    images, maps = torch.rand(2, 3, 64, 64), torch.rand(2, 2, 64, 64)
    images[1] *= 0.1
    together = discriminator(images, maps)[0]
    alone = torch.cat([discriminator(images[i : i + 1], maps[i : i + 1])[0] for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_it_can_learn_to_tell_crisp_maps_from_soft_ones() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=8)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-3)
    images = torch.rand(8, 3, 64, 64)
    labels = torch.randint(0, 2, (8, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    crisp = torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2)
    soft = crisp * 0.6 + 0.2
    for _ in range(30):
        scores, _ = discriminator(torch.cat([images, images]), torch.cat([crisp.float(), soft]))
        target = torch.tensor([1.0] * 8 + [0.0] * 8)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
