"""The picture of docs/maps.md: the files of a map side by side, as `salakseg demo` leaves them.

salakseg demo
python docs/map_picture.py salakseg-demo/predictions/farm docs/map.jpg
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio
from PIL import Image

from salakseg.classes import IGNORE_INDEX

SHRINK = 2  # the confidence is read at half its size


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", help="its files without their endings: predictions/farm")
    parser.add_argument("out", type=Path, help="a JPEG")
    options = parser.parse_args()
    with rasterio.open(f"{options.map}_confidence.tif") as raster:
        percent = raster.read(1, out_shape=(raster.height // SHRINK, raster.width // SHRINK))
    areas = pd.read_csv(f"{options.map}_areas.csv")
    figure, (above, below) = plt.subplots(2, figsize=(11, 9.6), height_ratios=(1.12, 1))
    above.imshow(Image.open(f"{options.map}_preview.png"), interpolation="antialiased")
    above.set_title("_preview.png", fontsize=10, loc="left", family="monospace")
    above.axis("off")
    left, right = below.inset_axes((0, 0, 0.49, 1)), below.inset_axes((0.55, 0, 0.45, 1))
    below.axis("off")
    shown = left.imshow(
        np.ma.masked_equal(percent, IGNORE_INDEX), cmap="magma", vmin=0, vmax=100, aspect="equal"
    )
    left.set_title("_confidence.tif, %", fontsize=10, loc="left", family="monospace")
    left.axis("off")
    figure.colorbar(shown, ax=left, fraction=0.035, pad=0.02)
    right.axis("off")
    right.set_title("_areas.csv", fontsize=10, loc="left", family="monospace")
    bounds = ["new_photo_hectares_low", "new_photo_hectares_high"]
    bounded = areas[bounds].notna().all(axis=None)
    rows = [
        [
            row["class"],
            f"{row['hectares']:.4f}",
            f"{100 * row['share']:.1f}",
            f"{row['adjusted_hectares']:.4f}"
            + (" ({:.4f} to {:.4f})".format(*row[bounds]) if bounded else ""),
        ]
        for _, row in areas.iterrows()
    ]
    table = right.table(
        rows,
        colLabels=[
            "class",
            "ha",
            "%",
            "adjusted ha" + (" (95 % of new photos)" if bounded else ""),
        ],
        colWidths=[0.28, 0.15, 0.1, 0.47],
        cellLoc="right",
        loc="upper center",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.5)
    for cell in table.get_celld().values():
        cell.set_linewidth(0.3)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96, hspace=0.06)
    figure.savefig(options.out, dpi=110, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()
