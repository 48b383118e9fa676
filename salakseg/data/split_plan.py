"""A split by blocks of ground, drawn: each patch in its place, in the colour of its split."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from salakseg.data.split_area import Edges
from salakseg.imagery.drawing import MARGIN, TEXT_SIZE, Picture

COLORS = {
    "train": (46, 125, 50),
    "unlabeled": (197, 225, 165),
    "val": (230, 120, 20),
    "exclude": (200, 200, 200),
}
CALLED = {"unlabeled": "unlabelled", "exclude": "not used"}


def with_plan(
    preview: Picture, patches: pd.DataFrame, bases: pd.DataFrame, edges: dict[int, Edges]
) -> Picture:
    """A preview with a plan below it of each image that has patches of validation.

    Args:
        edges: base image → where blocks' edges lie, across and down, in pixels of the image.
    """
    width = preview.shape[1]
    held = patches["base"][patches["split"] == "val"]
    plans = [
        _plan(
            patches[(patches["base"] == base) & patches["x"].notna()],
            f"{bases['folder'].iloc[base]}/{bases['base_image'].iloc[base]}",
            edges[base],
            width,
        )
        for base in sorted(set(held))
    ]
    return np.concatenate([preview, *plans])


def _plan(patches: pd.DataFrame, title: str, edges: Edges, width: int) -> Picture:
    font = ImageFont.load_default(TEXT_SIZE)
    boxes = patches[["x", "y", "width", "height"]].to_numpy(float)
    boxes[:, 2:] += boxes[:, :2]
    right, bottom = boxes[:, 2:].max(0)
    scale = (width - 2 * MARGIN) / max(right, bottom)
    head = 2 * (TEXT_SIZE + MARGIN) + MARGIN
    height = head + round(bottom * scale) + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), f"Blocks of ground: {title}", fill="black", font=font)
    left = MARGIN
    for split, color in COLORS.items():
        top = 2 * MARGIN + TEXT_SIZE
        square = (left, top, left + TEXT_SIZE, top + TEXT_SIZE)
        draw.rectangle(square, fill=color, outline="black")
        called = CALLED.get(split, split)
        draw.text((left + TEXT_SIZE + MARGIN // 2, top - 1), called, fill="black", font=font)
        left += TEXT_SIZE + 2 * MARGIN + int(font.getlength(called))
    # What is used lies over what is not, since the last patches of a row overlap others.
    order = ["exclude", "unlabeled", "train", "val"]
    splits = patches["split"].to_numpy()
    for split in order:
        for box in boxes[splits == split] * scale:
            x, y, end, foot = np.add(box, (MARGIN, head, MARGIN - 1, head - 1))
            draw.rectangle((x, y, max(x, end), max(y, foot)), fill=COLORS[split])
    across = [MARGIN + x * scale for x in edges[0]]
    down = [head + y * scale for y in edges[1]]
    for x in across:
        draw.line((x, down[0], x, down[-1]), fill="black", width=2)
    for y in down:
        draw.line((across[0], y, across[-1], y), fill="black", width=2)
    return np.asarray(sheet)
