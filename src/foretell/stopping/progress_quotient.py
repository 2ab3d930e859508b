"""Stop when what is lost in generalisation outweighs the progress still made: Prechelt's PQ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._other_metrics import reported
from foretell.stopping._prechelt import generalization_loss, require
from foretell.trial import CONTINUE, Verdict

__all__ = ["ProgressQuotient"]


@final
@dataclass(frozen=True)
class ProgressQuotient(StoppingRule):
    """Stops when GL(t) / P_k(t) is above `quotient`, GL being that of `GeneralizationLoss`.

    The progress P_k(t) = 1000 (mean - lowest) / |lowest| is that of the last `strip` values of the training metric, as
    in the source; or, without one, of the objective itself: then a curve that still moves, down or up, is given time,
    and one that lies flat above its best is stopped. Judged at the end of each strip. A check counts if the objective
    and the training metric are both there and finite.

    Args:
        quotient: the largest that is borne, in per cent for one per mille, >= 0; Prechelt tries 0.5, 0.75, 1, 2 and 3.
        strip: checks in a strip, k of the source, >= 2.
        training: name of the training metric, e.g. "train_loss", reported with the objective or before, and better in
            the same direction; None takes the objective.

    Raises:
        MetricError: the training metric was not reported with the first check.

    Source: Prechelt, Early Stopping - But When?, 1998, class PQ.
    """

    quotient: float = 0.5
    strip: int = 5
    training: str | None = None

    def __post_init__(self) -> None:
        require("ProgressQuotient", quotient=self.quotient, at_least_two=self.strip)

    def init(self) -> dict[str, Any]:
        """No strip yet."""
        return {"best": None, "strip": [], "step": None}

    def update(self, state: dict[str, Any], point: Report) -> dict[str, Any]:
        """The lowest loss so far, and the values of the strip, which begins anew when it is full."""
        followed = point.loss
        if self.training is not None:
            found = reported(self, point, (self.training,), begun=state["step"] is not None)
            followed = found[0] if found else math.nan
        if not (math.isfinite(point.loss) and math.isfinite(followed)):
            return state
        best = point.loss if state["best"] is None or point.loss < state["best"] else state["best"]
        kept = state["strip"] if len(state["strip"]) < self.strip else []
        return {"best": best, "strip": [*kept, followed], "step": point.step}

    def check(self, curve: Curve, state: dict[str, Any], context: RunContext) -> Verdict:
        """Stop at the end of a strip whose progress is not worth its loss of generalisation."""
        objective, point, strip = context.objective, curve.last, state["strip"]
        if len(strip) < self.strip or point.step != state["step"]:
            return CONTINUE
        if self.training is not None:  # in the user's units: a fold does not know whether it is a loss or a score
            strip = [objective.loss(value) for value in strip]
        lost = generalization_loss(point.loss, state["best"])
        progress = 10 * generalization_loss(math.fsum(strip) / len(strip), min(strip))
        if not lost > self.quotient * progress:
            return CONTINUE
        quotient = lost / progress if progress else math.inf
        value, best = objective.value(point.loss), objective.value(state["best"])
        whose = "its last" if self.training is None else f"{self.training} over the last"
        reason = (
            f"{objective.metric} {value:.4g} is {lost:.3g} % worse than its best, {best:.4g}, while {whose} "
            f"{self.strip} checks moved by {progress:.3g} per mille, a quotient of {quotient:.3g}, more than "
            f"{self.quotient:g}, at epoch {point.step}"
        )
        evidence = {"generalization_loss": lost, "progress": progress}
        return Verdict(
            "stop", "progress_quotient", reason, step=point.step, value=quotient, limit=self.quotient, evidence=evidence
        )
