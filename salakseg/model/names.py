"""The networks that have a name of their own; torch is not needed to know them."""

DEFAULT_GENERATOR = "deeplabv3plus-resnet50"
PAPER_GENERATOR = "deeplabv2-resnet101"
TINY_GENERATOR = "tiny"
# Those of the published guide's program, see `guide`.
GUIDE_V1, GUIDE_V3 = "guide-v1", "guide-v3"
# Short names of networks on encoders trained without labels (DINOv3), as SMP and timm call them.
SHORT_NAMES = {
    "fpn-dinov3-convnext-tiny": "fpn128-tu-convnext_tiny.dinov3_lvd1689m",
    "dpt-dinov3-vits": "dpt-tu-vit_small_patch16_dinov3.lvd1689m",
}


def whole_name(generator: str) -> str:
    """ARCH-ENCODER of a short name; any other name as it is."""
    return SHORT_NAMES.get(generator, generator)
