"""The picture of docs/assess.md: a sample and what came of it, as `salakseg demo` leaves them.

salakseg demo
python docs/assess_picture.py salakseg-demo/assessment docs/assess.jpg
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import ListedColormap
from PIL import Image

from salakseg.assessment.points import ANSWERS, read_plan

SHRINK = 2  # the map is read at half its size


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assessment", type=Path, help="that of a map in hectares, with its score")
    parser.add_argument("out", type=Path, help="a JPEG")
    options = parser.parse_args()
    folder = options.assessment
    plan = read_plan(folder)
    names, sample = plan.mapping.names, plan.content["sample"]
    with (folder / ANSWERS).open(encoding="utf-8", newline="") as file:
        answers = {row["id"]: row["reference"] for row in csv.DictReader(file)}
    right = np.array([answers[one["id"]] == names[one["class"]] for one in sample])
    figure = plt.figure(figsize=(10, 8))
    grid = figure.add_gridspec(2, 2, height_ratios=(1.75, 1), width_ratios=(1, 2.6))
    chip, across = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    areas = figure.add_subplot(grid[1, :])

    first = sample[int(np.flatnonzero(~right)[0])]
    near, wide = np.split(np.asarray(Image.open(folder / "chips" / f"{first['id']}.jpg")), 2, 1)
    chip.imshow(np.concatenate([near, wide]))
    chip.set_title(f"point {first['id']}: {answers[first['id']]}", fontsize=10, loc="left")

    with rasterio.open(folder / plan.content["maps"][0]["file"]) as raster:
        shape = raster.height // SHRINK, raster.width // SHRINK
        labels = raster.read(1, out_shape=shape, masked=True)
    colours = ListedColormap(np.array(plan.mapping.colors) / 255)
    across.imshow(labels, cmap=colours, vmin=-0.5, vmax=len(names) - 0.5, alpha=0.75)
    at = np.array([[one["column"], one["row"]] for one in sample]) / SHRINK
    across.scatter(*at[right].T, 16, "white", edgecolors="black", linewidths=0.7)
    across.scatter(*at[~right].T, 90, "white", marker="X", edgecolors="black", linewidths=1)
    wrong = f"{len(sample)} points; × the {(~right).sum()} where the map is wrong"
    across.set_title(wrong, fontsize=10, loc="left")
    for axis in (chip, across):
        axis.set_anchor("NW")
        axis.axis("off")

    found = json.loads((folder / "assessment.json").read_text(encoding="utf-8"))
    for row, one in enumerate(found["classes"]):
        area = one["hectares"]
        reach = [[area["estimate"] - area["low"]], [area["high"] - area["estimate"]]]
        areas.errorbar(area["estimate"], row, xerr=reach, fmt="ok", capsize=4, markersize=5)
        mapped = one["mapped_share"] * found["hectares"]
        areas.plot(mapped, row, "|", color="red", markersize=18, markeredgewidth=2)
    areas.set_yticks(range(len(found["classes"])), [one["class_name"] for one in found["classes"]])
    areas.invert_yaxis()
    areas.set_xlim(0)
    areas.set_title(
        "hectares: mapped (red), estimated with the 95 % interval (black)", fontsize=10, loc="left"
    )
    areas.grid(axis="x", alpha=0.3)
    figure.subplots_adjust(0.13, 0.05, 0.99, 0.96, hspace=0.12, wspace=0.05)
    figure.savefig(options.out, dpi=110, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()
