"""A straight line from one rate to another."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import Phase, area_of, rate_of, require_rate, require_steps

__all__ = ["Linear"]


@final
@dataclass(frozen=True)
class Linear(LRSchedule):
    """`lr + (end - lr) * step / steps`, and `end` from `steps` on.

    Args:
        lr: the rate at step 0, >= 0.
        steps: length, > 0.
        end: the last rate, >= 0; it may lie above `lr`.

    Source: PyTorch's LinearLR, optax' linear_schedule.
    """

    lr: float
    steps: float
    _: KW_ONLY
    end: float = 0.0

    def __post_init__(self) -> None:
        require_rate("Linear", lr=self.lr, end=self.end)
        require_steps("Linear", steps=self.steps)

    @property
    def horizon(self) -> float:
        """Its length."""
        return self.steps

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        return rate_of(self._phases(), step)

    def area(self, step: float) -> float:
        """A trapezium, and a rectangle behind the end."""
        return area_of(self._phases(), step)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Another length."""
        return replace(self, steps=self.steps * horizon / planned)

    def _phases(self) -> tuple[Phase, ...]:
        return (Phase(self.steps, self.lr, self.end),)
