"""Features that are made up, for what is computed from them."""

import numpy as np
import pandas as pd

from salakseg.suggestion.embed import Features


def made_up(photos: dict[str, tuple[str, list[list[float]]]]) -> Features:
    """Features by photograph 'folder/name': its split, and a vector a patch."""
    rows = [
        {"folder": name.split("/")[0], "base_image": name.split("/")[1], "split": split}
        for name, (split, vectors) in photos.items()
        for _ in vectors
    ]
    patches = pd.DataFrame(rows)
    patches["key"] = [f"{row.folder}/{row.base_image}_{n}" for n, row in patches.iterrows()]
    values = np.array([v for _, vectors in photos.values() for v in vectors], np.float16)
    return Features(patches, values, values.shape[1])


def random_photos(seed: int, photos: int = 9, patches: int = 7) -> Features:
    random = np.random.default_rng(seed)
    return made_up(
        {
            f"f/{n}": (
                "train" if n == 0 else "unlabeled",
                (random.normal(size=6) * 2 + random.normal(size=(patches, 6))).tolist(),
            )
            for n in range(photos)
        }
    )
