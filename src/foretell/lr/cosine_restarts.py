"""Cosine decay that starts anew, in cycles that may grow."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import geometric, require, require_rate, require_steps

__all__ = ["CosineRestarts"]


@final
@dataclass(frozen=True)
class CosineRestarts(LRSchedule):
    """Half waves of the cosine from `lr` to `end`, each `multiplier` times as long as the one before.

    Args:
        lr: the rate at step 0, >= 0.
        steps: length of the first cycle, > 0: `T_0` of PyTorch, `first_decay_steps` of Keras.
        multiplier: growth of the cycles, >= 1: `T_mult` of PyTorch, `t_mul` of Keras, whose own default is 2.
        peak_factor: what each restart leaves of the height above `end`, in (0, 1]: `m_mul` of Keras; PyTorch has 1.
        end: the rate at the end of a cycle, >= 0: PyTorch's `eta_min`, and `alpha * lr` of Keras.

    Source: Loshchilov and Hutter, SGDR, 2017.
    """

    lr: float
    steps: float
    _: KW_ONLY
    multiplier: float = 1.0
    peak_factor: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        require_rate("CosineRestarts", lr=self.lr, end=self.end)
        require_steps("CosineRestarts", steps=self.steps)
        require(
            math.isfinite(self.multiplier) and self.multiplier >= 1,
            f"CosineRestarts(multiplier={self.multiplier}) must be 1 or more: cycles that shrink would never end.",
        )
        require(0 < self.peak_factor <= 1, f"CosineRestarts(peak_factor={self.peak_factor}) must be in (0, 1].")
        require(self.end <= self.lr, f"CosineRestarts(end={self.end}) must not lie above lr={self.lr}.")

    def __call__(self, step: float) -> float:
        """The rate at a step; at a restart, the high one."""
        cycle, gone, length = self._cycle(step)
        height = (self.lr - self.end) * self.peak_factor**cycle
        return self.end + height * (1 + math.cos(math.pi * gone / length)) / 2

    def area(self, step: float) -> float:
        """Geometric sums over the cycles behind, and a sine in this one."""
        cycle, gone, length = self._cycle(step)
        behind = self.steps * geometric(self.multiplier * self.peak_factor, cycle)
        current = self.peak_factor**cycle * (gone + length * math.sin(math.pi * gone / length) / math.pi)
        return self.end * step + (self.lr - self.end) * (behind + current) / 2

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """The same number of restarts."""
        return replace(self, steps=self.steps * horizon / planned)

    def _cycle(self, step: float) -> tuple[int, float, float]:
        """Number of the cycle, steps gone in it, and its length."""
        if self.multiplier == 1:
            cycle, gone = divmod(step, self.steps)
            return int(cycle), gone, self.steps
        # Added up rather than solved with a logarithm, which rounds to the wrong cycle at some restarts.
        cycle, gone, length = 0, step, self.steps
        while gone >= length:
            cycle, gone, length = cycle + 1, gone - length, length * self.multiplier
        return cycle, gone, length
