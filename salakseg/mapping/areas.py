"""Areas of the classes of a map, corrected by what validation knows of the model's errors.

In: the finished labels, read in strips; how large the image's pixels are on the ground; the model's
confusion matrices on its validation photographs. Out: pixels and square metres a class, and the
error-adjusted areas of Olofsson et al. 2014 ("Good practices for estimating area and assessing
accuracy of land change", equation 9) with an interval for a new photograph.

That paper's own interval (equations 10 and 11) is for a random sample of this map's pixels, which
validation photographs are not: pixels of one photograph share their errors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from salakseg.data.problems import plural
from salakseg.imagery.area import area_basis, ground_pixel_size, pixel_areas, unknown_area
from salakseg.imagery.photo import ground_sampling
from salakseg.imagery.raster import ImageSource
from salakseg.metrics import LEVEL, student_t
from salakseg.model.applicability import UNLIKE, is_far
from salakseg.model.weights import Model

SQUARE_METRES_PER_HECTARE = 10_000
# So few that what is worked out of them stays in a processor's cache.
STRIP_PIXELS = 500_000
# With fewer validation photographs there is no interval: in simulations it then holds too little.
LEAST_PHOTOS = 5
# A class with a share p is missed by a multiple of √(p (1 − p)); this is p (1 − p) of the rarest.
LEAST_SPREAD = 0.01
NONE = "none: "

ReadLabels = Callable[[int, int, int, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Ground:
    """How large an image's pixels are on the ground.

    Attributes:
        basis: how that is known, or "pixels only: …" and why it is not.
        side: side of the middle pixel in metres, None where not known.
        areas: (column, row, width, height) of a window → float64 (height, width) in m², or None.
    """

    basis: str
    side: float | None = None
    areas: Callable[[int, int, int, int], NDArray[np.float64]] | None = None


def ground_of(source: ImageSource, gsd: float | None, is_photo: bool) -> Ground:
    """By the CRS; without one by `gsd` (metres a pixel); else by a drone photograph's metadata."""
    unknown = unknown_area(source.crs, source.transform, source.width, source.height)
    if unknown is None:
        return Ground(
            area_basis(source.crs),
            ground_pixel_size(source.crs, source.transform, source.width, source.height),
            lambda *window: pixel_areas(source.crs, source.transform, *window),
        )
    if gsd is not None:
        side, basis = gsd, f"by --gsd {gsd:g}"
    elif is_photo:
        found, why = ground_sampling(source.file, source.width, source.height)
        if found is None:
            return Ground(f"pixels only: {unknown}, and {why}")
        side, basis = found, why
    else:
        return Ground(f"pixels only: {unknown}")
    return Ground(
        basis, side, lambda column, row, width, height: np.full((height, width), side * side)
    )


@dataclass(frozen=True)
class Validation:
    """What the model's validation knows of a map's errors.

    Attributes:
        confusions: int64 (G, K, K) by photograph, or (K, K), their sum; rows the truth, columns the
            prediction. None: areas are not corrected.
        none: why there is no interval; "" where there is one.
    """

    confusions: NDArray[np.int64] | None
    none: str

    @property
    def photos(self) -> NDArray[np.int64]:
        """int64 (G, K, K), those with pixels of the validation photographs that are known apart."""
        found = self.confusions
        if found is None or found.ndim == 2:
            return np.zeros((0, 0, 0), np.int64)
        return found[found.any(axis=(1, 2))]

    def meaning(self) -> str:
        """What the interval is, and whether the correction is worth having."""
        truth, mapped, corrected = left_out(self.photos)
        of_mapped, of_corrected = (np.abs(shares - truth).mean() for shares in (mapped, corrected))
        return (
            "In brackets: where the true area of a new photograph lies 95 times in 100. On the "
            f"{len(truth)} validation photographs, each left out in turn, corrected shares were "
            f"{of_corrected:.1%} of the ground off on average, mapped ones {of_mapped:.1%}. Nobody "
            "checked this map: on other ground the errors are others."
        )


def validation_of(model: Model, far: Sequence[float | None]) -> Validation:
    """What corrects a map, or several together, of a model.

    Args:
        far: `Prediction.far` of each. Where more than half of one is unlike all that was labelled,
            the errors in validation are not its errors: nothing is corrected.
    """
    beyond = [share for share in far if share is not None and is_far(share)]
    confusions = model.val_confusion if model.val_confusions is None else model.val_confusions
    if beyond:
        which = (
            f"{beyond[0]:.0%} of it looks" if len(far) == 1 else f"{len(beyond)} of the maps look"
        )
        return Validation(None, f"{which} {UNLIKE}")
    if model.enlarge != 1:
        return Validation(None, "what validation knows is of images that are not enlarged")
    if confusions is None:
        return Validation(None, "the model file holds no validation scores")
    known = Validation(confusions, "")
    if confusions.ndim == 2:
        none = "the model file does not tell its validation photographs apart; train it anew"
    elif len(known.photos) < LEAST_PHOTOS:
        few = plural(len(known.photos), "validation photograph is", "validation photographs are")
        none = f"{few} too few, {LEAST_PHOTOS} are needed"
    else:
        return known
    return Validation(confusions, none)


@dataclass(frozen=True)
class Areas:
    """The classes' share of a map or a zone.

    Attributes:
        pixels: int64 (K,).
        square_metres: float64 (K,), or None where not known.
        adjusted: float64 (K, 3): error-adjusted share of each class, low and high end of the
            interval that holds it in 95 % of new photographs, 0 and 1 where there is none; or None.
        interval: in words, what the interval is, or `NONE` and why.
    """

    pixels: NDArray[np.int64]
    square_metres: NDArray[np.float64] | None
    adjusted: NDArray[np.float64] | None = None
    interval: str = ""

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 (K,): of the ground where its area is known, else of the pixels."""
        amounts = self.pixels if self.square_metres is None else self.square_metres
        return amounts / (amounts.sum() or 1)

    @property
    def hectares(self) -> float | None:
        """Of all classes together; None where not known."""
        if self.square_metres is None:
            return None
        return float(self.square_metres.sum()) / SQUARE_METRES_PER_HECTARE

    def corrected(self, validation: Validation) -> "Areas":
        """The same with error-adjusted shares."""
        adjusted = error_adjusted(self.shares, validation.confusions)
        if validation.none:
            words = NONE + validation.none
        elif not self.pixels.any():
            words = f"{NONE}nothing of it is mapped"
        elif adjusted is None:
            words = f"{NONE}a class of it was never predicted in validation"
        else:
            words = f"{LEVEL:.0%} for a new photograph, by {len(validation.photos)} of validation"
        return Areas(self.pixels, self.square_metres, adjusted, words)


def error_adjusted(
    shares: NDArray[np.float64], confusion: NDArray[np.int64] | None
) -> NDArray[np.float64] | None:
    """Error-adjusted share of each class, and an interval for a new photograph, float64 (K, 3).

    The share is p_j = Σ_i W_i n_ij / n_i, where W_i is the mapped share of class i and n_ij counts
    validation pixels mapped as i that are j. The interval is made of what the same formula, from
    the other photographs, missed in each validation photograph g by: e_gj. As a share p is missed
    by more in the middle than near 0 or 1, that is taken in units of s(p) = √(p (1 − p)), and
    p_j ± t s(p_j) √(Σ_g e_gj² / Σ_g s(p_gj)²) holds 95 % of new photographs, if they are to the
    model what those of validation are. Student's t is for as many photographs as weigh in s².

    Args:
        shares: float64 (K,): mapped shares.
        confusion: int64 (G, K, K), a matrix for each validation photograph, rows the truth, columns
            the prediction; or (K, K), their sum; or None.

    Returns:
        None where the matrix is missing, the map is empty, or a class of the map was never
        predicted in validation. Low is 0 and high 1, nothing being known, where the photographs are
        not known apart or are fewer than `LEAST_PHOTOS`.
    """
    if confusion is None or not shares.sum():
        return None
    photos = confusion.reshape(-1, *confusion.shape[-2:])
    photos = photos[photos.any(axis=(1, 2))]
    total = photos.sum(0)
    if not total.sum(0)[shares > 0].all():
        return None
    adjusted = shares @ _rates(total)
    low, high = np.zeros_like(adjusted), np.ones_like(adjusted)
    if len(photos) >= LEAST_PHOTOS:
        truth, _, expected = left_out(photos)
        spread = _spread(expected)
        weighing = spread.sum(0) ** 2 / (spread**2).sum(0)
        missed = ((truth - expected) ** 2).sum(0) / spread.sum(0)
        half = student_t(weighing - 1) * np.sqrt(missed * _spread(adjusted))
        low, high = np.maximum(0, adjusted - half), np.minimum(1, adjusted + half)
    return np.column_stack([adjusted, low, high])


def left_out(
    photos: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of photographs (G, K, K), each with pixels, the shares of the classes in each: the true ones,
    the mapped ones, and these corrected by the other photographs; float64 (G, K) each."""
    pixels = photos.sum((1, 2))[:, None]
    truth, mapped = photos.sum(2) / pixels, photos.sum(1) / pixels
    return truth, mapped, np.einsum("gi,gij->gj", mapped, _rates(photos.sum(0) - photos))


def _rates(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(…, K, K), row i: the classes that pixels mapped as i are of; i itself where none was."""
    counts = np.swapaxes(confusion, -1, -2)
    pixels = counts.sum(-1, keepdims=True)
    return np.where(pixels, counts / np.maximum(pixels, 1), np.eye(counts.shape[-1]))


def _spread(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(shares * (1 - shares), LEAST_SPREAD)


def strips(row: int, column: int, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """A window cut into strips (row, column, height, width) of bounded size."""
    step = max(1, STRIP_PIXELS // max(1, width))
    for first in range(row, row + height, step):
        yield first, column, min(step, row + height - first), width


def count_labels(
    read: ReadLabels,
    window: tuple[int, int, int, int],
    ground: Ground,
    inside: Callable[[int, int, int, int], NDArray[np.bool_]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Pixels and square metres of each label in a window (row, column, height, width).

    Args:
        read: (row, column, height, width) → labels.
        inside: the same → bool, the pixels that count; None: all.

    Returns:
        int64 (256,), and float64 (256,) or None where not known.
    """
    pixels, square_metres = np.zeros(256, np.int64), np.zeros(256)
    for row, column, height, width in strips(*window):
        counted = ... if inside is None else inside(row, column, height, width)
        labels = read(row, column, height, width)[counted].ravel()
        pixels += np.bincount(labels, minlength=256)
        if ground.areas is not None:
            areas = ground.areas(column, row, width, height)[counted].ravel()
            square_metres += np.bincount(labels, areas, minlength=256)
    return pixels, None if ground.areas is None else square_metres


def measure_areas(
    read: ReadLabels, shape: tuple[int, int], ground: Ground, num_classes: int
) -> Areas:
    """Pixels and areas of the classes in a whole map of `shape` (height, width)."""
    pixels, square_metres = count_labels(read, (0, 0, *shape), ground)
    return of_classes(pixels, square_metres, num_classes)


def of_classes(
    pixels: NDArray[np.int64], square_metres: NDArray[np.float64] | None, num_classes: int
) -> Areas:
    """The classes' part of what `count_labels` counted."""
    metres = None if square_metres is None else square_metres[:num_classes]
    return Areas(pixels[:num_classes], metres)
