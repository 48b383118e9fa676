"""A stratified random sample, checked → accuracies and areas with standard errors. Formulas alone.

After Stehman 2014 ("Estimating area and map accuracy for stratified random sampling when the strata
are different from the map classes", IJRS 35), of which the estimators of Olofsson et al. 2014
("Good practices for estimating area and assessing accuracy of land change", RSE 148, equations 1 to
11) are the case in which each class of the map is a stratum: equations 5, 6, 7 and 10 there are 25
and 28 here, but for the factor 1 - n/N, which Olofsson et al. leave out.

The population is ground, cut into H strata of which stratum h holds the share W_h. Of its N_h
pixels n_h were drawn, each as likely as its ground is large, and have an answer.

Standard errors are those of the papers. Intervals are wider where they have to be: a stratum whose
points are all of one class has no variance by those equations, so that for a good map, or few
points, plus and minus 1.96 of them holds the truth in 70 to 90 of 100 cases. Therefore one point
more is imagined in each stratum, spread evenly over the classes, as by the prior of Perks 1947, and
Student's t takes the place of 1.96.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from salakseg.metrics import student_t

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The variance of a share that one point tells of is not known: that of a half is the largest.
LARGEST_VARIANCE = 0.25
IMAGINED = 1.0


@dataclass(frozen=True)
class Sample:
    """The points that have an answer.

    Attributes:
        stratum, mapped, reference: int (n,), of each point its stratum 0 … H-1, the map's class
            0 … K-1, and the class that it is in truth, 0 … K; K is none of the map's.
        weights: float64 (H,), the strata's shares of the population, 1 together.
        sizes: int64 (H,), pixels of the strata, N_h.
        trust: float64 (n,), 1, or less for a point that is imagined; None: all are 1.
    """

    stratum: Ints
    mapped: Ints
    reference: Ints
    weights: Floats
    sizes: Ints
    trust: Floats | None = None

    @property
    def counts(self) -> Ints:
        """int64 (H,): points of each stratum that somebody checked, n_h."""
        return np.bincount(self.stratum[self.real], minlength=len(self.weights))

    @property
    def real(self) -> NDArray[np.bool_]:
        """bool (n,): whether somebody checked it."""
        return np.ones(len(self.stratum), bool) if self.trust is None else self.trust == 1


@dataclass(frozen=True)
class Estimate:
    """Shares 0 … 1, any number m of them: value, standard error, ends of the 95 % interval, float64
    (m,) each; NaN where there is nothing that it could be a share of."""

    value: Floats
    error: Floats
    low: Floats
    high: Floats

    def __getitem__(self, which: int) -> tuple[float, float, float, float]:
        """Value, standard error, low and high of one."""
        each = (self.value, self.error, self.low, self.high)
        value, error, low, high = (float(one[which]) for one in each)
        return value, error, low, high


@dataclass(frozen=True)
class Estimates:
    """What a sample says.

    Attributes:
        matrix: float64 (K, K + 1), shares of the population by map class and true class; the last
            column is none of the map's classes.
        overall: of the map that is right, m = 1.
        users: of what is mapped as each class, that is it, m = K.
        producers: of what is each class, that is mapped as it, m = K.
        areas: each true class's share of the population, m = K + 1.
    """

    matrix: Floats
    overall: Estimate
    users: Estimate
    producers: Estimate
    areas: Estimate


def estimates(sample: Sample, num_classes: int) -> Estimates:
    """Accuracies and areas; each stratum of some weight has a point."""
    sample = _with_imagined(sample, num_classes)
    is_mapped = _indicators(sample.mapped, num_classes)
    is_truly = _indicators(sample.reference, num_classes + 1)
    of_both = is_mapped[:, :, None] * is_truly[:, None, :]
    right = of_both[:, np.arange(num_classes), np.arange(num_classes)]
    cells = of_both.reshape(len(of_both), num_classes * (num_classes + 1))
    return Estimates(
        matrix=_means(sample, cells).reshape(num_classes, num_classes + 1),  # eq. 16
        overall=_share(sample, right.sum(1, keepdims=True)),  # eq. 12
        users=_ratio(sample, right, is_mapped),
        producers=_ratio(sample, right, is_truly[:, :num_classes]),
        areas=_share(sample, is_truly),  # eq. 14
    )


def in_domain(sample: Sample, inside: NDArray[np.bool_], num_classes: int) -> Estimate:
    """The true classes' shares, m = K + 1, of a part of the population that is no stratum: a zone.

    Args:
        inside: bool (n,).
    """
    shares = _strata_means(sample, inside[:, None].astype(float), sample.real)[:, 0]
    more = _with_imagined(sample, num_classes)
    assert more.trust is not None
    # Of an imagined point, only its stratum's share of the domain is in it.
    trust = np.where(more.real, 1, more.trust * shares[more.stratum])
    more = replace(more, trust=trust)
    whole = np.ones((len(trust), 1))
    whole[: len(inside), 0] = inside
    return _ratio(more, _indicators(more.reference, num_classes + 1) * whole, whole)


def _with_imagined(sample: Sample, num_classes: int) -> Sample:
    """The sample, and in each stratum `IMAGINED` points of all classes, mapped as most there."""
    strata = len(sample.weights)
    votes = np.zeros((strata, num_classes), np.int64)
    np.add.at(votes, (sample.stratum, sample.mapped), 1)
    return Sample(
        np.append(sample.stratum, np.repeat(np.arange(strata), num_classes)),
        np.append(sample.mapped, np.repeat(votes.argmax(1), num_classes)),
        np.append(sample.reference, np.tile(np.arange(num_classes), strata)),
        sample.weights,
        sample.sizes,
        np.append(
            np.ones(len(sample.stratum)), np.full(strata * num_classes, IMAGINED / num_classes)
        ),
    )


def _share(sample: Sample, values: Floats) -> Estimate:
    """Shares of the population: equations 2 and 25 of `values` (n, m), 0 or 1."""
    value = _means(sample, values)
    return _estimate(sample, value, *(_terms(sample, values, trust) for trust in _trusts(sample)))


def _ratio(sample: Sample, part: Floats, whole: Floats) -> Estimate:
    """Shares of a part of the population that is itself known by the sample only, R = Y / X.

    Its variance is that of the mean of y - R x over X² (eq. 28, where the three terms
    s_y² + R² s_x² - 2 R s_xy are the variance of that difference).

    Args:
        part, whole: float64 (n, m), 0 or 1: whether a point is in the part, and in the whole.
    """
    total = _means(sample, whole)
    total = np.where(total > 0, total, np.nan)
    value = _means(sample, part) / total
    left = part - np.nan_to_num(value) * whole
    terms = (_terms(sample, left, trust) / total**2 for trust in _trusts(sample))
    return _estimate(sample, value, *terms)


def _trusts(sample: Sample) -> tuple[Floats, Floats]:
    """Float64 (n,): the points that were checked, and the imagined ones too."""
    real = sample.real.astype(float)
    return real, real if sample.trust is None else sample.trust


def _means(sample: Sample, values: Floats) -> Floats:
    """Σ_h W_h ȳ_h of `values` (n, m), float64 (m,): equation 2."""
    return sample.weights @ _strata_means(sample, values, sample.real.astype(float))


def _strata_means(sample: Sample, values: Floats, trust: Floats | NDArray[np.bool_]) -> Floats:
    """float64 (H, m); 0 where there is no point."""
    inside = _indicators(sample.stratum, len(sample.weights)) * trust[:, None]
    return inside.T @ values / np.maximum(inside.sum(0), 1e-300)[:, None]


def _terms(sample: Sample, values: Floats, trust: Floats) -> Floats:
    """What each stratum adds to the variance of the mean of `values` (n, m), float64 (H, m): the
    terms W_h² (1 - n_h / N_h) s_h² / n_h of equation 25. Of a stratum with one point, s_h² is
    `LARGEST_VARIANCE`."""
    counts = sample.counts
    off = values - _strata_means(sample, values, trust)[sample.stratum]
    spread = _strata_means(sample, off**2, trust)
    spread *= (counts / np.maximum(counts - 1, 1))[:, None]
    spread[counts == 1] = LARGEST_VARIANCE
    unseen = 1 - np.minimum(counts / np.maximum(sample.sizes, 1), 1)
    return (sample.weights**2 * unseen / np.maximum(counts, 1))[:, None] * spread


def _estimate(sample: Sample, value: Floats, terms: Floats, wider: Floats) -> Estimate:
    """An estimate by what the strata add to its variance, (H, m), without and with imagined points.

    The interval is the value plus and minus t times the root of the latter, within 0 and 1, where t
    has the degrees of freedom of Satterthwaite 1946.
    """
    variance = wider.sum(0)
    freedom = np.maximum(sample.counts - 1, 1)[:, None]
    weighing = variance**2 / np.maximum((wider**2 / freedom).sum(0), 1e-300)
    half = student_t(np.where(variance > 0, weighing, np.inf)) * np.sqrt(variance)
    low, high = np.maximum(value - half, 0), np.minimum(value + half, 1)
    return Estimate(value, np.sqrt(terms.sum(0)), low, high)


def _indicators(values: Ints, count: int) -> Floats:
    """float64 (n, count): 1 where a value is that number."""
    return (values[:, None] == np.arange(count)).astype(np.float64)


def points_for(weights: Floats, accuracies: Floats, error: float) -> int:
    """How many points, allotted at their best, give the overall accuracy this standard error:
    (Σ_h W_h √(U_h (1 - U_h)) / S)², equation 13 of Olofsson et al. 2014 after Cochran 1977.

    Args:
        accuracies: float64 (H,), the user's accuracies that are expected.
    """
    spread = np.sqrt(accuracies * (1 - accuracies))
    return int(np.ceil(round(float(weights @ spread / error) ** 2, 6)))


def expected_error(weights: Floats, accuracies: Floats, counts: Sequence[int] | Ints) -> float:
    """The standard error of the overall accuracy that an allocation gives (eq. 5 there)."""
    terms = weights**2 * accuracies * (1 - accuracies)
    return float(np.sqrt((terms / np.maximum(counts, 1)).sum()))
