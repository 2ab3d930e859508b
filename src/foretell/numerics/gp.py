"""A Gaussian process on embedded points: Matérn 5/2 with a length-scale per dimension, learned and known noise.

The hyperparameters are one vector, `theta`: the logarithms of the length-scales, of the variance and of the noise
variance. The mean is constant and unknown: it is integrated out, which is generalised least squares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from foretell.numerics.kernels import Array, Layout, matern52, matern52_with_slope, squared_distances

_LOG_2PI = math.log(2.0 * math.pi)
_FIRST_JITTER, _LAST_JITTER = 1e-10, 1e-2


@final
@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of the hyperparameters before any data: theta is normal, each pair a mean and an sd.

    Args:
        dimensions: of the space, the expected number of active ones if some are conditional. The mean of `scale` grows
            by ln(dimensions) / 2: the typical distance between two points grows as the root of the dimensions.
        scale: of a length-scale in one dimension. The mean is the mode of the source's density; its sd of sqrt(3)
            let the first few values choose length-scales so short that whole regions were never looked at again.
        variance: of the function, where the values have a variance of 1.
        noise: of the noise variance.

    Source: Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great in High Dimensions, ICML 2024.
    """

    dimensions: float = 1.0
    scale: tuple[float, float] = (2.0**0.5 - 3.0, 1.15)
    variance: tuple[float, float] = (0.0, 1.0)
    noise: tuple[float, float] = (-6.0, 1.5)

    def moments(self, scales: int) -> tuple[Array, Array]:
        """Mean and sd of every element of theta."""
        center = self.scale[0] + 0.5 * math.log(max(1.0, self.dimensions))
        mean = np.array([center] * scales + [self.variance[0], self.noise[0]])
        return mean, np.array([self.scale[1]] * scales + [self.variance[1], self.noise[1]])


# Of theta in a fit: beyond these the correlations are all but 0 or 1.
_SCALES, _VARIANCE, _NOISE = (math.log(5e-3), math.log(200.0)), (math.log(0.02), math.log(50.0)), (-16.0, math.log(2.0))


def log_posterior(
    theta: Array,
    points: Array,
    y: Array,
    noise: Array,
    *,
    layout: Layout,
    prior: Prior,
) -> tuple[float, Array]:
    """The logarithm of likelihood times prior density, up to a constant, and its gradient.

    Args:
        theta: (scales + 2,) logarithms of length-scales, variance and noise variance.
        points: (n, features) embedded.
        y: (n,) values.
        noise: (n,) known noise variance of each value, besides the learned one.
        layout: of the points.
        prior: of theta.
    """
    scales, count = len(theta) - 2, len(y)
    variance, learned = math.exp(theta[-2]), math.exp(theta[-1])
    scaled = layout.scale(points, theta[:-2])
    correlation, slope = matern52_with_slope(squared_distances(scaled, scaled))
    factor = _factor(_covariance(correlation, variance, noise + learned))
    white = solve_triangular(factor, np.stack((np.ones(count), y), axis=1), lower=True, check_finite=False)
    mean = float(white[:, 0] @ white[:, 1]) / float(white[:, 0] @ white[:, 0])
    residual = white[:, 1] - mean * white[:, 0]
    alpha = solve_triangular(factor, residual, lower=True, trans=1, check_finite=False)
    value = -0.5 * float(residual @ residual) - float(np.log(np.diag(factor)).sum()) - 0.5 * count * _LOG_2PI

    inverse, _ = dpotri(factor, lower=1)
    below = np.tril(inverse, -1)
    weights = np.outer(alpha, alpha)
    weights -= inverse.diagonal() * np.eye(count) + below + below.T
    weights *= 0.5
    gradient = np.empty_like(theta)
    gradient[-1] = learned * float(np.trace(weights))
    gradient[-2] = variance * float(np.einsum("ij,ij->", weights, correlation))
    weights *= slope
    weights *= variance
    # sum_ij w_ij (z_i - z_j)^2 = 2 sum_i z_i (z_i sum_j w_ij - (W z)_i): no matrix per dimension is needed.
    by_column = 2.0 * np.einsum("if,if->f", scaled, scaled * weights.sum(axis=1)[:, None] - weights @ scaled)
    gradient[:-2] = np.bincount(layout.scale_of, by_column, scales)

    center, spread = prior.moments(scales)
    off = (theta - center) / spread
    return value - 0.5 * float(off @ off), gradient - off / spread


def fit(
    points: Array,
    y: Array,
    noise: Array,
    *,
    layout: Layout,
    prior: Prior,
    start: Array | None = None,
    iterations: int = 30,
) -> Array:
    """The most probable hyperparameters, by L-BFGS-B.

    Args:
        points: (n, features) embedded, n >= 1.
        y: (n,) values, best of mean 0 and variance 1: the prior is made for those.
        noise: (n,) known noise variances.
        layout: of the points.
        prior: of theta.
        start: an earlier theta to begin from; the mean of the prior if left out.
        iterations: at most.

    Returns:
        (scales + 2,) theta.
    """
    begin = prior.moments(layout.scales)[0] if start is None else start
    bounds = [_SCALES] * layout.scales + [_VARIANCE, _NOISE]

    def cost(theta: Array) -> tuple[float, Array]:
        value, gradient = log_posterior(theta, points, y, noise, layout=layout, prior=prior)
        return -value, -gradient

    low, high = np.array(bounds).T
    found = minimize(
        cost, np.clip(begin, low, high), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
    )
    return np.asarray(found.x, np.float64)


@final
@dataclass(frozen=True, slots=True)
class Posterior:
    """What is known of the function after some values; made by `condition`, grown by `extended`."""

    theta: Array
    layout: Layout
    scaled: Array  # (n, features) known points in length-scales
    factor: Array  # (n, n) lower Cholesky factor of their covariance
    white: Array  # (n, 2) factor^-1 times a column of ones and the values
    alpha: Array  # (n,) covariance^-1 (values - mean)
    ones: Array  # (n,) covariance^-1 times a column of ones

    @property
    def mean(self) -> float:
        """The constant mean, by generalised least squares."""
        return float(self.white[:, 0] @ self.white[:, 1]) / float(self.white[:, 0] @ self.white[:, 0])

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (m,) of the function, without noise, at (m, features) points."""
        mean, half, drift, scale = self._toward(points)
        variance = math.exp(self.theta[-2]) - np.einsum("ij,ij->j", half, half) + drift * drift / scale
        return mean, np.sqrt(np.maximum(variance, 1e-14))

    def joint(self, points: Array) -> tuple[Array, Array]:
        """Mean (m,) and covariance (m, m) of the function, without noise, at (m, features) points."""
        mean, half, drift, scale = self._toward(points)
        scaled = self.layout.scale(points, self.theta[:-2])
        prior = math.exp(self.theta[-2]) * matern52(squared_distances(scaled, scaled))
        return mean, prior - half.T @ half + np.outer(drift, drift) / scale

    def extended(self, points: Array, y: Array, noise: Array) -> Posterior:
        """The posterior after further values, in O(n^2) for each.

        Args:
            points: (m, features) embedded.
            y: (m,) values.
            noise: (m,) known noise variances.
        """
        added = self.layout.scale(points, self.theta[:-2])
        variance, learned = math.exp(self.theta[-2]), math.exp(self.theta[-1])
        cross = variance * matern52(squared_distances(self.scaled, added))
        half = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        own = _covariance(matern52(squared_distances(added, added)), variance, noise + learned)
        corner = _factor(own - half.T @ half)
        before, count = len(self.scaled), len(added)
        factor = np.zeros((before + count, before + count), order="F")
        factor[:before, :before], factor[before:, :before], factor[before:, before:] = self.factor, half.T, corner
        rest = np.stack((np.ones(count), y), axis=1) - half.T @ self.white
        white = np.vstack((self.white, solve_triangular(corner, rest, lower=True, check_finite=False)))
        return _posterior(self.theta, self.layout, np.vstack((self.scaled, added)), factor, white)

    def _toward(self, points: Array) -> tuple[Array, Array, Array, float]:
        """Mean, factor^-1 cross covariance, what the ones leave unexplained, and their weight."""
        scaled = self.layout.scale(points, self.theta[:-2])
        cross = math.exp(self.theta[-2]) * matern52(squared_distances(self.scaled, scaled))
        half = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        drift = 1.0 - self.ones @ cross
        return self.mean + self.alpha @ cross, half, drift, float(self.white[:, 0] @ self.white[:, 0])


def condition(theta: Array, points: Array, y: Array, noise: Array, *, layout: Layout) -> Posterior:
    """The posterior for given hyperparameters.

    Args:
        theta: (scales + 2,) as `fit` returns it.
        points: (n, features) embedded, n >= 1.
        y: (n,) values.
        noise: (n,) known noise variances.
        layout: of the points.
    """
    scaled = layout.scale(points, theta[:-2])
    correlation = matern52(squared_distances(scaled, scaled))
    factor = _factor(_covariance(correlation, math.exp(theta[-2]), noise + math.exp(theta[-1])))
    white = solve_triangular(factor, np.stack((np.ones(len(y)), y), axis=1), lower=True, check_finite=False)
    return _posterior(theta, layout, scaled, factor, white)


def _posterior(theta: Array, layout: Layout, scaled: Array, factor: Array, white: Array) -> Posterior:
    both = solve_triangular(factor, white, lower=True, trans=1, check_finite=False)
    mean = float(white[:, 0] @ white[:, 1]) / float(white[:, 0] @ white[:, 0])
    return Posterior(theta, layout, scaled, factor, white, both[:, 1] - mean * both[:, 0], both[:, 0])


def _covariance(correlation: Array, variance: float, noise: Array) -> Array:
    covariance = variance * correlation
    covariance[np.diag_indices_from(covariance)] = variance + noise
    return covariance


def _factor(covariance: Array) -> Array:
    """The lower Cholesky factor; a diagonal too small for the rounding errors is raised until there is one."""
    level, jitter = float(covariance.diagonal().mean()), 0.0
    while True:
        try:
            raised = covariance if not jitter else covariance + jitter * level * np.eye(len(covariance))
            return np.asarray(cholesky(raised, lower=True, check_finite=False))
        except LinAlgError:
            jitter = 10.0 * jitter or _FIRST_JITTER
            if jitter > _LAST_JITTER:
                raise
