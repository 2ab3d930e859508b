"""Stop when the objective has been bad over the last few checks: this run will not be the one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Point
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._last_checks import Losses, name_of, require, summary, with_point
from foretell.trial import CONTINUE, Verdict

__all__ = ["Hopeless"]


@final
@dataclass(frozen=True)
class Hopeless(StoppingRule):
    """Hopeless: the mean of the last checks is over the limit for a loss, under it for a score.

    A value that is not finite is as bad as can be. `ft.after` gives a run time; `Divergence` judges a single check.

    Args:
        limit: in the units of the metric, finite.
        checks: how many to look at, >= 1; the rule is silent before.
        quantile: share in (0, 1] of the values at or under the number that is judged, e.g. 0.5; None judges the mean.
    """

    limit: float
    checks: int = 5
    quantile: float | None = None

    def __post_init__(self) -> None:
        require("Hopeless", self.limit, self.checks, self.quantile)

    def init(self) -> Losses:
        """No loss yet."""
        return []

    def update(self, state: Losses, point: Point) -> Losses:
        """The last losses."""
        return with_point(state, point, self.checks)

    def check(self, curve: Curve, state: Losses, context: RunContext) -> Verdict:
        """Stop at the first full window that is past the limit."""
        objective, step = context.objective, curve.last.step
        if len(state) < self.checks:
            return CONTINUE
        value = summary(state, self.quantile, objective)
        if not objective.loss(value) > objective.loss(self.limit):
            return CONTINUE
        name = name_of(self.checks, self.quantile)
        side = "under" if objective.maximizes else "over"
        reason = f"{objective.metric} is hopeless: {name} is {value:.4g}, {side} {self.limit:g}, at epoch {step}"
        return Verdict("stop", "hopeless", reason, step=step, value=value, limit=self.limit)
