"""The scores of transferability that people know, computed exactly. What they are worth is in docs/transfer.md.

Features are centred, which is the same as a free bias. None of the scores changes if features are shifted, scaled as a
whole or rotated, or if classes are renamed; for that, TransRate is given features of mean variance 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

_EPSILON = float(np.finfo(np.float64).eps)
_LEAST_RATIO, _LARGEST_RATIO = 1e-12, 1e8
"""Bounds of the prior's precision over the noise's, in units of the largest squared singular value."""
_DISTORTION = 1e-4  # of TransRate, as in its authors' code


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Centred features as singular vectors and values; up to a rotation, no score needs more.

    Args:
        left: (n, r) orthonormal columns.
        values: (r,) > 0.
        width: number of features.
    """

    left: Array
    values: Array
    width: int

    @property
    def coordinates(self) -> Array:
        """(n, r) the features, rotated into as few columns as they span."""
        return np.asarray(self.left * self.values)


def spectrum(features: Array, *, width: int | None = None, fast: bool = False) -> Spectrum:
    """Centre features and decompose them.

    Args:
        features: (n, d) finite.
        width: number of features, if these are their coordinates.
        fast: by the eigenvectors of the smaller Gram matrix: several times faster, with half the digits.
    """
    centred = features - features.mean(0)
    count, columns = centred.shape
    if not fast:
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        kept = values > values.max(initial=0.0) * max(count, columns) * _EPSILON
    else:
        is_wide = columns > count
        squares, left = np.linalg.eigh(centred @ centred.T if is_wide else centred.T @ centred)
        kept = squares > squares.max(initial=0.0) * max(count, columns) * _EPSILON
        values = np.sqrt(np.where(kept, squares, 1.0))
        left = left if is_wide else centred @ left / values
    return Spectrum(left[:, kept], values[kept], width or columns)


def one_hot(classes: Integers) -> Array:
    """(n, number of classes) of 0 and 1."""
    return np.eye(int(classes.max()) + 1)[classes]


def logme(features: Spectrum, targets: Array) -> float:
    """The largest log evidence of a linear model with a free bias, per sample, averaged over the columns of targets.

    With y = Φw + b + noise, w ~ N(0, 1/α), noise ~ N(0, 1/β) and a flat prior on b, what is left of y is n - 1 numbers.
    In the basis of Φ's singular vectors the evidence depends on α/β alone once β is at its best, and is maximised over
    that; it is exact for any number of features, and for features of any rank.

    Args:
        features: decomposed.
        targets: (n, k): one-hot classes, or values.

    Source: You et al., LogME, 2021, equation 2, for which its authors give an iteration that drops a term where d > n.
    """
    squares, centred = features.values**2, targets - targets.mean(0)
    along = (features.left.T @ centred) ** 2
    rest = np.maximum((centred**2).sum(0) - along.sum(0), 0.0)
    freedom, columns = len(targets) - 1, zip(along.T, rest, strict=True)
    found = [_evidence(squares, part, float(remainder), freedom) for part, remainder in columns]
    return float(np.mean(found)) / len(targets)


def _evidence(squares: Array, along: Array, rest: float, freedom: int) -> float:
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - SciPy loads on first use

    largest = squares.max(initial=1.0)

    def loss(log_ratio: Any) -> Any:
        shares = 1.0 + squares / (np.exp(log_ratio)[..., None] * largest)
        left = np.maximum((along / shares).sum(-1) + rest, np.finfo(np.float64).tiny)
        return 0.5 * freedom * (np.log(2 * math.pi * left / freedom) + 1) + 0.5 * np.log(shares).sum(-1)

    grid = np.linspace(math.log(_LEAST_RATIO), math.log(_LARGEST_RATIO), 93)
    losses = loss(grid)
    best = int(np.argmin(losses))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    refined = minimize_scalar(
        lambda x: float(loss(np.float64(x))), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    return -min(float(refined.fun), float(losses[best]))


def h_score(features: Spectrum, classes: Integers) -> float:
    """The share of the features' variance between classes, in units of their covariance, shrunk towards a sphere.

    Args:
        features: decomposed.
        classes: (n,) numbers from 0.

    Source: Ibrahim et al., Newer is not always better, 2021, equation 6; Ledoit and Wolf, 2004, for the shrinkage.
    """
    count, width, coordinates = len(classes), features.width, features.coordinates
    variances = features.values**2 / count
    mean = variances.sum() / width
    spread = (variances**2).sum() - width * mean**2
    noise = ((coordinates**2).sum(1) ** 2).sum() / count**2 - (variances**2).sum() / count
    shrinkage = 1.0 if spread <= 0 else min(max(noise, 0.0), spread) / spread
    labels = one_hot(classes)
    means = (labels.T @ coordinates) / labels.sum(0)[:, None]
    between = (labels.mean(0)[:, None] * means**2).sum(0)
    return float(((1 - shrinkage) * between / ((1 - shrinkage) * variances + shrinkage * mean)).sum())


def transrate(features: Spectrum, classes: Integers) -> float:
    """How many more nats it takes to code the features together than class by class.

    Args:
        features: decomposed.
        classes: (n,) numbers from 0.

    Source: Huang et al., Frustratingly easy transferability estimation, 2022, equation 4.
    """
    scaled = features.coordinates * math.sqrt(features.width * len(classes) / (features.values**2).sum())
    parts = [scaled[classes == one] for one in range(int(classes.max()) + 1)]
    return _rate(scaled) - sum(len(part) / len(scaled) * _rate(part) for part in parts if len(part))


def _rate(features: Array) -> float:
    count, width = features.shape
    gram = features @ features.T if count < width else features.T @ features
    return 0.5 * float(np.linalg.slogdet(np.eye(len(gram)) + gram / (count * _DISTORTION))[1])


def leep(probabilities: Array, classes: Integers) -> float:
    """The mean log likelihood of the target's labels, when the source's outputs are read as labels at random.

    Args:
        probabilities: (n, source classes) >= 0, rows that sum to one.
        classes: (n,) numbers from 0.

    Source: Nguyen et al., LEEP, 2020, equation 2.
    """
    joint = one_hot(classes).T @ probabilities
    totals = joint.sum(0)
    given = joint / np.where(totals > 0, totals, 1.0)
    likelihood = (given[classes] * probabilities).sum(1)
    return float(np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def nce(probabilities: Array, classes: Integers) -> float:
    """Minus the conditional entropy, in nats, of the target's labels given the labels that the source predicts.

    Args:
        probabilities: (n, source classes); the largest of a row is the prediction.
        classes: (n,) numbers from 0.

    Source: Tran et al., Transferability and hardness of supervised classification tasks, 2019, equation 6.
    """
    predicted = np.unique(probabilities.argmax(1), return_inverse=True)[1]
    joint = one_hot(classes).T @ one_hot(predicted) / len(classes)
    given = joint / joint.sum(0)
    return float((joint * np.log(np.where(joint > 0, given, 1.0))).sum())
