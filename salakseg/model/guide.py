"""Networks and files of the published guide's program (ALS4GAN for salak), told by their names.

Its first and second version train DeepLabV2 on ResNet-101, in layers named `base.layer2.block1.…`;
the multi-scale wrapper around it gives the logits of the one scale. Its third trains a DeepLabV3+
of its own on ResNet-50, with three heads whose logits are averaged; with one head that network
cannot run, so there are no such files. All see red, green, blue from 0 to 255 less a mean, and
enlarge by the corners. Names and numbers are that program's; its code is not used.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from salakseg.model.names import GUIDE_V1, GUIDE_V3
from salakseg.model.torch_files import is_state_dict, without_wrapper

# Of red, green, blue from 0 to 255; there is no deviation.
MEAN = (122.67891434, 116.66876762, 104.00698793)
HEADS = 3
V1_SIGN, V3_SIGN = "aspp.c0.weight", "heads.0.1.weight"
# Convolution and normalisation of a block, there and in `deeplabv2`.
PARTS = (
    ("reduce", "conv1", "bn1"),
    ("conv3x3", "conv2", "bn2"),
    ("increase", "conv3", "bn3"),
    ("shortcut", "downsample.0", "downsample.1"),
)


def of_the_guide(content: Any) -> tuple[str, int, dict[str, Tensor]] | None:
    """Network, number of classes and state dict, by our names, of what a file of that program
    holds, weights alone or a full checkpoint; None for files of others."""
    if isinstance(content, dict) and "model_state" in content:
        content = content["model_state"]
    if not is_state_dict(content):
        return None
    state = {key.removeprefix("base."): value for key, value in without_wrapper(content).items()}
    if V1_SIGN in state:
        return GUIDE_V1, len(state[V1_SIGN]), {_v2_name(key): one for key, one in state.items()}
    if V3_SIGN in state and "layer0.0.weight" in state:
        return GUIDE_V3, len(state[V3_SIGN]), state
    return None


def _v2_name(name: str) -> str:
    """`layer2.block1.reduce.conv.weight` → `layer1.0.conv1.weight`."""
    name = re.sub(r"^layer1\.conv1\.conv\.", "conv1.", name)
    name = re.sub(r"^layer1\.conv1\.bn\.", "bn1.", name)
    name = re.sub(r"^aspp\.c(\d)\.", r"layer5.conv2d_list.\1.", name)
    block = re.match(r"layer(\d)\.block(\d+)\.", name)
    if block is None:
        return name
    rest = name[block.end() :]
    for theirs, convolution, norm in PARTS:
        rest = rest.replace(f"{theirs}.conv.", f"{convolution}.").replace(
            f"{theirs}.bn.", f"{norm}."
        )
    return f"layer{int(block[1]) - 1}.{int(block[2]) - 1}.{rest}"


class _Branch(nn.Module):
    """Convolution, normalisation, ReLU; of the pyramid."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(channels, 256, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(256)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, 256, h, w)."""
        return functional.relu(self.bn(self.conv(x)))


def _layers(channels: int, out: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling, for a stride of 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_layers(channels, 256, 1))
        self.conv2, self.conv3, self.conv4 = (_Branch(channels, 3, rate) for rate in (6, 12, 18))
        self.pool = _Branch(channels, 1)
        self.project = nn.Sequential(*_layers(5 * 256, 256, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) → (B, 256, h, w)."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        branches = [self.conv1(x), self.conv2(x), self.conv3(x), self.conv4(x), pooled]
        projected: Tensor = self.project(torch.cat(branches, 1))
        return projected


class GuideDeepLabV3Plus(nn.Module):
    """The third version's network: ResNet-50 at a stride of 16, `HEADS` heads."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        from torchvision.models import resnet50

        body = resnet50(weights=None)
        self.layer0 = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
        self.layer1, self.layer2, self.layer3 = body.layer1, body.layer2, body.layer3
        self.layer4 = body.layer4
        for block in self.layer4:
            block.conv2.stride, block.conv2.dilation = (1, 1), (2, 2)
            block.conv2.padding = (2, 2)
        self.layer4[0].downsample[0].stride = (1, 1)
        self.aspp = _Pyramid(2048)
        self.low_level_conv = nn.Sequential(*_layers(256, 48, 1))
        self.decoder_backbone = nn.Sequential(
            *_layers(256 + 48, 256, 3), nn.Dropout(0.5), *_layers(256, 256, 3)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout(0.1 + 0.05 * head), nn.Conv2d(256, num_classes, 1))
            for head in range(HEADS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B, K, H, W)."""
        size = x.shape[-2:]
        fine = self.layer1(self.layer0(x))
        coarse = self.aspp(self.layer4(self.layer3(self.layer2(fine))))
        fine = self.low_level_conv(fine)
        coarse = _enlarged(coarse, fine.shape[-2:])
        features = self.decoder_backbone(torch.cat([coarse, fine], 1))
        logits = torch.stack([head(features) for head in self.heads]).mean(0)
        return _enlarged(logits, size)


def _enlarged(x: Tensor, size: Any) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
