"""Stop when the objective is beyond hope: past a bound, or far above where it once was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["Divergence"]


@final
@dataclass(frozen=True)
class Divergence(StoppingRule):
    """Stops when the objective is worse than a bound.

    Non-finite values need no rule: a run whose objective is not finite has diverged and is ended by `Run` itself.

    Args:
        limit: worst value that is borne, in the units of the metric, finite.
    """

    limit: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit):
            raise ValueError(f"Divergence({self.limit}) can never be passed: give a finite number.")

    def check(self, curve: Curve, state: None, context: RunContext) -> Verdict:
        """Stop at the first point past the limit."""
        point, objective = curve.last, context.objective
        if not point.loss > objective.loss(self.limit):
            return CONTINUE
        value = objective.value(point.loss)
        side = "under" if objective.maximizes else "over"
        reason = f"{objective.metric} {value:.4g} is {side} the limit {self.limit:g} at epoch {point.step}"
        return Verdict("stop", "divergence", reason, step=point.step, value=value, limit=self.limit)
