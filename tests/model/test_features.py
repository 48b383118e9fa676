"""Features are the averages of the encoder's last stages."""

import numpy as np
import pytest
import torch

from salakseg.classes import ClassMapping
from salakseg.errors import InputError
from salakseg.model.deeplabv2 import DeepLabV2
from salakseg.model.features import Enough, features_of, stage_outputs
from salakseg.model.generator import Generator, create_generator
from salakseg.model.weights import Model, enlarging

MAPPING = ClassMapping((("A", (1, 2, 3), False), ("B", (3, 2, 1), False)))


@pytest.mark.parametrize(
    ("generator", "channels"),
    [
        (create_generator("fpn-resnet18", 3, "none"), [128, 256, 512]),
        (Generator("small", DeepLabV2(3, blocks=(1, 1, 1, 1))), [512, 1024, 2048]),
    ],
)
def test_stages_of_larger_networks(generator: Generator, channels: list[int]) -> None:
    generator.eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode(), stage_outputs(generator) as whole:
        generator(images)
    stopping = stage_outputs(generator, stop=True)
    with torch.inference_mode(), stopping as stopped, pytest.raises(Enough):
        generator(images)
    assert [stage.shape[1] for stage in whole[-3:]] == channels
    assert all(torch.equal(*pair) for pair in zip(whole, stopped, strict=True))


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [
        ("tiny", 3 * 32, 64),
        ("unet-resnet18", 128 + 256 + 512, 64),
        ("dpt-tu-vit_tiny_patch16_224", 3 * 192, 224),
    ],
)
def test_features_of_images(name: str, size: int, side: int) -> None:
    model = Model(create_generator(name, 2, "none"), MAPPING)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    features = features_of(model, images, amp=False)
    assert features.shape == (2, size) and features.dtype == np.float32
    assert features[0].tolist() != features[1].tolist()
    # The same image by image.
    np.testing.assert_allclose(
        features[1:], features_of(model, images[1:], amp=False), rtol=1e-3, atol=1e-5
    )


def test_features_are_of_images_as_they_are() -> None:
    model = Model(create_generator("tiny", 2, "none"), MAPPING)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    np.testing.assert_array_equal(
        features_of(enlarging(model, 2), images), features_of(model, images)
    )


def test_a_network_without_encoder() -> None:
    model = Model(Generator("flat", torch.nn.Conv2d(3, 2, 1)), MAPPING)
    with pytest.raises(InputError, match="flat: has no encoder"):
        features_of(model, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
