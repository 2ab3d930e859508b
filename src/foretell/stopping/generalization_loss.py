"""Stop when the validation loss has risen too far above its lowest: Prechelt's GL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._prechelt import generalization_loss, require
from foretell.trial import CONTINUE, Verdict

__all__ = ["GeneralizationLoss"]


@final
@dataclass(frozen=True)
class GeneralizationLoss(StoppingRule):
    """Stops when the loss is more than `percent` above the lowest so far: GL(t) = 100 (E(t) - E_opt) / |E_opt|.

    For positive losses this is Prechelt's formula; the magnitude makes it right for negative ones and for scores.
    Values that are not finite are left out.

    Args:
        percent: the largest loss of generalisation that is borne, >= 0; Prechelt tries 1, 2, 3 and 5.

    Source: Prechelt, Early Stopping - But When?, 1998, class GL.
    """

    percent: float = 5.0

    def __post_init__(self) -> None:
        require("GeneralizationLoss", percent=self.percent)

    def init(self) -> float | None:
        """No lowest loss yet."""
        return None

    def update(self, state: float | None, point: Report) -> float | None:
        """The lowest finite loss so far."""
        return point.loss if math.isfinite(point.loss) and (state is None or point.loss < state) else state

    def check(self, curve: Curve, state: float | None, context: RunContext) -> Verdict:
        """Stop when the loss of generalisation is too large."""
        point, objective = curve.last, context.objective
        if state is None or not math.isfinite(point.loss):
            return CONTINUE
        lost = generalization_loss(point.loss, state)
        if not lost > self.percent:
            return CONTINUE
        value, best = objective.value(point.loss), objective.value(state)
        reason = (
            f"{objective.metric} {value:.4g} is {lost:.3g} % worse than its best, {best:.4g}, more than "
            f"{self.percent:g} %, at epoch {point.step}"
        )
        evidence = {"best": best, "current": value}
        return Verdict(
            "stop", "generalization_loss", reason, step=point.step, value=lost, limit=self.percent, evidence=evidence
        )
