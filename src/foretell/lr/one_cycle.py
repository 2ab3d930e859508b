"""Up to a high rate and down to a very low one, once in a run."""

from __future__ import annotations

import itertools
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

from foretell.lr import LRSchedule
from foretell.lr._formulas import Phase, area_of, rate_of, require, require_rate, require_shape, require_steps

__all__ = ["OneCycle"]


@final
@dataclass(frozen=True)
class OneCycle(LRSchedule):
    """From `lr / div_factor` up to `lr`, and down to `lr / div_factor / final_div_factor`.

    Args:
        lr: the highest rate, >= 0.
        steps: length, > 0.
        pct_start: share of the steps in which the rate rises, in [0, 1].
        pct_back: share of the steps after which the rate is back at its start, in (pct_start, 1), for three phases;
            None for two. PyTorch's `three_phase` is `2 * pct_start`, optax' linear_onecycle_schedule has 0.85.
        div_factor: > 0.
        final_div_factor: > 0.
        anneal: shape of the phases, "cosine" or "linear".
        dialect: "torch" counts the steps from 0 to `steps - 1`, so that the last of them has the lowest rate, and its
            phases end one step early (the second of three, two steps); "optax" reaches the lowest rate at `steps`.

    Source: Smith and Topin, Super-Convergence, 2018; PyTorch's OneCycleLR, optax' cosine_onecycle_schedule.
    """

    lr: float
    steps: float
    _: KW_ONLY
    pct_start: float = 0.3
    pct_back: float | None = None
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    anneal: str = "cosine"
    dialect: str = "torch"

    def __post_init__(self) -> None:
        require_rate("OneCycle", lr=self.lr)
        require_steps("OneCycle", steps=self.steps)
        require(0 <= self.pct_start <= 1, f"OneCycle(pct_start={self.pct_start}) must be a share from 0 to 1.")
        require(
            self.pct_back is None or self.pct_start < self.pct_back < 1,
            f"OneCycle(pct_back={self.pct_back}) must lie between pct_start={self.pct_start} and 1.",
        )
        lowest = min(self.div_factor, self.final_div_factor)
        require(lowest > 0, f"OneCycle divides by {lowest}: give factors above 0.")
        require_shape("OneCycle(anneal=...)", self.anneal, ("cosine", "linear"))
        require_shape("OneCycle(dialect=...)", self.dialect, ("torch", "optax"))

    @property
    def horizon(self) -> float:
        """Its length."""
        return self.steps

    def __call__(self, step: float) -> float:
        """The rate at a step; the lowest behind the end, where PyTorch raises an error."""
        return rate_of(self._phases(), step)

    def area(self, step: float) -> float:
        """The areas of the phases."""
        return area_of(self._phases(), step)

    def replanned(self, planned: float, horizon: float) -> LRSchedule:
        """Another length."""
        return replace(self, steps=self.steps * horizon / planned)

    def _phases(self) -> tuple[Phase, ...]:
        low = self.lr / self.div_factor
        early = 1.0 if self.dialect == "torch" else 0.0
        ends, rates = [self.pct_start * self.steps - early], [low, self.lr]
        if self.pct_back is not None:
            ends.append(self.pct_back * self.steps - 2 * early)
            rates.append(low)
        edges = [0.0, *(max(end, 0.0) for end in (*ends, self.steps - early))]
        rates.append(low / self.final_div_factor)
        lengths = (after - before for before, after in itertools.pairwise(edges))
        pairs = itertools.pairwise(rates)
        return tuple(Phase(max(long, 0.0), *pair, self.anneal) for long, pair in zip(lengths, pairs, strict=True))
