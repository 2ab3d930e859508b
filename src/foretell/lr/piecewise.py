"""Constant rates between given steps."""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import require, require_rate, require_shape

__all__ = ["Piecewise"]


@final
@dataclass(frozen=True)
class Piecewise(LRSchedule):
    """One rate up to the first boundary, the next up to the second, and so on.

    Args:
        boundaries: (n,) steps > 0, increasing.
        rates: (n + 1,) rates >= 0.
        at_boundary: which rate holds at the boundary itself: the "new" one, as in PyTorch's MultiStepLR and optax, or
            the "old" one, as in Keras' PiecewiseConstantDecay.
    """

    boundaries: tuple[float, ...]
    rates: tuple[float, ...]
    _: KW_ONLY
    at_boundary: str = "new"

    def __post_init__(self) -> None:
        for name in ("boundaries", "rates"):  # lists are welcome, but what is frozen must be hashable
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(
            len(self.rates) == len(self.boundaries) + 1,
            f"Piecewise has {len(self.boundaries)} boundaries and {len(self.rates)} rates: give one rate more.",
        )
        edges = (0.0, *self.boundaries)
        require(
            all(low < high < math.inf for low, high in itertools.pairwise(edges)),
            f"Piecewise(boundaries={self.boundaries}) must be steps above 0, each greater than the one before.",
        )
        for rate in self.rates:
            require_rate("Piecewise", rates=rate)
        require_shape("Piecewise(at_boundary=...)", self.at_boundary, ("new", "old"))

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        find = bisect.bisect_right if self.at_boundary == "new" else bisect.bisect_left
        return self.rates[find(self.boundaries, step)]

    def area(self, step: float) -> float:
        """A sum of rectangles."""
        edges = (0.0, *self.boundaries, math.inf)
        pairs = zip(self.rates, itertools.pairwise(edges), strict=True)
        return sum(rate * (min(high, step) - low) for rate, (low, high) in pairs if low < step)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The boundaries move in proportion."""
        return replace(self, boundaries=tuple(edge * horizon / planned for edge in self.boundaries))
