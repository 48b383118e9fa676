"""The discriminator: image and class map in, one score out.

After section 3.1 of the S4GAN paper: four 4×4 convolutions of stride 2 with 64, 128, 256 and 512
channels, leaky ReLU 0.2, global average pooling, one linear layer. The features that the
feature-matching loss compares are those after the pooling. Three things are not the paper's: its
dropout of 0.5 after each convolution is off by default, since D then tells nothing apart for
hundreds of iterations; D sees its input at half the size, which quarters a cost that would be half
of the generator's; and what is not valid is to D as what is beyond the edge of the image.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.2


class Discriminator(nn.Module):
    """Scores how much a class map looks like one that a person drew over the image.

    Args:
        num_classes: K.
        width: channels of the first convolution; the paper has 64.
        dropout: probability of dropping a channel after each convolution; the paper has 0.5.
        bands: of an image.
    """

    def __init__(
        self, num_classes: int, width: int = 64, dropout: float = 0.0, bands: int = 3
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        channels = (bands + num_classes, width, 2 * width, 4 * width, 8 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, out, 4, stride=2, padding=2) for into, out in pairwise(channels)
        )
        for convolution in self.convolutions:
            # torch's default shrinks the signal layer by layer: D then learns nothing for hundreds
            # of iterations.
            nn.init.kaiming_normal_(convolution.weight, a=LEAK)  # type: ignore[arg-type]
        self.score = nn.Linear(channels[-1], 1)

    def forward(self, images: Tensor, class_maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Score pairs of image and class map.

        Args:
            images: float (B, C, H, W) in [0, 1], scaled here to [-1, 1] for all alike (the
                published code scales each batch by its own minimum and maximum).
            class_maps: float (B, K, H, W), probabilities.
            valid: bool (B, H, W); elsewhere both are taken for 0, as the convolutions pad them,
                and what is left of it there is not in the features.

        Returns:
            Logits (B,), above 0 for "drawn by a person"; features (B, 8·width).
        """
        ground = valid[:, None].float()
        x = functional.avg_pool2d(torch.cat([images * 2 - 1, class_maps], 1) * ground, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            x = self.dropout(functional.leaky_relu(convolution(x), LEAK))
        weight = functional.adaptive_avg_pool2d(ground, (x.shape[2], x.shape[3]))  # (B, 1, h, w)
        features = (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)
        # In float32 under autocast too: images are ranked by it, and bfloat16 would make ties.
        with torch.autocast(features.device.type, enabled=False):
            return self.score(features)[:, 0], features
