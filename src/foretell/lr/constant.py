"""The same rate at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import require_rate

__all__ = ["Constant"]


@final
@dataclass(frozen=True)
class Constant(LRSchedule):
    """`lr`, whatever the step.

    Args:
        lr: the rate, >= 0.
    """

    lr: float

    def __post_init__(self) -> None:
        require_rate("Constant", lr=self.lr)

    def __call__(self, step: float) -> float:
        """Always `lr`."""
        return self.lr

    def area(self, step: float) -> float:
        """A rectangle."""
        return self.lr * step

    def stretch(self, horizon: float, *, planned: float | None = None) -> LRSchedule:
        """Itself: it was made for every length."""
        return self

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Itself."""
        return self
