"""Stop when what is lost in generalisation outweighs the progress still made: Prechelt's PQ, on one curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from foretell.curve import Curve, Point
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._prechelt import generalization_loss, require
from foretell.trial import CONTINUE, Verdict

__all__ = ["ProgressQuotient"]


@final
@dataclass(frozen=True)
class ProgressQuotient(StoppingRule):
    """Stops when GL(t) / P_k(t) is above `quotient`, GL being that of `GeneralizationLoss`.

    The progress P_k(t) = 1000 (mean - lowest) / |lowest| is that of the last `strip` losses *of the objective itself*.
    In the source it is that of the training loss, which a rule does not see; here a curve that still moves, down or up,
    is given time, and one that lies flat above its best is stopped. Judged at the end of each strip. Values that are
    not finite are left out.

    Args:
        quotient: the largest that is borne, in per cent for one per mille, >= 0; Prechelt tries 0.5, 0.75, 1, 2 and 3.
        strip: checks in a strip, k of the source, >= 2.

    Source: after Prechelt, Early Stopping - But When?, 1998, class PQ.
    """

    quotient: float = 0.5
    strip: int = 5

    def __post_init__(self) -> None:
        require("ProgressQuotient", quotient=self.quotient, at_least_two=self.strip)

    def init(self) -> dict[str, Any]:
        """No strip yet."""
        return {"best": None, "strip": []}

    def update(self, state: dict[str, Any], point: Point) -> dict[str, Any]:
        """The lowest loss so far and those of the strip, which begins anew when it is full."""
        if not math.isfinite(point.loss):
            return state
        best = point.loss if state["best"] is None or point.loss < state["best"] else state["best"]
        kept = state["strip"] if len(state["strip"]) < self.strip else []
        return {"best": best, "strip": [*kept, point.loss]}

    def check(self, curve: Curve, state: dict[str, Any], context: RunContext) -> Verdict:
        """Stop at the end of a strip whose progress is not worth its loss of generalisation."""
        point, strip = curve.last, state["strip"]
        if len(strip) < self.strip or point.loss != strip[-1]:
            return CONTINUE
        lost = generalization_loss(point.loss, state["best"])
        progress = 10 * generalization_loss(math.fsum(strip) / len(strip), min(strip))
        if not lost > self.quotient * progress:
            return CONTINUE
        quotient = lost / progress if progress else math.inf
        objective, value = context.objective, context.objective.value(point.loss)
        best = objective.value(state["best"])
        reason = (
            f"{objective.metric} {value:.4g} is {lost:.3g} % worse than its best, {best:.4g}, while its last "
            f"{self.strip} checks moved by {progress:.3g} per mille, a quotient of {quotient:.3g}, more than "
            f"{self.quotient:g}, at epoch {point.step}"
        )
        evidence = {"generalization_loss": lost, "progress": progress}
        return Verdict(
            "stop", "progress_quotient", reason, step=point.step, value=quotient, limit=self.quotient, evidence=evidence
        )
