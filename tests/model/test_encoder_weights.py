"""Encoders that begin with the weights of a file, whatever names its tensors have there."""

from pathlib import Path

import pytest
import torch

from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from tests.model.test_generator import SMALL, TIMM


@pytest.mark.parametrize(
    ("name", "prefix"),
    # The file holds: the whole network; the encoder alone; a timm model, which SMP wraps.
    [(SMALL, ""), (SMALL, "encoder."), (TIMM, "encoder.model.")],
)
@pytest.mark.parametrize("before", ["", "module.", "backbone.", "model.seg_model."])
def test_encoder_weights_from_a_file(tmp_path: Path, name: str, prefix: str, before: str) -> None:
    parallel = before == "module."
    source = create_generator(name, 2, "none").network.state_dict()
    state = {
        before + key.removeprefix(prefix): value
        for key, value in source.items()
        if key.startswith(prefix)
    }
    torch.save({"state_dict": state} if parallel else state, tmp_path / "weights.pth")
    loaded = create_generator(name, 2, str(tmp_path / "weights.pth")).network.state_dict()
    for key, value in source.items():
        if key.startswith("encoder."):
            assert torch.equal(loaded[key], value), key


def test_encoder_weights_from_a_network_of_other_classes_and_decoder(tmp_path: Path) -> None:
    source = create_generator(SMALL, 15, "none").network.state_dict()
    others = {f"model.seg_model.decoder.theirs.{i}": torch.rand(3) for i in range(200)}
    state = {f"model.seg_model.{key}": one for key, one in source.items()} | others
    state["criterion.weight"] = torch.rand(15)
    torch.save(state, tmp_path / "weights.pth")
    loaded = create_generator(SMALL, 2, str(tmp_path / "weights.pth")).network.state_dict()
    assert all(torch.equal(loaded[key], source[key]) for key in source if "encoder." in key)


def test_encoder_weights_from_timms_own_file_of_a_convnext(tmp_path: Path) -> None:
    import timm

    source = timm.create_model("test_convnext").state_dict()
    torch.save(source, tmp_path / "weights.pth")
    name = "fpn128-tu-test_convnext"
    loaded = create_generator(name, 2, str(tmp_path / "weights.pth")).network.state_dict()
    key = "stages.0.blocks.0.conv_dw.weight"
    assert torch.equal(loaded[f"encoder.model.{key.replace('.', '_', 1)}"], source[key])


def test_encoder_weights_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source = create_generator(SMALL, 2, "none")
    save_file(source.network.encoder.state_dict(), tmp_path / "weights.safetensors")
    loaded = create_generator(SMALL, 2, str(tmp_path / "weights.safetensors"))
    for theirs, ours in zip(source.encoder_parameters(), loaded.encoder_parameters(), strict=True):
        assert torch.equal(theirs, ours)


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
