"""Pictures for people: overlays, legends, contact sheets. All uint8 (H, W, 3) RGB."""

from collections.abc import Sequence
from math import floor, log10

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from salakseg.classes import IGNORE_INDEX, ClassMapping

Picture = NDArray[np.uint8]
MARGIN = 8
TEXT_SIZE = 14


def colorize(labels: NDArray[np.uint8], mapping: ClassMapping) -> Picture:
    """Class indices (H, W) → class colours (H, W, 3); pixels without a class are black."""
    return mapping.palette[labels]


def overlay(
    image: Picture, labels: NDArray[np.uint8], mapping: ClassMapping, opacity: float = 0.5
) -> Picture:
    """Lay the class colours over the image; pixels without a class show the image alone."""
    blended = (1 - opacity) * image + opacity * colorize(labels, mapping)
    return np.where((labels == IGNORE_INDEX)[..., None], image, blended.round()).astype(np.uint8)


def legend(mapping: ClassMapping, width: int) -> Picture:
    """A strip of `width` pixels with each class's colour and name, in as many lines as needed."""
    font = ImageFont.load_default(TEXT_SIZE)
    line_height = TEXT_SIZE + MARGIN
    places: list[tuple[int, int]] = []
    x, y = MARGIN, MARGIN
    for name in mapping.names:
        item = int(font.getlength(name)) + TEXT_SIZE + 3 * MARGIN
        if x > MARGIN and x + item > width:
            x, y = MARGIN, y + line_height
        places.append((x, y))
        x += item
    strip = Image.new("RGB", (width, y + line_height), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y), name, color in zip(places, mapping.names, mapping.colors, strict=True):
        draw.rectangle((x, y, x + TEXT_SIZE, y + TEXT_SIZE), fill=color, outline="black")
        draw.text((x + TEXT_SIZE + MARGIN // 2, y - 1), name, fill="black", font=font)
    return np.asarray(strip)


def scale_bar(metres_per_pixel: float, width: int) -> Picture:
    """A strip of `width` pixels with a bar of a round length, at most a third of it."""
    longest = metres_per_pixel * width / 3
    step = 10.0 ** floor(log10(longest))
    length = max(factor * step for factor in (1, 2, 5) if factor * step <= longest)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    strip = Image.new("RGB", (width, TEXT_SIZE + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(strip)
    end = MARGIN + round(length / metres_per_pixel)
    middle = MARGIN + TEXT_SIZE // 2
    draw.line((MARGIN, middle, end, middle), fill="black", width=3)
    for x in (MARGIN, end):
        draw.line((x, middle - MARGIN, x, middle + MARGIN), fill="black")
    font = ImageFont.load_default(TEXT_SIZE)
    draw.text((end + MARGIN, MARGIN - 2), text, fill="black", font=font)
    return np.asarray(strip)


def fit(picture: Picture, width: int, height: int) -> Picture:
    """Shrink (never enlarge) to fit width × height, keeping the proportions."""
    image = Image.fromarray(picture)
    image.thumbnail((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def averaged(picture: Picture, step: int) -> Picture:
    """The mean of each step × step pixels; of the last ones less may be there."""
    return np.asarray(Image.fromarray(picture).reduce(step))


def contact_sheet(
    rows: Sequence[Sequence[Picture]],
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    mapping: ClassMapping,
    cell: int = 256,
) -> Picture:
    """A table of pictures with titles over the columns and under the rows, a legend at the foot.

    Args:
        rows: pictures by row and column; every row as long as `column_titles`. They are shrunk to
            fit `cell` × `cell` pixels.
    """
    font = ImageFont.load_default(TEXT_SIZE)
    step = cell + MARGIN
    row_height = cell + TEXT_SIZE + 2 * MARGIN
    width = MARGIN + step * len(column_titles)
    head = TEXT_SIZE + 2 * MARGIN
    foot = legend(mapping, width)
    sheet = Image.new("RGB", (width, head + row_height * len(rows) + len(foot)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(column_titles):
        draw.text((MARGIN + column * step, MARGIN), title, fill="black", font=font)
    for row, (pictures, title) in enumerate(zip(rows, row_titles, strict=True)):
        top = head + row * row_height
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(fit(picture, cell, cell)), (MARGIN + column * step, top))
        draw.text((MARGIN, top + cell + 2), title, fill="black", font=font)
    sheet.paste(Image.fromarray(foot), (0, head + row_height * len(rows)))
    return np.asarray(sheet)
