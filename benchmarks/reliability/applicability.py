"""Does `predict` tell images unlike everything labelled from others, and do errors grow with it?

    python benchmarks/reliability/applicability.py MODEL --near PHOTOS --far FOLDER FOLDER …

MODEL is a `final_model.pth`; PHOTOS holds `images/` and `masks/` of the same place that the model
was not trained on; each FOLDER images of other places. Prints of each the share of its images'
tiles that are far (what `predict` says), how many images are far, and of PHOTOS the rank
correlation of each photograph's distance with its share of wrong pixels.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import salakseg
from salakseg.mapping.inputs import find_inputs, open_input
from salakseg.mapping.likeness import distances
from salakseg.model.applicability import FAR_PATCHES
from salakseg.model.weights import Model, load_model


def looked_at(model: Model, folder: Path) -> pd.DataFrame:
    """Name, mean distance of its tiles and share of them that is far, of each image."""
    rows = []
    for image in find_inputs([folder]):
        with open_input(image) as source:
            found = distances(model, source)
        if len(found):
            rows.append((image.path.name, found.mean(), (found >= 1).mean()))
    return pd.DataFrame(rows, columns=["name", "distance", "far"])


def main() -> None:
    """Parse, look, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--near", type=Path, required=True)
    parser.add_argument("--far", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, default=Path("applicability-work"))
    options = parser.parse_args()
    model = load_model(options.model)
    print("| images | | tiles far | greatest | images far |")
    print("|---|---|---|---|---|")
    for folder in (options.near, *options.far):
        table = looked_at(model, folder)
        print(
            f"| {folder.name} | {len(table)} | {table.far.mean():.1%} | {table.far.max():.0%} | "
            f"{(table.far > FAR_PATCHES).sum()} |"
        )
    near = looked_at(model, options.near).set_index("name")
    salakseg.evaluate(options.model, data=options.near, out=options.work)
    scored = pd.read_csv(options.work / "per_base_image.csv").set_index("base_image")
    wrong = 1 - scored.pixel_accuracy[near.index]
    correlation = np.corrcoef(near.distance.rank(), wrong.rank())[0, 1]
    print(f"Spearman of distance and share of wrong pixels, {len(near)} photos: {correlation:.2f}")


if __name__ == "__main__":
    main()
