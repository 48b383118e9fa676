"""create_generator: names in, networks out that take images of any size."""

import pytest
import torch
from torch import Tensor

from salakseg.band_set import Band, BandSet
from salakseg.errors import InputError
from salakseg.model import generator as generator_module
from salakseg.model.deeplabv2 import DeepLabV2
from salakseg.model.generator import (
    IMAGENET_MEAN,
    Generator,
    create_generator,
    require_side,
    widened,
)
from salakseg.model.names import SHORT_NAMES

SMALL = "unet-mobilenet_v2"
TIMM = "fpn-tu-tf_efficientnet_lite0"


@pytest.mark.parametrize("name", ["tiny", SMALL, TIMM, "deeplabv3plus-mobilenet_v2"])
@torch.inference_mode()
def test_logits_at_the_size_of_the_images(name: str) -> None:
    generator = create_generator(name, 5, "none").eval()
    assert generator.name == name
    for size in ((64, 96), (33, 70)):
        assert generator(torch.rand(2, 3, *size)).shape == (2, 5, *size)


BANDS = BandSet(
    tuple(Band(name, 1, 0, 1) for name in ("nir", "blue", "green", "red", "height")),
    5,
    (0.1, 0.2, 0.3, 0.4, 0.5),
    (0.2, 0.2, 0.2, 0.2, 0.4),
)


@pytest.mark.parametrize("name", ["tiny", SMALL, TIMM, "unet-mobileone_s0"])
@torch.inference_mode()
def test_more_bands_begin_with_the_filters_of_red_green_and_blue(name: str) -> None:
    torch.manual_seed(0)
    colours = create_generator(name, 5, "none").eval()
    torch.manual_seed(0)
    wide = create_generator(name, 5, "none", BANDS).eval()
    assert wide.channels == 5 and list(wide.colours or ()) == [3, 2, 1]
    assert wide.mean.flatten().tolist() == pytest.approx(BANDS.mean)
    assert wide(torch.rand(2, 5, 33, 70)).shape == (2, 5, 33, 70)
    # A picture of one grey: each band sees its filter, so all together see what three did.
    grey = torch.rand(1, 1, 64, 64)
    narrow, wider = (
        generator.network(grey.expand(1, bands, 64, 64))
        for generator, bands in ((colours, 3), (wide, 5))
    )
    assert torch.allclose(narrow, wider, rtol=1e-3, atol=1e-4 * float(narrow.abs().max()))
    weights = [
        next(m for m in one.network.modules() if isinstance(m, torch.nn.Conv2d)).weight
        for one in (colours, wide)
    ]
    assert torch.allclose(weights[1][:, [3, 2, 1]] * 5 / 3, weights[0])
    assert torch.allclose(weights[1][:, 0] * 5 / 3, weights[0].mean(1), atol=1e-6)


def test_a_network_whose_first_layer_is_no_convolution_takes_no_more_bands() -> None:
    generator = create_generator("tiny", 2, "none")
    generator.network = torch.nn.Identity()
    with pytest.raises(InputError, match="--generator tiny: can take red, green and blue alone"):
        widened(generator, BANDS)


def test_the_papers_network_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "DeepLabV2", lambda k: DeepLabV2(k, (1, 1, 1, 1)))
    generator = create_generator("deeplabv2-resnet101", 3, "none").eval()
    assert isinstance(generator.network, DeepLabV2)
    with torch.inference_mode():
        assert generator(torch.rand(1, 3, 40, 41)).shape == (1, 3, 40, 41)


def test_a_narrow_decoder_by_name() -> None:
    def size(name: str) -> int:
        return sum(p.numel() for p in create_generator(name, 5, "none").parameters())

    assert size("fpn64-tu-tf_efficientnet_lite0") < size(TIMM)


@torch.inference_mode()
def test_normalisation_is_part_of_the_generator() -> None:
    generator = create_generator(SMALL, 2, "none")
    seen: list[Tensor] = []
    generator.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    generator.eval()(torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    assert seen[0].abs().max() < 1e-6
    # Model files hold it as a setting, state dicts the network alone.
    assert all(key.startswith("network.") for key in generator.state_dict())


@pytest.mark.parametrize("name", ["deeplabv3plus-resnet18", "pspnet-resnet18", "tiny"])
def test_a_batch_of_one_is_learnt_from(name: str) -> None:
    # DeepLabV3+ pools the picture to one value a channel and normalises it over the batch.
    torch.manual_seed(0)
    generator = create_generator(name, 3, "none").train()
    before = [layer.training for layer in generator.modules()]
    generator(torch.rand(1, 3, 64, 64)).square().mean().backward()
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert [layer.training for layer in generator.modules()] == before
    # What was not normalised by the batch leaves no statistics of it: they would be divided by.
    generator.eval()
    with torch.inference_mode():
        assert generator(torch.rand(1, 3, 64, 64)).abs().max() < 100


def test_a_batch_of_one_changes_nothing_where_it_has_a_variance() -> None:
    torch.manual_seed(0)
    generator = create_generator("tiny", 3, "none").train()
    image = torch.rand(1, 3, 64, 64)
    x = (image - generator.mean) / generator.std
    expected = generator.network(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(generator(image), expected)


def test_a_batch_of_one_that_fails_leaves_the_layers_in_training() -> None:
    generator = create_generator("deeplabv3plus-resnet18", 3, "none").train()
    norm = next(m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d))

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    hook = norm.register_forward_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        generator(torch.rand(1, 3, 64, 64))
    hook.remove()
    assert all(layer.training for layer in generator.modules())
    assert not norm._forward_pre_hooks and not norm._forward_hooks


def test_the_normalisation_of_pretrained_encoders_is_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from segmentation_models_pytorch import encoders

    def settings(name: str) -> dict[str, object]:
        assert name == "xception"
        return {"mean": [0.5] * 3, "std": [0.25] * 3}

    monkeypatch.setattr(encoders, "get_preprocessing_params", settings)
    generator = create_generator("unet-xception", 2, "none")
    assert generator.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)  # random weights
    generator_module.normalise_as_pretrained(generator)
    assert generator.mean.flatten().tolist() == [0.5] * 3
    assert generator.std.flatten().tolist() == [0.25] * 3
    tiny = create_generator("tiny", 2, "none")
    generator_module.normalise_as_pretrained(tiny)
    assert tiny.std.flatten().tolist() == [0.25] * 3


def test_a_network_for_one_size_of_image_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_module, "USUAL_SIDES", (64, 224, 256))
    generator = create_generator("unet-tu-swinv2_cr_tiny_224", 2, "none").train()
    require_side(generator, 224)
    with pytest.raises(InputError, match=r"patches of 256 pixels \(.*\); 224 fit: .*--size 224$"):
        require_side(generator, 256)
    assert generator.training


def test_a_network_for_larger_patches_says_so() -> None:
    with pytest.raises(InputError, match=r"patches of 64 pixels .*too small.*; 128, 192, .* fit"):
        require_side(create_generator("pan-mobilenet_v2", 2, "none"), 64)


def test_vision_transformers_take_patches_of_any_size() -> None:
    generator = create_generator("dpt-tu-vit_tiny_patch16_224", 2, "none").eval()
    require_side(generator, 96)  # its embeddings of places are for 224
    with torch.inference_mode():
        assert generator(torch.rand(1, 3, 70, 96)).shape == (1, 2, 70, 96)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dpt-tu-vit_small_patch14_dinov2", "patches of 8, 16, 32 pixels, this one has 14"),
        (
            "resnet50",
            "no such network; use deeplabv3plus-resnet50, deeplabv2-resnet101, tiny, fpn-dinov3-",
        ),
        ("unet-", "no such network"),
        ("unet-resnet5000", "no encoder resnet5000; did you mean unet-resnet50"),
        ("fpn-dinov3-convnext-tini", "did you mean fpn-dinov3-convnext-tiny"),
        ("unet-jXqZ", "timm's begin with tu-"),
        ("unet-tu-no_such_model", "cannot be built"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--generator {name}: .*{message}"):
        create_generator(name, 2, "none")


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    def offline(*args: object, **options: object) -> None:
        raise OSError("Could not connect to huggingface.co")

    monkeypatch.setattr(smp, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be fetched .*--encoder-weights none"):
        create_generator(SMALL, 2, "imagenet")
    with pytest.raises(InputError, match=r"timm/convnext_tiny.dinov3_lvd1689m of huggingface.co"):
        create_generator("fpn-dinov3-convnext-tiny", 2, "imagenet")


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_short_names_build_and_learn_slowly(name: str) -> None:
    generator = create_generator(name, 3, "none")
    assert generator.name == name
    assert generator.encoder_rate == 1 / 40
    require_side(generator, 96)


def test_the_rate_of_an_encoder_is_that_of_its_family() -> None:
    network = create_generator("tiny", 2, "none").network
    rates = {
        name: Generator(name, network).encoder_rate
        for name in (
            "deeplabv3plus-resnet50",
            "segformer-mit_b0",
            "dpt-tu-vit_small_patch14_dinov2",
        )
    }
    assert list(rates.values()) == [1 / 3, 1 / 10, 1 / 40]


def test_which_parameters_are_the_encoders() -> None:
    assert create_generator("tiny", 2, "none").encoder_parameters() == []
    with torch.device("meta"):
        generator = create_generator("deeplabv2-resnet101", 2, "none")
    # All but the weights and biases of the four branches.
    assert len(generator.encoder_parameters()) == len(list(generator.parameters())) - 8
