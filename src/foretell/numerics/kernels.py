"""The distance between configurations, and the covariance it gives.

Rows of the unit cube become points of a Euclidean space (`Layout.embed`), so that every kernel of the squared distance
is positive definite on mixed and conditional spaces as well, and a distance matrix is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROOT5 = 5.0**0.5


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of encoded configurations mean.

    A number is itself. An unordered choice is a corner of a simplex: two options are at distance 1. A number that is
    not always active lies on an arc of one radian, and in its centre while it is inactive: nearly its own distance
    between two active ones (2 sin(difference / 2)), the same constant from any active one to an inactive one, 0 between
    two inactive ones. Each branch adds a 0/1 of its own, whose length-scale learns how far apart activity sets points.

    Args:
        options: per dimension, the number of options of an unordered choice; 0 for a number or an ordered choice.
        branches: per dimension, the number of its branch (dimensions of one branch are active together); -1 if it is
            always active.

    Attributes:
        scale_of: (features,) which length-scale each embedded column has.
        scales: how many length-scales there are: one per dimension, then one per branch.

    Source: Hutter and Osborne, A Kernel for Hierarchical Parameter Spaces, 2013 (the arc and its centre).
    """

    options: tuple[int, ...]
    branches: tuple[int, ...]
    scale_of: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    scales: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        owners: list[int] = []
        for dimension, (options, branch) in enumerate(zip(self.options, self.branches, strict=True)):
            owners += [dimension] * (options or (1 if branch < 0 else 2))
        count = max(self.branches, default=-1) + 1
        owners += range(len(self.options), len(self.options) + count)
        object.__setattr__(self, "scale_of", np.array(owners, np.int64))
        object.__setattr__(self, "scales", len(self.options) + count)

    @classmethod
    def of_numbers(cls, dimensions: int) -> Layout:
        """Every column is a number that is always active."""
        return cls((0,) * dimensions, (-1,) * dimensions)

    def embed(self, rows: Array, codes: NDArray[np.int64], active: NDArray[np.bool_]) -> Array:
        """The points of rows.

        Args:
            rows: (n, d) in the unit cube; read where the column is a number.
            codes: (n, d) number of the option; read where the column is an unordered choice.
            active: (n, d) which dimensions a row uses.

        Returns:
            (n, features).
        """
        columns: list[Array] = []
        for dimension, (options, branch) in enumerate(zip(self.options, self.branches, strict=True)):
            values, used = rows[:, dimension], active[:, dimension]
            if options:
                corner = (codes[:, dimension, None] == np.arange(options)) & used[:, None]
                columns.append(corner * 0.5**0.5)
            elif branch < 0:
                columns.append(values[:, None])
            else:
                columns.append(np.stack((np.cos(values) * used, np.sin(values) * used), axis=1))
        for branch in range(self.scales - len(self.options)):
            columns.append(active[:, self.branches.index(branch), None].astype(np.float64))
        return np.hstack(columns) if columns else np.zeros((len(rows), 0))

    def scale(self, points: Array, log_scales: Array) -> Array:
        """Points (n, features) with every column divided by its length-scale."""
        return points * np.exp(-log_scales)[self.scale_of]


def squared_distances(a: Array, b: Array) -> Array:
    """Between all pairs of rows: (n, f) and (m, f) give (n, m), never negative."""
    squared: Array = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    squared -= 2.0 * (a @ b.T)
    np.maximum(squared, 0.0, out=squared)
    return squared


def matern52(squared: Array) -> Array:
    """The Matérn correlation of smoothness 5/2: (1 + r' + r'^2 / 3) exp(-r'), r' = sqrt(5) r, from r^2."""
    root = np.sqrt(squared)
    root *= _ROOT5
    shape = (5.0 / 3.0) * squared
    shape += root
    shape += 1.0
    np.negative(root, out=root)
    shape *= np.exp(root, out=root)
    return shape


def matern52_with_slope(squared: Array) -> tuple[Array, Array]:
    """The correlation and minus twice its derivative by r^2, which is 5/3 (1 + r') exp(-r')."""
    root = _ROOT5 * np.sqrt(squared)
    fading = np.exp(-root)
    root += 1.0
    slope = (5.0 / 3.0) * root
    slope *= fading
    root += (5.0 / 3.0) * squared
    root *= fading
    return root, slope
