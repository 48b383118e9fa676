"""Files made to the layout of the published guide's program."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from salakseg.classes import ClassMapping
from salakseg.errors import InputError
from salakseg.model.generator import create_generator
from salakseg.model.guide import GuideDeepLabV3Plus, of_the_guide
from salakseg.model.weights import load_model

NAMES = ("Latar", "Air", "Bangunan", "Jalan", "Pohon", "Salak", "Tanah")
CLASSES = ClassMapping(tuple((name, (i, i, i), False) for i, name in enumerate(NAMES)))
BLOCKS = (3, 4, 23, 3)
BGR_MEAN = np.array((104.00698793, 116.66876762, 122.67891434), np.float32)


def convolution(state: dict[str, Tensor], name: str, into: int, out: int, kernel: int) -> None:
    state[f"{name}.conv.weight"] = torch.randn(out, into, kernel, kernel) / (into**0.5 * kernel)
    state[f"{name}.bn.weight"] = torch.rand(out) + 0.5
    state[f"{name}.bn.bias"] = torch.randn(out) * 0.1
    state[f"{name}.bn.running_mean"] = torch.randn(out) * 0.1
    state[f"{name}.bn.running_var"] = torch.rand(out) + 0.5
    state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)


def first_version() -> dict[str, Tensor]:
    """A state dict as `MSC(DeepLabV2)` has it, written out."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    convolution(state, "base.layer1.conv1", 3, 64, 7)
    into = 64
    for layer, count in enumerate(BLOCKS, start=2):
        out = 256 * 2 ** (layer - 2)
        for block in range(1, count + 1):
            name = f"base.layer{layer}.block{block}"
            convolution(state, f"{name}.reduce", into, out // 4, 1)
            convolution(state, f"{name}.conv3x3", out // 4, out // 4, 3)
            convolution(state, f"{name}.increase", out // 4, out, 1)
            if block == 1:
                convolution(state, f"{name}.shortcut", into, out, 1)
            into = out
    for branch in range(4):
        state[f"base.aspp.c{branch}.weight"] = torch.randn(7, 2048, 3, 3) / 2048**0.5
        state[f"base.aspp.c{branch}.bias"] = torch.randn(7)
    return state


def first_answer(state: dict[str, Tensor], photo: np.ndarray) -> Tensor:
    """Logits for an RGB photograph, by functions alone, as that program reads and computes."""

    def part(x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        y = functional.conv2d(x, weight, None, stride, dilation * (weight.shape[2] // 2), dilation)
        norm = [state[f"{name}.bn.{one}"] for one in ("running_mean", "running_var", "weight")]
        return functional.batch_norm(y, *norm, state[f"{name}.bn.bias"])

    bgr = photo[..., ::-1].astype(np.float32) - BGR_MEAN
    x = torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)[None]
    x = functional.max_pool2d(part(x, "base.layer1.conv1", 2).relu(), 3, 2, 1, ceil_mode=True)
    for layer, count, stride, dilation in zip(
        (2, 3, 4, 5), BLOCKS, (1, 2, 1, 1), (1, 1, 2, 4), strict=True
    ):
        for block in range(1, count + 1):
            name, step = f"base.layer{layer}.block{block}", stride if block == 1 else 1
            y = part(x, f"{name}.reduce", step).relu()
            y = part(part(y, f"{name}.conv3x3", 1, dilation).relu(), f"{name}.increase")
            x = (y + (part(x, f"{name}.shortcut", step) if block == 1 else x)).relu()
    scores = sum(
        functional.conv2d(
            x, state[f"base.aspp.c{i}.weight"], state[f"base.aspp.c{i}.bias"], 1, rate, rate
        )
        for i, rate in enumerate((6, 12, 18, 24))
    )
    return functional.interpolate(scores, photo.shape[:2], mode="bilinear", align_corners=True)


def full_checkpoint(state: dict[str, Tensor]) -> dict[str, Any]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], 0.1, momentum=0.9)
    return {
        "iteration": 500,
        "model_state": state,
        "model_D_state": {"conv1.weight": torch.ones(2)},
        "optimizer_state": optimizer.state_dict(),
        "best_val_miou": np.float64(0.61),
    }


@pytest.mark.parametrize("name", ["best_model.pth", "latest_checkpoint.pth", "data_parallel.pth"])
def test_its_first_version_gives_the_same_logits(name: str) -> None:
    state = first_version()
    content: Any = state
    if "checkpoint" in name:
        content = full_checkpoint(state)
    elif "parallel" in name:
        content = {f"module.{key}": value for key, value in state.items()}
    torch.save(content, name)
    model = load_model(Path(name), mapping=CLASSES)
    assert model.generator.name == "guide-v1"
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    images = torch.from_numpy(photo).permute(2, 0, 1)[None]
    with torch.inference_mode():
        ours = model.generator(images.float() / 255)
        theirs = first_answer(state, photo)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max())


def test_its_third_version_is_told_by_its_names() -> None:
    torch.manual_seed(0)
    network = GuideDeepLabV3Plus(7).eval()
    state = network.state_dict()
    # As that program's file has them.
    assert len(state) == 378
    assert state["layer0.0.weight"].shape == (64, 3, 7, 7)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert state["aspp.conv1.0.weight"].shape == (256, 2048, 1, 1)
    assert state["aspp.conv4.conv.weight"].shape == (256, 2048, 3, 3)
    assert state["aspp.pool.bn.running_var"].shape == (256,)
    assert state["aspp.project.0.weight"].shape == (256, 1280, 1, 1)
    assert state["low_level_conv.1.bias"].shape == (48,)
    assert state["decoder_backbone.4.weight"].shape == (256, 256, 3, 3)
    assert state["heads.2.1.bias"].shape == (7,)
    torch.save(full_checkpoint(state), "checkpoint_500.pth")
    model = load_model(Path("checkpoint_500.pth"), mapping=CLASSES)
    assert model.generator.name == "guide-v3"
    x = torch.rand(1, 3, 64, 96)
    seen = x * 255 - torch.tensor(BGR_MEAN[::-1].copy()).view(1, 3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(model.generator(x), network(seen), atol=1e-3)
        coarse = network.layer3(network.layer2(network.layer1(network.layer0(seen))))
        assert network.layer4(coarse).shape[2:] == coarse.shape[2:] == (4, 6)


def test_what_its_classes_are_has_to_be_said() -> None:
    torch.save(first_version(), "old.pth")
    with pytest.raises(InputError, match=r"for 7 classes; say which with --class-mapping$"):
        load_model(Path("old.pth"))
    two = ClassMapping(CLASSES.rows[:2])
    with pytest.raises(InputError, match=r"--class-mapping, which has 2 now"):
        load_model(Path("old.pth"), mapping=two)


def test_files_of_others_are_not_taken_for_it() -> None:
    assert of_the_guide(create_generator("tiny", 2, "none").network.state_dict()) is None
    assert of_the_guide({"model_state": {"layer1.weight": torch.ones(1)}}) is None
    assert of_the_guide([torch.ones(1)]) is None
