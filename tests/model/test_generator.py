"""create_generator: names in, networks out that take images of any size."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from salakseg.errors import InputError
from salakseg.model import generator as generator_module
from salakseg.model.deeplabv2 import DeepLabV2
from salakseg.model.generator import IMAGENET_MEAN, create_generator

SMALL = "unet-mobilenet_v2"
TIMM = "fpn-tu-tf_efficientnet_lite0"


@pytest.mark.parametrize("name", ["tiny", SMALL, TIMM, "deeplabv3plus-mobilenet_v2"])
@torch.inference_mode()
def test_logits_at_the_size_of_the_images(name: str) -> None:
    generator = create_generator(name, 5, "none").eval()
    assert generator.name == name
    for size in ((64, 96), (33, 70)):
        assert generator(torch.rand(2, 3, *size)).shape == (2, 5, *size)


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "no such network; use deeplabv3plus-resnet50, deeplabv2-resnet101, tiny or"),
        ("unet-", "no such network"),
        ("unet-resnet5000", "resnet5000"),
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


@pytest.mark.parametrize(
    ("name", "prefix"),
    # The file holds: the whole network; the encoder alone; a timm model, which SMP wraps.
    [(SMALL, ""), (SMALL, "encoder."), (TIMM, "encoder.model.")],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_encoder_weights_from_a_file(
    tmp_path: Path, name: str, prefix: str, parallel: bool
) -> None:
    source = create_generator(name, 2, "none").network.state_dict()
    state = {
        ("module." if parallel else "") + key.removeprefix(prefix): value
        for key, value in source.items()
        if key.startswith(prefix)
    }
    torch.save({"state_dict": state} if parallel else state, tmp_path / "weights.pth")
    loaded = create_generator(name, 2, str(tmp_path / "weights.pth")).network.state_dict()
    for key, value in source.items():
        if key.startswith("encoder."):
            assert torch.equal(loaded[key], value), key


def test_encoder_weights_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = create_generator(SMALL, 2, "none")
    save_file(source.network.encoder.state_dict(), tmp_path / "weights.safetensors")
    loaded = create_generator(SMALL, 2, str(tmp_path / "weights.safetensors"))
    for theirs, ours in zip(source.encoder_parameters(), loaded.encoder_parameters(), strict=True):
        assert torch.equal(theirs, ours)


def test_which_parameters_are_the_encoders() -> None:
    assert create_generator("tiny", 2, "none").encoder_parameters() == []
    with torch.device("meta"):
        generator = create_generator("deeplabv2-resnet101", 2, "none")
    # All but the weights and biases of the four branches.
    assert len(generator.encoder_parameters()) == len(list(generator.parameters())) - 8


def test_files_that_hold_no_fitting_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def refuses(message: str, name: str = "weights.pth") -> None:
        with pytest.raises(InputError, match=rf"{name}: .*{message}"):
            create_generator("tiny", 2, str(tmp_path / name))

    refuses("no such file")
    path.write_bytes(b"no weights")
    refuses("no file of weights")
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    refuses("no file of weights", "a.safetensors")
    torch.save([1, 2], path)
    refuses("holds no state dict")
    torch.save(create_generator(SMALL, 2, "none").network.state_dict(), path)
    refuses("do not fit tiny")
