"""Parzen mixtures over mixed and conditional spaces: a density that is drawn from and evaluated, many points at once.

Densities are relative to the uniform measure of the unit cube, so that 1 everywhere means: nothing is known. A number
with few values, or an option, then has its mass divided by its share of the unit interval, which tends to the density
of a continuous number as its values grow many. A dimension that a point or a kernel does not use adds a factor of 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NARROWEST, _ROOT_2PI = 1e-300, (2.0 * np.pi) ** 0.5
_FACTOR = 0.6  # of Scott's bandwidth: the good trials are sought, not smoothed
_LEAST_SD, _LEAST_CELLS = 0.03, 0.5  # bandwidth in shares of a range, and in values where they are few


class Points(NamedTuple):
    """Configurations in the unit cube: (n, d) each.

    Args:
        rows: places in [0, 1], 0.5 where a dimension is not active.
        codes: number of the value where there are few and the dimension is active, else 0.
        active: which dimensions a configuration uses.
    """

    rows: Array
    codes: Codes
    active: Mask


@final
@dataclass(frozen=True, slots=True)
class Axes:
    """What the columns of the cube mean.

    Args:
        places: per dimension, where its values lie if they are few, else None: then it is continuous.
        edges: per dimension, (values + 1,) the borders between its values from 0 to 1, or None.
        unordered: per dimension, whether neighbouring values have nothing in common.
        needs: per dimension, the (dimension, code) pairs that make it active; parents come before children.

    Attributes:
        shares: per dimension, (values,) of the unit interval that each has, or None.
        continuous: the dimensions that are.
        floor: (d,) least bandwidths.
    """

    places: tuple[Array | None, ...]
    edges: tuple[Array | None, ...]
    unordered: tuple[bool, ...]
    needs: tuple[tuple[tuple[int, int], ...], ...]
    shares: tuple[Array | None, ...] = field(init=False, repr=False, compare=False)
    continuous: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    floor: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Kernels narrower than a cell would never leave it: the first good value of a few would stay the only one.
        floor = [_LEAST_SD if at is None else max(_LEAST_SD, _LEAST_CELLS / len(at)) for at in self.places]
        derived = {
            "shares": tuple(None if edges is None else np.diff(edges) for edges in self.edges),
            "continuous": np.array([index for index, at in enumerate(self.places) if at is None], np.int64),
            "floor": np.array(floor),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.places)

    def snap(self, cube: Array) -> Points:
        """The configurations at points (n, d) of the cube."""
        rows, codes = np.array(cube), np.zeros(cube.shape, np.int64)
        active = np.ones(cube.shape, np.bool_)
        for dimension, (places, edges) in enumerate(zip(self.places, self.edges, strict=True)):
            if places is not None and edges is not None:
                number = np.searchsorted(edges[1:-1], rows[:, dimension], side="right")
                codes[:, dimension], rows[:, dimension] = number, places[number]
        if any(self.needs):
            for dimension, needs in enumerate(self.needs):
                for parent, code in needs:
                    active[:, dimension] &= codes[:, parent] == code
            rows[~active], codes[~active] = 0.5, 0
        return Points(rows, codes, active)


@final
@dataclass(frozen=True, slots=True)
class Mixture:
    """One kernel around each of some points, and the uniform measure as one more.

    A number has a normal distribution cut off at 0 and 1; one with few values the mass that this has over the cell of
    each. An unordered choice keeps its option, or with the probability `smoothing` takes any by its share.

    Args:
        axes: of the cube.
        centres: (k) points.
        weights: (k + 1,) of the kernels, that of the uniform measure last; they sum to 1.
        sd: (d,) bandwidth of each number, > 0.
        smoothing: (d,) probability of a kernel to draw an option anew, in (0, 1].
    """

    axes: Axes
    centres: Points
    weights: Array
    sd: Array
    smoothing: Array

    def sample(self, count: int, rng: np.random.Generator) -> Points:
        """Draws: (count) points."""
        kernels = self.weights.cumsum()[:-1].searchsorted(rng.random(count), side="right")
        uniform = rng.random((count, len(self.axes)))
        near = kernels < len(self.centres.rows)
        kernels = np.minimum(kernels, len(self.centres.rows) - 1)
        if not near.any():
            return self.axes.snap(uniform)
        centre, active, sd = self.centres.rows[kernels], self.centres.active[kernels] & near[:, None], self.sd
        low, high = ndtr(-centre / sd), ndtr((1.0 - centre) / sd)
        drawn = centre + sd * ndtri(low + uniform * (high - low))
        for dimension, unordered in enumerate(self.axes.unordered):
            if unordered:
                kept = rng.random(count) >= self.smoothing[dimension]
                drawn[:, dimension] = np.where(kept, centre[:, dimension], uniform[:, dimension])
        return self.axes.snap(np.where(active, drawn, uniform).clip(0.0, 1.0))

    def log_density(self, points: Points) -> Array:
        """(n,) the logarithm of the density at points, relative to the uniform measure."""
        logs = self._log_kernels(points)
        top = logs.max(axis=1, initial=0.0)
        logs -= top[:, None]
        total = np.exp(logs, out=logs) @ self.weights[:-1] + self.weights[-1] * np.exp(-top)
        return np.asarray(np.log(np.maximum(total, _NARROWEST)) + top)

    def _log_kernels(self, points: Points) -> Array:
        """(n, k) the logarithm of every kernel at every point.

        A square of differences is a sum of products, so that all kernels at all points are matrix products. Around the
        middle of the cube, where all lies that is not active, the terms are small, and so is what they lose.
        """
        numbers = self.axes.continuous
        sd, used = self.sd[numbers], self.centres.active[:, numbers]
        there, centre = (points.rows[:, numbers] - 0.5) / sd, (self.centres.rows[:, numbers] - 0.5) / sd
        inside = ndtr(0.5 / sd - centre) - ndtr(-0.5 / sd - centre)
        constant = (-0.5 * centre * centre - np.log(inside * (sd * _ROOT_2PI))) * used
        logs = there @ centre.T
        logs -= (0.5 * there * there) @ used.T.astype(np.float64)
        logs += points.active[:, numbers].astype(np.float64) @ constant.T
        for dimension, shares in enumerate(self.axes.shares):
            if shares is None:
                continue
            codes, centres = points.codes[:, dimension], self.centres.codes[:, dimension]
            if self.axes.unordered[dimension]:
                anew = self.smoothing[dimension]
                kept = np.log(anew + (1.0 - anew) / shares)
                part = np.where(codes[:, None] == centres, kept[centres], np.log(anew))
            else:
                part = self._log_masses(dimension)[codes].take(centres, axis=1)
            if self.axes.needs[dimension]:
                part *= points.active[:, dimension, None] & self.centres.active[:, dimension]
            logs += part
        return np.asarray(logs)

    def _log_masses(self, dimension: int) -> Array:
        """(values, values) the density over the cell of each row's value, of a kernel at each column's."""
        places, edges, shares = (column[dimension] for column in (self.axes.places, self.axes.edges, self.axes.shares))
        assert places is not None and edges is not None and shares is not None
        below = ndtr((edges[:, None] - places) / self.sd[dimension])
        mass = (below[1:] - below[:-1]) / (below[-1] - below[0]) / shares[:, None]
        return np.asarray(np.log(np.maximum(mass, _NARROWEST)))


def fitted(axes: Axes, centres: Points, weights: Array | None = None) -> Mixture:
    """The mixture of some points, the uniform measure counted as one more of them.

    Bandwidths follow the spread of the points in each dimension, so that the mixture sharpens as they draw together.

    Args:
        axes: of the cube.
        centres: (k) points, k >= 1.
        weights: (k,) how much each counts, 1 on average; all the same if left out.

    Source: Scott, Multivariate Density Estimation, 1992, for the power of k; the factor before it is ours.
    """
    count = len(centres.rows)
    each = np.ones(count) if weights is None else weights
    share, used = each @ centres.active + 1.0, centres.active.sum(axis=0)
    mean = (each @ (centres.rows * centres.active) + 0.5) / share
    away = (centres.rows - mean) * centres.active
    variance = (each @ (away * away) + (mean - 0.5) ** 2 + 1.0 / 12.0) / share
    power = -1.0 / (used.sum() / count + 4.0)
    sd = np.maximum(_FACTOR * np.sqrt(variance) * np.maximum(used, 1) ** power, axes.floor)
    return Mixture(axes, centres, np.append(each, 1.0) / (count + 1), sd, 1.0 / (used + 1))
