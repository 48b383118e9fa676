"""The networks that have a name of their own; torch is not needed to know them."""

DEFAULT_GENERATOR = "deeplabv3plus-resnet50"
PAPER_GENERATOR = "deeplabv2-resnet101"
TINY_GENERATOR = "tiny"
# Those of the published guide's program, see `guide`.
GUIDE_V1, GUIDE_V3 = "guide-v1", "guide-v3"
