"""Data whose scores are known, and a model that knows their truth."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from salakseg.classes import ClassMapping
from salakseg.model.generator import Generator
from salakseg.model.weights import Model

RED, GREEN, BLUE, VOID = (255, 0, 0), (0, 255, 0), (0, 0, 255), (90, 90, 90)
MAPPING = ClassMapping(
    (("Red", RED, False), ("Void", VOID, True), ("Green", GREEN, False), ("Blue [m²]", BLUE, False))
)


class BrightestBand(nn.Module):
    """Knows the truth of every picture here: the class is the brightest band."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def band_model(mapping: ClassMapping = MAPPING) -> Model:
    network = Generator("brightest", BrightestBand(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Model(network, mapping, patch_size=32, source="best_model.pth")


def picture(width: int, height: int, left: tuple, right: tuple | None = None) -> Image.Image:
    """One colour, or one in the left half and one in the right half."""
    pixels = np.full((height, width, 3), left, np.uint8)
    pixels[:, width // 2 :] = right or left
    return Image.fromarray(pixels)


def write_mapping(path: Path) -> None:
    lines = ["class_name,class_color,ignore"]
    lines += [
        f"{name},{' '.join(map(str, color))},{'yes' if ignore else ''}"
        for name, color, ignore in MAPPING.rows
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def make_folder(root: Path, mask_width: int = 100) -> Path:
    """Full images: one of 100×70 half red, half green, truth Red; one without a mask."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    picture(100, 70, RED, GREEN).save(root / "images" / "field.png")
    picture(100, 70, RED).save(root / "images" / "other.png")
    picture(mask_width, 70, RED).save(root / "masks" / "field.png")
    write_mapping(root / "class_mapping.csv")
    return root
