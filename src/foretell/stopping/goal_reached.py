"""Stop when the objective has been good enough over the last few checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Point
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._last_checks import Losses, name_of, require, summary, with_point
from foretell.trial import CONTINUE, Verdict

__all__ = ["GoalReached"]


@final
@dataclass(frozen=True)
class GoalReached(StoppingRule):
    """Goal reached: the mean of the last checks is at or under the limit for a loss, at or over it for a score.

    A value that is not finite is as bad as can be: it keeps a mean from the goal for as long as it is in the window.

    Args:
        limit: in the units of the metric, finite.
        checks: how many to look at, >= 1; the rule is silent before.
        quantile: share in (0, 1] of the values at or under the number that is judged, e.g. 0.5; None judges the mean.
    """

    limit: float
    checks: int = 5
    quantile: float | None = None

    def __post_init__(self) -> None:
        require("GoalReached", self.limit, self.checks, self.quantile)

    def init(self) -> Losses:
        """No loss yet."""
        return []

    def update(self, state: Losses, point: Point) -> Losses:
        """The last losses."""
        return with_point(state, point, self.checks)

    def check(self, curve: Curve, state: Losses, context: RunContext) -> Verdict:
        """Stop at the first full window that reaches the limit."""
        objective, step = context.objective, curve.last.step
        if len(state) < self.checks:
            return CONTINUE
        value = summary(state, self.quantile, objective)
        if not objective.loss(value) <= objective.loss(self.limit):
            return CONTINUE
        name = name_of(self.checks, self.quantile)
        reason = f"{objective.metric} reached the goal {self.limit:g}: {name} is {value:.4g} at epoch {step}"
        return Verdict("stop", "goal_reached", reason, step=step, value=value, limit=self.limit)
