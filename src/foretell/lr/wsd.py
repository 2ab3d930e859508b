"""Warm-up, a long stable phase, and a decay at the end."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import (
    SHAPES,
    Phase,
    area_of,
    rate_of,
    require,
    require_rate,
    require_shape,
    require_steps,
)

__all__ = ["WSD"]


@final
@dataclass(frozen=True)
class WSD(LRSchedule):
    """From `start` up to `lr`, then `lr`, then down to `end`, which holds from `steps` on.

    A run under it can be made longer at any time before the decay without a jump: only the stable phase grows.

    Args:
        lr: the stable rate, >= 0.
        steps: length of the whole, > 0.
        warmup: steps of the warm-up, >= 0.
        decay: share of the steps that the decay takes, in [0, 1].
        shape: of the decay: "linear", "cosine", or "sqrt" (`1 - sqrt`: fast at first).
        start: the rate at step 0 if there is a warm-up, >= 0.
        end: the last rate, >= 0.

    Source: Hu et al., MiniCPM, 2024; Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations, 2024 (the shape "sqrt").
    """

    lr: float
    steps: float
    _: KW_ONLY
    warmup: float = 0.0
    decay: float = 0.1
    shape: str = "linear"
    start: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        require_rate("WSD", lr=self.lr, start=self.start, end=self.end)
        require_steps("WSD", steps=self.steps)
        require(0 <= self.decay <= 1, f"WSD(decay={self.decay}) must be a share of the steps, from 0 to 1.")
        room = self.steps * (1 - self.decay)
        require(
            0 <= self.warmup <= room,
            f"WSD(warmup={self.warmup:g}) must be 0 or more steps, and at most the {room:g} that the decay leaves.",
        )
        require_shape("WSD(shape=...)", self.shape, SHAPES)

    @property
    def horizon(self) -> float:
        """Its length."""
        return self.steps

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        return rate_of(self._phases(), step)

    def area(self, step: float) -> float:
        """The areas of the three phases."""
        return area_of(self._phases(), step)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The warm-up keeps its length and the decay its share; the stable phase takes what is left."""
        return replace(self, steps=self.steps * horizon / planned)

    def _phases(self) -> tuple[Phase, ...]:
        falling = self.steps * self.decay
        stable = max(self.steps - self.warmup - falling, 0.0)
        return (
            Phase(self.warmup, self.start, self.lr),
            Phase(stable, self.lr, self.lr),
            Phase(falling, self.lr, self.end, self.shape),
        )
