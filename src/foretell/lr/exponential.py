"""Exponential decay."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import geometric, require, require_rate, require_steps

__all__ = ["Exponential"]


@final
@dataclass(frozen=True)
class Exponential(LRSchedule):
    """`lr * factor ** (step / steps)`.

    Args:
        lr: the rate at step 0, >= 0.
        factor: what remains of the rate after `steps` steps, in (0, 1].
        steps: > 0.
        staircase: whether the rate changes only at whole multiples of `steps`.

    Source: PyTorch's ExponentialLR, Keras' ExponentialDecay, optax' exponential_decay.
    """

    lr: float
    factor: float
    _: KW_ONLY
    steps: float = 1.0
    staircase: bool = False

    def __post_init__(self) -> None:
        require_rate("Exponential", lr=self.lr)
        require_steps("Exponential", steps=self.steps)
        require(0 < self.factor <= 1, f"Exponential(factor={self.factor}) must be above 0 and at most 1.")

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        time = step / self.steps
        return self.lr * self.factor ** (math.floor(time) if self.staircase else time)

    def area(self, step: float) -> float:
        """An exponential; with stairs, a geometric sum."""
        time, rate = step / self.steps, math.log(self.factor)
        if rate == 0:
            return self.lr * step
        if not self.staircase:
            return self.lr * self.steps * math.expm1(rate * time) / rate
        stairs = math.floor(time)
        return self.lr * self.steps * (geometric(self.factor, stairs) + (time - stairs) * self.factor**stairs)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The same decay, in other time."""
        return replace(self, steps=self.steps * horizon / planned)
