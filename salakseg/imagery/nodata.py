"""What is not there is not there: one rule for nodata, alpha, padding and margins.

Whoever reads an image gets its pixels together with which of them are valid. A pixel that is not
has no class, is not learnt from, not mapped and not counted; a network sees in its place the mean
colour of the others, in training as in mapping, so that no edge is made up.
"""

import numpy as np
from numpy.typing import NDArray


def filled(image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The tile or patch (H, W, 3), its pixels that are not valid in the mean colour of the others;
    where none is valid, as it is."""
    if valid.all() or not valid.any():
        return image
    image = image.copy()
    image[~valid] = image[valid].mean(axis=0).round()
    return image
