"""Stop when the learning curve has become flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["RelativeChange"]


@final
@dataclass(frozen=True)
class RelativeChange(StoppingRule):
    """Stops when the mean of the last `window` losses is hardly better than the mean of the `window` before.

    The improvement is (before - now) / max(|before|, |now|), a share of the larger magnitude: it does not change with
    the unit of the metric, is right for negative metrics, and is 0 where both means are. A curve that gets worse has a
    negative improvement and is stopped too. Values that are not finite are left out.

    Args:
        epsilon: smallest improvement from window to window that is worth going on, >= 0.
        window: checks to average, >= 1; the rule is silent before 2 * window of them.
    """

    epsilon: float = 1e-3
    window: int = 5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"RelativeChange(epsilon={self.epsilon}) must be a finite number, 0 or more.")
        if not isinstance(self.window, int) or self.window < 1:
            raise ValueError(f"RelativeChange(window={self.window!r}) must be a whole number of checks, 1 or more.")

    def init(self) -> list[float]:
        """No loss yet of the two windows."""
        return []

    def update(self, state: list[float], point: Report) -> list[float]:
        """The finite losses of the two windows, oldest first."""
        return [*state[1 - 2 * self.window :], point.loss] if math.isfinite(point.loss) else state

    def check(self, curve: Curve, state: list[float], context: RunContext) -> Verdict:
        """Stop when the improvement is below epsilon."""
        if len(state) < 2 * self.window:
            return CONTINUE
        before = math.fsum(loss / self.window for loss in state[: self.window])
        now = math.fsum(loss / self.window for loss in state[self.window :])
        scale = max(abs(before), abs(now))
        change = before / scale - now / scale if scale else 0.0
        # A tie stops even with an epsilon of 0.
        if not (change < self.epsilon or change == 0.0):
            return CONTINUE
        step, objective = curve.last.step, context.objective
        means = {"before": objective.value(before), "now": objective.value(now)}
        checks = f"{self.window} checks" if self.window > 1 else "check"
        verb = f"improved by {change:.2g}" if change >= 0 else f"worsened by {-change:.2g}"
        reason = (
            f"{objective.metric} {verb} of its size from the {checks} before to the last {checks} "
            f"({means['before']:.4g} to {means['now']:.4g}), less than {self.epsilon:g}, at epoch {step}"
        )
        return Verdict("stop", "relative_change", reason, step=step, value=change, limit=self.epsilon, evidence=means)
