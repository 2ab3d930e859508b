"""A fixed grid of curve shapes, each fitted in closed form to many curves at once.

A shape h says how a curve goes on: loss(t) = level + slope * h(t) + noise, with h(now) = 0 and t the share of the
horizon. Level and slope have wide normal priors and the noise an inverse-gamma one, so each fit is conjugate: its
evidence and its prediction are formulas, and n curves of p points under k shapes cost one pass over (n, p, k) numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

_POWERS = (0.15, 0.4, 0.8, 1.3, 2.0)
_DECAYS = (0.05, 0.15, 0.4)
NAMES = (*(f"t^-{power}" for power in _POWERS), *(f"exp(-t/{decay})" for decay in _DECAYS), "linear", "cosine")
_WIDE = 100.0  # prior variance of level and slope, in squared units
_SHAPE, _SCALE = 1.0, 0.01  # of the noise variance's prior, in squared units


def shapes(times: Array) -> Array:
    """(..., k) values of every shape at shares of the horizon in (0, 1]; all fall with time."""
    t = np.asarray(times, np.float64)[..., None]
    powers = t ** -np.array(_POWERS)
    decays = np.exp(-t / np.array(_DECAYS))
    return np.concatenate((powers, decays, 1.0 - t, 0.5 * (1.0 + np.cos(math.pi * t))), axis=-1)


class Fits(NamedTuple):
    """What every shape makes of every curve: (n, k) each.

    Args:
        evidence: logarithm of the marginal likelihood.
        mean: predicted loss at the horizon.
        sd: of that prediction, noise included.
    """

    evidence: Array
    mean: Array
    sd: Array


def fit(times: Array, losses: Array, weights: Array) -> Fits:
    """Fit every shape to every curve.

    Args:
        times: (n, p) shares of the horizon, increasing along a curve; the last is now.
        losses: (n, p), in units in which changes are about 1, around 0 now.
        weights: (n, p) >= 0 precision of each point relative to the noise; 0 leaves it out.

    Source: conjugate Bayesian linear regression, e.g. Bishop, Pattern Recognition and Machine Learning, section 3.3.
    """
    values = shapes(times)
    ahead = shapes(np.ones((1, 1)))[:, 0] - values[:, -1]  # (n, k): what the shape has still to fall
    h = values - values[:, -1:]
    reach = np.maximum(np.abs(h).max(axis=1), 1e-9)  # a slope of 1 is a change of 1 over what was seen
    h, ahead = h / reach[:, None], ahead / reach
    w, y = weights[:, :, None], losses[:, :, None]
    # Sums of the normal equations of (level, slope), the prior included.
    s0, s1, s2 = w.sum(axis=1) + 1 / _WIDE, (w * h).sum(axis=1), (w * h * h).sum(axis=1) + 1 / _WIDE
    r0, r1, total = (w * y).sum(axis=1), (w * h * y).sum(axis=1), (w * y * y).sum(axis=1)
    determinant = s0 * s2 - s1 * s1
    level, slope = (s2 * r0 - s1 * r1) / determinant, (s0 * r1 - s1 * r0) / determinant
    count = weights.sum(axis=1)[:, None]
    shape = _SHAPE + 0.5 * count
    scale = _SCALE + 0.5 * np.maximum(total - level * r0 - slope * r1, 0.0)
    evidence = (
        0.5 * (2 * math.log(1 / _WIDE) - np.log(determinant)) + _SHAPE * math.log(_SCALE) - shape * np.log(scale)
        + gammaln(shape) - math.lgamma(_SHAPE) - 0.5 * count * math.log(2 * math.pi)
    )  # fmt: skip
    leverage = (s2 - 2 * s1 * ahead + s0 * ahead * ahead) / determinant
    return Fits(evidence, level + slope * ahead, np.sqrt(scale / shape * (1.0 + leverage)))
