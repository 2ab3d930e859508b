"""Stop when the objective has been good enough over the last few checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._last_checks import Values, name_of, prepare, summary, with_point
from foretell.trial import CONTINUE, Verdict

__all__ = ["GoalReached"]


@final
@dataclass(frozen=True)
class GoalReached(StoppingRule):
    """Goal reached: the mean of the last checks is at or under the limit for a loss, at or over it for a score.

    A value that is not finite is as bad as can be: it keeps a mean from the goal for as long as it is in the window.

    Args:
        limit: in the units of the metric, finite.
        checks: how many to look at, >= 1; the rule is silent before. None: 5, or 1 of several metrics.
        quantile: share in (0, 1] of the values at or under the number that is judged, e.g. 0.5; None judges the mean.
        metrics: look at these, e.g. the same score on several validation sets, instead of the objective. They have its
            unit and direction, and are reported with it or before; a check without all of them does not count.

    Raises:
        MetricError: one of the metrics was not reported with the first check.
    """

    limit: float
    checks: int | None = None
    quantile: float | None = None
    metrics: Sequence[str] = ()

    def __post_init__(self) -> None:
        prepare(self)

    def init(self) -> Values:
        """Nothing yet."""
        return []

    def update(self, state: Values, point: Report) -> Values:
        """The last checks."""
        return with_point(self, state, point)

    def check(self, curve: Curve, state: Values, context: RunContext) -> Verdict:
        """Stop at the first full window that reaches the limit."""
        objective, step = context.objective, curve.last.step
        value = summary(self, state, objective)
        if value is None or not objective.loss(value) <= objective.loss(self.limit):
            return CONTINUE
        name = name_of(self)
        reason = f"{objective.metric} reached the goal {self.limit:g}: {name} is {value:.4g} at epoch {step}"
        return Verdict("stop", "goal_reached", reason, step=step, value=value, limit=self.limit)
