"""What is suggested, to look at: the pictures of `contact_sheet.png`, and `coverage.png`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from salakseg.classes import IGNORE_INDEX
from salakseg.imagery.drawing import MARGIN, TEXT_SIZE, Picture, colorize, fit
from salakseg.imagery.tiles import paste
from salakseg.model.weights import Model
from salakseg.suggestion.originals import Photo, guess

COLUMNS = ["Photo", "The model's guess", "Unsure in red: full at 50%"]
SIDE = 512
CELL = 256
IN_A_ROW = 4
UNSURE = np.array((230, 25, 25))
# The ground stays visible under the red.
OPACITY = 0.8


def look(
    photo: Photo, model: Model | None, amp: bool | None, keep: bool
) -> tuple[list[Picture], NDArray[np.uint8] | None]:
    """Pictures of at most SIDE pixels a side: the photo, and with a model its guess and where it is
    unsure; and to `keep` the guess, uint8 (H, W).
    """
    with photo.open() as source:
        height, width = source.height, source.width
        step = max(1, -(-max(height, width) // SIDE))
        small = -(-height // step), -(-width // step)
        image = np.zeros((*small, 3), np.uint8)
        labels, confidence = (np.full(small, IGNORE_INDEX, np.uint8) for _ in range(2))
        kept = np.full((height, width), IGNORE_INDEX, np.uint8) if keep and model else None
        for block in guess(source, model, amp):
            every = np.s_[-block.row % step :: step, -block.column % step :: step]
            place = -(-block.row // step), -(-block.column // step)
            paste(image, block.image[every], *place)
            paste(labels, block.labels[every], *place)
            paste(confidence, block.confidence[every], *place)
            if kept is not None:
                paste(kept, block.labels, block.row, block.column)
    if model is None:
        return [image], None
    return [image, colorize(labels, model.mapping), doubt(image, confidence)], kept


def doubt(image: Picture, confidence: NDArray[np.uint8]) -> Picture:
    """The image (H, W, 3) in grey, redder the less sure: at 100 % not, at 50 % and less fully.

    Args:
        confidence: percent (H, W); where it is 255 the picture is black.
    """
    red = OPACITY * np.clip((100 - confidence.astype(np.float32)) / 50, 0, 1)[..., None]
    grey = image.mean(2, keepdims=True) / 2 + 100
    return np.where((confidence <= 100)[..., None], grey + red * (UNSURE - grey), 0).astype(
        np.uint8
    )


def photo_sheet(pictures: Sequence[Picture], titles: Sequence[str]) -> Picture:
    """Pictures, shrunk to CELL pixels a side, IN_A_ROW of them side by side, each under its title.

    A title that is too long loses letters in the middle.
    """
    font = ImageFont.load_default(TEXT_SIZE)
    step, head = CELL + MARGIN, TEXT_SIZE + MARGIN
    rows = -(-len(pictures) // IN_A_ROW)
    size = MARGIN + step * min(IN_A_ROW, len(pictures)), MARGIN + (step + head) * rows
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(place, IN_A_ROW)
        x, y = MARGIN + column * step, MARGIN + row * (step + head)
        said, gone = title, 0
        while font.getlength(said) > CELL:
            gone += 1
            half = (len(title) - gone) // 2
            said = f"{title[:half]}…{title[half + gone :]}"
        draw.text((x, y), said, fill="black", font=font)
        sheet.paste(Image.fromarray(fit(picture, CELL, CELL)), (x, y + head))
    return np.asarray(sheet)


def draw_coverage(
    path: Path,
    coverage: NDArray[np.float64],
    count: int,
    flat_after: int | None,
    labelled: int,
    what: str,
) -> None:
    """Draw coverage against the number of masks.

    Args:
        path: the PNG to write.
        coverage: 0 to 1, today and after each further mask.
        count: how many are suggested, the others follow them.
        flat_after: after how many the curve is flat.
        labelled: how many there are today.
        what: what a mask belongs to, in the plural.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    numbers, percent = labelled + np.arange(len(coverage)), 100 * coverage
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(numbers[0], percent[0], "o", color="black", zorder=4, label="today")
    axes.plot(numbers[: count + 1], percent[: count + 1], lw=3, zorder=3, label="suggested")
    axes.plot(numbers[count:], percent[count:], color="0.5", label="further ones")
    if flat_after is not None:
        axes.axvline(numbers[flat_after], color="0.6", ls="--", label="flat from here")
    axes.set_xlabel(f"{what} with a mask to train on")
    axes.set_ylabel("Coverage: mean similarity to the nearest of them")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, format="png")
