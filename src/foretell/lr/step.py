"""A fall by the same factor every so many steps."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import geometric, require, require_rate, require_steps

__all__ = ["Step"]


@final
@dataclass(frozen=True)
class Step(LRSchedule):
    """`lr * factor ** floor(step / every)`.

    Args:
        lr: the rate at step 0, >= 0.
        every: steps from one fall to the next, > 0.
        factor: what remains of the rate after a fall, in (0, 1].

    Source: PyTorch's StepLR.
    """

    lr: float
    every: float
    _: KW_ONLY
    factor: float = 0.1

    def __post_init__(self) -> None:
        require_rate("Step", lr=self.lr)
        require_steps("Step", every=self.every)
        require(0 < self.factor <= 1, f"Step(factor={self.factor}) must be above 0 and at most 1.")

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        return self.lr * self.factor ** math.floor(step / self.every)

    def area(self, step: float) -> float:
        """A geometric sum of rectangles."""
        falls = math.floor(step / self.every)
        rest = step - falls * self.every
        return self.lr * (self.every * geometric(self.factor, falls) + rest * self.factor**falls)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The same number of falls."""
        return replace(self, every=self.every * horizon / planned)
