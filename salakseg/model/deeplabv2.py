"""DeepLabV2 on ResNet-101, the S4GAN paper's network.

Chen et al. 2016, "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs" (sections 3.1 and 3.2), after the published Caffe network:
stages 3 and 4 keep the stride of 8 and dilate by 2 and 4, the stride of a stage sits in the first
1×1 convolution, max-pooling rounds up, and four 3×3 branches of dilation 6, 12, 18, 24 on the last
features are summed. Names follow the state dicts published for PyTorch ports of it (`conv1`, `bn1`,
`layer1.0.conv1`, …, `layer5.conv2d_list.0`), so that those load.
"""

from torch import Tensor, nn
from torch.nn import functional

BLOCKS_RESNET101 = (3, 4, 23, 3)


class Bottleneck(nn.Module):
    """1×1 (strided) → 3×3 (dilated) → 1×1, with a projection where the shape changes."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, 4·channels, H/stride, W/stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        return functional.relu(self.bn3(self.conv3(out)) + residual)


class Classifier(nn.Module):
    """ASPP-L of the paper: parallel dilated 3×3 convolutions, summed."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate)
            for rate in (6, 12, 18, 24)
        )
        for branch in self.conv2d_list:
            nn.init.normal_(branch.weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) → logits (B, K, h, w)."""
        first, *others = [branch(x) for branch in self.conv2d_list]
        return sum(others, start=first)


class DeepLabV2(nn.Module):
    """Logits at the input's size, bilinearly enlarged from a stride of 8, by the corners of the
    pixels or, with `align_corners`, by the centres of those in the corners."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        num_classes: int,
        blocks: tuple[int, ...] = BLOCKS_RESNET101,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        in_channels = 64
        for stage, (count, stride, dilation) in enumerate(
            zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), start=1
        ):
            channels = 64 * 2 ** (stage - 1)
            layers = [
                Bottleneck(
                    in_channels if block == 0 else 4 * channels,
                    channels,
                    stride if block == 0 else 1,
                    dilation,
                    project=block == 0,
                )
                for block in range(count)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            in_channels = 4 * channels
        self.layer5 = Classifier(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → logits (B, K, H, W)."""
        size = x.shape[-2:]
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return functional.interpolate(
            self.layer5(x), size=size, mode="bilinear", align_corners=self.align_corners
        )
