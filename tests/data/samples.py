"""Patches cut from real photographs, and what `index` made of them, for the tests of `index`."""

from pathlib import Path

import pandas as pd
from PIL import Image

from salakseg.data.index_files import read_index
from tests.conftest import SAMPLES

PHOTOS = sorted(path.stem for path in (SAMPLES / "images").iterdir())
SIDE = 64


def cut_photo(
    photo: str, folder: Path, base: str = "", mask: bool = True, side: int = SIDE, rows: int = 2
) -> None:
    """Cut the top of a sample photo into patches named as drone surveys name them."""
    image = Image.open(SAMPLES / f"images/{photo}.jpg")
    colors = Image.open(SAMPLES / f"masks/{photo}.png").convert("RGB")
    for name in ("images", "masks") if mask else ("images",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        for column in range(image.width // side):
            box = (column * side, row * side, column * side + side, row * side + side)
            name = f"{base or photo}_patch_{row:03d}_{column:03d}.png"
            image.crop(box).save(folder / "images" / name)
            if mask:
                colors.crop(box).save(folder / "masks" / name)


def problems() -> pd.DataFrame:
    return pd.read_csv("index/problems.csv", keep_default_na=False)


def patch(data: Path, number: int = 0, what: str = "masks") -> Path:
    """One of the patches of the first photo."""
    return sorted((data / "flight-1" / what).iterdir())[number]


def row_of(path: Path) -> pd.Series:
    patches = read_index(Path("index")).patches
    return patches[patches["image"].str.endswith(f"images/{path.stem}.png")].iloc[0]


def save_split(data: Path, splits: dict[str, str], header: str = "base_image,split") -> Path:
    path = data.parent / "split.csv"
    lines = [header, *(f"{name},{split}" for name, split in splits.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
