"""What a user believes of the best configuration: it leads the first trials, and evidence washes it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from foretell.errors import SpaceError, did_you_mean
from foretell.numerics.parzen import Array, Axes, Mixture, Points
from foretell.samplers import Belief
from foretell.samplers._axes import axes_of
from foretell.space import Scalar, Space

_SD: dict[str, float] = {"low": 0.3, "medium": 0.15, "high": 0.05}  # of a number, in shares of its range
_ANEW: dict[str, float] = {"low": 0.7, "medium": 0.4, "high": 0.1}  # how often an option is drawn as if unheard of
_DOUBT = 0.2  # that the belief is wrong altogether: how little a place can count is bounded by it
_HALF = 10  # so many trials count as much as the belief
_MOST_TRIES = 100


@final
@dataclass(frozen=True, slots=True)
class Beliefs:
    """The beliefs about a space as one density over its cube, and how much it still counts.

    Args:
        density: relative to the space's own prior; None without a belief.
        axes: of the cube.

    Source: Hvarfner et al., πBO, ICLR 2022, equation 6: a belief to the power of β / n weighs what is expected of a
        point. Here n + β stands for n, so that it holds from the first trial on.
    """

    axes: Axes
    density: Mixture | None

    @classmethod
    def of(cls, space: Space, beliefs: Mapping[str, Belief]) -> Beliefs:
        """The density of beliefs by parameter; one about a name in several branches holds in each that has the value.

        Raises:
            SpaceError: there is no such parameter, or it has no such value.
        """
        axes = axes_of(space)
        if not beliefs:
            return cls(axes, None)
        row, sd, anew = np.full(len(axes), 0.5), np.ones(len(axes)), np.ones(len(axes))
        believed = np.zeros(len(axes), np.bool_)
        for name, belief in beliefs.items():
            for index, place in _places(space, name, belief.best).items():
                row[index], sd[index], anew[index] = place, _SD[belief.confidence], _ANEW[belief.confidence]
                believed[index] = True
        centre = axes.snap(row[None])
        # A belief about a branch counts wherever that branch is drawn, also if another one is believed in.
        kernel = Points(np.where(believed, row, 0.5)[None], centre.codes, believed[None])
        return cls(axes, Mixture(axes, kernel, np.array([1.0 - _DOUBT, _DOUBT]), sd, anew))

    def draw(self, count: int, seen: int, rng: np.random.Generator) -> Array:
        """(count, d) places in the cube: of the belief, or anywhere the more often the more trials were seen."""
        anywhere = rng.random((count, len(self.axes)))
        if self.density is None:
            return anywhere
        believed = rng.random((count, 1)) < trust(seen)
        return np.where(believed, self.density.sample(count, rng).rows, anywhere)

    def sample(self, space: Space, seen: int, rng: np.random.Generator) -> dict[str, Any]:
        """A feasible configuration: the first of such draws, or of the space's prior without a belief."""
        if self.density is not None:
            for row in self.draw(_MOST_TRIES if space.constraints else 1, seen, rng):
                params = space.decode(row)
                if space.feasible(params):
                    return params
        return space.sample(rng)

    def log_weight(self, points: Points, seen: int) -> Array:
        """(n,) what the beliefs add to the logarithm of an acquisition at points; nothing without one."""
        if self.density is None:
            return np.zeros(len(points.rows))
        return trust(seen) * self.density.log_density(points)


def trust(seen: int) -> float:
    """The power of a belief after so many trials, in (0, 1]."""
    return _HALF / (_HALF + seen)


def _places(space: Space, name: str, value: Scalar) -> dict[int, float]:
    """Where a value lies in the dimensions of that name."""
    dimensions = [dimension for dimension in space.dimensions if dimension.name == name]
    if not dimensions:
        known = [dimension.name for dimension in space.dimensions]
        raise SpaceError(
            f"The belief about {name!r} is about no parameter that is searched. {did_you_mean(name, known)}"
        )
    found, wrong = {}, None
    for dimension in dimensions:
        parameter: Any = dimension.parameter
        try:
            found[dimension.index] = parameter.to_unit(parameter.canonical(name, value))
        except SpaceError as error:
            wrong = error
    if not found:
        raise SpaceError(f"The belief about {name!r} cannot be: {wrong}")
    return found
