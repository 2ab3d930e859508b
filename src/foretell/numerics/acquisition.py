"""What a new value is worth where its mean and sd are known: lower is better, and higher acquisition is better.

All functions take arrays of any one shape and return that shape; `best` is the value to beat.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from foretell.numerics.kernels import Array

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_HALF_LOG_HALF_PI = 0.5 * math.log(0.5 * math.pi)
_FAR = -1.0 / math.sqrt(np.finfo(np.float64).eps)


def expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """How far the value will fall below `best` on average, counting 0 where it does not; it underflows far above it."""
    z = (best - mean) / sd
    return np.asarray(sd * (np.exp(-0.5 * z * z - _HALF_LOG_2PI) + z * ndtr(z)))


def log_expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """The logarithm of the expected improvement, exact where that underflows.

    Args:
        mean: expected value.
        sd: its standard deviation, > 0.
        best: value to beat.

    Source: Ament et al., Unexpected Improvements to Expected Improvement, NeurIPS 2023, equation 9 (analytic LogEI).
    """
    return np.asarray(np.log(sd) + _log_h((best - np.asarray(mean)) / sd))


def _log_h(z: Array) -> Array:
    """The logarithm of phi(z) + z Phi(z)."""
    near, far = z > -1.0, z < _FAR
    out = np.empty_like(z)
    upper = z[near]
    out[near] = np.log(np.exp(-0.5 * upper * upper - _HALF_LOG_2PI) + upper * ndtr(upper))
    middle = z[~near & ~far]
    out[~near & ~far] = (
        -0.5 * middle * middle
        - _HALF_LOG_2PI
        + _log1mexp(np.log(erfcx(-middle * 0.5**0.5) * np.abs(middle)) + _HALF_LOG_HALF_PI)
    )
    lower = z[far]
    out[far] = -0.5 * lower * lower - _HALF_LOG_2PI - 2.0 * np.log(np.abs(lower))
    return out


def _log1mexp(x: Array) -> Array:
    """log(1 - exp(x)) for x < 0, without cancellation (Maechler 2012)."""
    x = np.minimum(x, -np.finfo(np.float64).tiny)
    close = x > -math.log(2.0)
    out = np.empty_like(x)
    out[close] = np.log(-np.expm1(x[close]))
    out[~close] = np.log1p(-np.exp(x[~close]))
    return out


def probability_of_improvement(mean: Array, sd: Array, best: float) -> Array:
    """How probable it is that the value falls below `best`."""
    return np.asarray(ndtr((best - mean) / sd))


def log_probability_of_improvement(mean: Array, sd: Array, best: float) -> Array:
    """Its logarithm, exact where the probability underflows."""
    return np.asarray(log_ndtr((best - mean) / sd))


def confidence_bound(mean: Array, sd: Array, kappa: float = 2.0) -> Array:
    """How low the value may be, as a gain: kappa * sd - mean (the upper confidence bound of minus the value)."""
    return np.asarray(kappa * sd - mean)


def log_constrained_expected_improvement(
    mean: Array, sd: Array, best: float, constraints: Iterable[tuple[Array, Array, float]]
) -> Array:
    """The logarithm of the expected improvement that counts only where outcomes stay within their limits.

    Args:
        mean: expected value.
        sd: its standard deviation, > 0.
        best: lowest value that met the constraints.
        constraints: mean, sd and limit of each outcome that must stay at or below its limit; taken as independent.

    Source: Gardner et al., Bayesian Optimization with Inequality Constraints, ICML 2014, equation 5.
    """
    total = log_expected_improvement(mean, sd, best)
    for outcome, spread, limit in constraints:
        total = total + log_probability_of_improvement(outcome, spread, limit)
    return total
