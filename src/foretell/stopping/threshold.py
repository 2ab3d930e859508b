"""Stop when the objective has reached a target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["Threshold"]


@final
@dataclass(frozen=True)
class Threshold(StoppingRule):
    """Goal reached: the objective is at or under the limit if it is minimised, at or over it if it is maximised.

    A limit that moves is a function of the curve: it can follow the epoch, `lambda curve: 0.5 * 0.9**curve.last.step`,
    or the run's own convergence, `lambda curve: 0.1 * curve.losses[0]`. It returns the limit in the units of the
    metric; NaN means that there is none yet. The losses of a curve are lower-is-better: those of a score are negative.

    Args:
        limit: in the units of the metric, finite; or a function of the curve so far that returns it.
        held: checks in a row, >= 1, the newest included, that have to be at the limit as it now stands.
    """

    limit: float | Callable[[Curve], float]
    held: int = 1

    def __post_init__(self) -> None:
        if not callable(self.limit) and not math.isfinite(self.limit):
            raise ValueError(f"Threshold({self.limit}) can never be reached: give a finite number.")
        if not isinstance(self.held, int) or self.held < 1:
            raise ValueError(f"Threshold(held={self.held!r}) is no number of checks: use a whole number, 1 or more.")

    def init(self) -> list[float | None] | None:
        """Nothing, or no loss yet of those that have to hold."""
        return None if self.held == 1 else []

    def update(self, state: list[float | None] | None, point: Report) -> list[float | None] | None:
        """The last `held` losses; None for those that are not finite, which are never at a limit."""
        if state is None:
            return None
        return [*state[1 - self.held :], point.loss if math.isfinite(point.loss) else None]

    def check(self, curve: Curve, state: list[float | None] | None, context: RunContext) -> Verdict:
        """Stop at the first point that reaches the limit for long enough; NaN and infinity never do."""
        point, objective = curve.last, context.objective
        limit = self.limit(curve) if callable(self.limit) else self.limit
        bar = objective.loss(limit)
        if not (point.loss <= bar and math.isfinite(point.loss)):
            return CONTINUE
        if state is not None and (len(state) < self.held or any(loss is None or loss > bar for loss in state)):
            return CONTINUE
        value = objective.value(point.loss)
        held = f" for {self.held} checks in a row" if self.held > 1 else ""
        reason = f"{objective.metric} {value:.4g} reached the threshold {limit:g}{held} at epoch {point.step}"
        return Verdict("stop", "threshold", reason, step=point.step, value=value, limit=float(limit))
