"""DeepLabV2: geometry after the paper, names after the published state dicts."""

import pytest
import torch
from torch import nn

from salakseg.model.deeplabv2 import DeepLabV2

SMALL = (1, 1, 2, 1)


@pytest.fixture(scope="module")
def network() -> DeepLabV2:
    return DeepLabV2(5, SMALL).eval()


@pytest.mark.parametrize("size", [(65, 97), (64, 40)])
@torch.inference_mode()
def test_logits_at_the_size_of_the_input(network: DeepLabV2, size: tuple[int, int]) -> None:
    assert network(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


@torch.inference_mode()
def test_the_output_stride_is_8_and_pooling_rounds_up(network: DeepLabV2) -> None:
    shapes = {}
    for name in ("maxpool", "layer2", "layer3", "layer4", "layer5"):
        module = getattr(network, name)
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: shapes.update({name: output.shape[1:]})
        )
    network(torch.zeros(1, 3, 321, 321))  # the paper's crop
    assert shapes == {
        "maxpool": (64, 81, 81),
        "layer2": (512, 41, 41),
        "layer3": (1024, 41, 41),
        "layer4": (2048, 41, 41),
        "layer5": (5, 41, 41),
    }


def test_dilations_and_strides(network: DeepLabV2) -> None:
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [stage[-1].conv2.dilation[0] for stage in stages] == [1, 1, 2, 4]
    # The stride of a stage sits in its first 1×1 convolution, as in the Caffe network.
    assert [stage[0].conv1.stride[0] for stage in stages] == [1, 2, 1, 1]
    assert [stage[0].conv2.stride[0] for stage in stages] == [1, 1, 1, 1]
    assert [branch.dilation[0] for branch in network.layer5.conv2d_list] == [6, 12, 18, 24]


@torch.inference_mode()
def test_the_classifier_sums_its_four_branches(network: DeepLabV2) -> None:
    x = torch.rand(1, 2048, 9, 9)
    total = torch.zeros(1, 5, 9, 9)
    for branch in network.layer5.conv2d_list:
        total += branch(x)
    assert torch.allclose(network.layer5(x), total, atol=1e-5)


def test_names_and_shapes_of_published_state_dicts() -> None:
    with torch.device("meta"):
        state = DeepLabV2(21).state_dict()
    learnt = {key: tuple(v.shape) for key, v in state.items() if "running" not in key}
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.weight": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.bias": (256,),
        "layer3.22.conv2.weight": (256, 256, 3, 3),
        "layer4.2.bn3.weight": (2048,),
        "layer5.conv2d_list.0.weight": (21, 2048, 3, 3),
        "layer5.conv2d_list.3.bias": (21,),
    }
    assert {key: learnt.get(key) for key in expected} == expected
    with torch.device("meta"):
        network = DeepLabV2(21)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 104 + 4


def test_the_backbone_takes_torchvisions_resnet101_weights() -> None:
    from torchvision.models import resnet101

    with torch.device("meta"):
        theirs = {k: v.shape for k, v in resnet101().state_dict().items() if "fc." not in k}
        ours = {k: v.shape for k, v in DeepLabV2(2).state_dict().items() if "layer5" not in k}
    assert ours == theirs
