"""Half a wave of the cosine, from the first rate to the last."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import require_rate, require_shape, require_steps

__all__ = ["Cosine"]


@final
@dataclass(frozen=True)
class Cosine(LRSchedule):
    """`end + (lr - end) * (1 + cos(pi * step / steps)) / 2`.

    Args:
        lr: the rate at step 0, >= 0.
        steps: length, > 0.
        end: the last rate, >= 0: PyTorch's `eta_min`, and `alpha * lr` of Keras and optax.
        after: what comes behind the end: "hold" the last rate, as Keras and optax do, or "climb" up the wave again, as
            PyTorch's CosineAnnealingLR does.

    Source: Loshchilov and Hutter, SGDR, 2017, equation 5.
    """

    lr: float
    steps: float
    _: KW_ONLY
    end: float = 0.0
    after: str = "hold"

    def __post_init__(self) -> None:
        require_rate("Cosine", lr=self.lr, end=self.end)
        require_steps("Cosine", steps=self.steps)
        require_shape("Cosine(after=...)", self.after, ("hold", "climb"))

    @property
    def horizon(self) -> float:
        """Its length."""
        return self.steps

    def __call__(self, step: float) -> float:
        """The rate at a step."""
        if step >= self.steps and self.after == "hold":
            return self.end
        high = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.lr * high + self.end * (1 - high)

    def area(self, step: float) -> float:
        """A sine on a line."""
        within = min(step, self.steps) if self.after == "hold" else step
        high = within / 2 + self.steps * math.sin(math.pi * within / self.steps) / (2 * math.pi)
        return self.end * step + (self.lr - self.end) * high

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Another length."""
        return replace(self, steps=self.steps * horizon / planned)
