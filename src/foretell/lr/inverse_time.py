"""Decay in proportion to the inverse of time."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import require, require_rate, require_steps

__all__ = ["InverseTime"]

_SUMMED = 64
"""So many stairs are added one by one; behind them the sum is so smooth that its integral gives it to 1e-12."""


@final
@dataclass(frozen=True)
class InverseTime(LRSchedule):
    """`lr / (1 + decay * step / steps)`.

    Args:
        lr: the rate at step 0, >= 0.
        decay: >= 0.
        steps: steps that count as one, > 0: 1 for a step in epochs, the batches of an epoch for one in batches.
        staircase: whether the rate changes only at whole multiples of `steps`.

    Source: Robbins and Monro, A Stochastic Approximation Method, 1951; Keras' InverseTimeDecay.
    """

    lr: float
    decay: float
    _: KW_ONLY
    steps: float = 1.0
    staircase: bool = False

    def __post_init__(self) -> None:
        require_rate("InverseTime", lr=self.lr)
        require_steps("InverseTime", steps=self.steps)
        require(math.isfinite(self.decay) and self.decay >= 0, f"InverseTime(decay={self.decay}) must be 0 or more.")

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        time = step / self.steps
        return self.lr / (1 + self.decay * (math.floor(time) if self.staircase else time))

    def area(self, step: float) -> float:
        """A logarithm; with stairs, a harmonic sum."""
        time = step / self.steps
        if self.decay == 0:
            return self.lr * step
        if not self.staircase:
            return self.lr * self.steps * math.log1p(self.decay * time) / self.decay
        stairs = math.floor(time)
        return self.lr * self.steps * (self._stairs(stairs) + (time - stairs) / (1 + self.decay * stairs))

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The same decay, in other time."""
        return replace(self, steps=self.steps * horizon / planned)

    def _stairs(self, count: int) -> float:
        """The sum of 1 / (1 + decay * k) for k below `count`: directly at first, then by Euler and Maclaurin."""
        direct = min(count, _SUMMED)
        total = math.fsum(1 / (1 + self.decay * k) for k in range(direct))
        if count == direct:
            return total
        first, last = 1 / (1 + self.decay * direct), 1 / (1 + self.decay * count)
        integral = math.log(first / last) / self.decay
        curvature = self.decay * (first**2 - last**2) / 12 - self.decay**3 * (first**4 - last**4) / 120
        return total + integral + (first - last) / 2 + curvature
