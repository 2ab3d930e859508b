"""Decay along a power of the steps that are left."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import require, require_rate, require_steps

__all__ = ["Polynomial"]


@final
@dataclass(frozen=True)
class Polynomial(LRSchedule):
    """`end + (lr - end) * (1 - step / steps) ** power`, and `end` from `steps` on.

    Args:
        lr: the rate at step 0, >= 0.
        steps: length, > 0.
        end: the last rate, >= 0.
        power: > 0; 1 is linear, 2 falls fast at first.

    Source: Keras' PolynomialDecay (without `cycle`), PyTorch's PolynomialLR, optax' polynomial_schedule.
    """

    lr: float
    steps: float
    _: KW_ONLY
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        require_rate("Polynomial", lr=self.lr, end=self.end)
        require_steps("Polynomial", steps=self.steps)
        require(math.isfinite(self.power) and self.power > 0, f"Polynomial(power={self.power}) must be above 0.")

    @property
    def horizon(self) -> float:
        """Its length."""
        return self.steps

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        left = math.pow(max(1 - step / self.steps, 0.0), self.power)
        return self.lr * left + self.end * (1 - left)

    def area(self, step: float) -> float:
        """A power, and a rectangle behind the end."""
        left = max(1 - step / self.steps, 0.0)
        fallen = self.steps * (1 - math.pow(left, self.power + 1)) / (self.power + 1)
        return self.end * step + (self.lr - self.end) * fallen

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Another length."""
        return replace(self, steps=self.steps * horizon / planned)
