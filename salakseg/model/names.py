"""The networks that have a name of their own; torch is not needed to know them."""

DEFAULT_GENERATOR = "deeplabv3plus-resnet50"
PAPER_GENERATOR = "deeplabv2-resnet101"
TINY_GENERATOR = "tiny"
