"""Stop when the objective has reached a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["Threshold"]


@final
@dataclass(frozen=True)
class Threshold(StoppingRule):
    """Goal reached: the objective is at or under the limit if it is minimised, at or over it if it is maximised.

    Args:
        limit: in the units of the metric, finite.
    """

    limit: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit):
            raise ValueError(f"Threshold({self.limit}) can never be reached: give a finite number.")

    def check(self, curve: Curve, state: None, context: RunContext) -> Verdict:
        """Stop at the first point that reaches the limit; NaN never does."""
        point, objective = curve.last, context.objective
        if not point.loss <= objective.loss(self.limit):
            return CONTINUE
        value = objective.value(point.loss)
        reason = f"{objective.metric} {value:.4g} reached the threshold {self.limit:g} at epoch {point.step}"
        return Verdict("stop", "threshold", reason, step=point.step, value=value, limit=self.limit)
