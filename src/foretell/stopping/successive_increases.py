"""Stop when the validation loss has risen strip after strip: Prechelt's UP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._prechelt import require
from foretell.trial import CONTINUE, Verdict

__all__ = ["SuccessiveIncreases"]


@final
@dataclass(frozen=True)
class SuccessiveIncreases(StoppingRule):
    """Stops when the loss at the end of a strip was above that of the strip before, `increases` times in a row.

    A strip is `strip` checks long, and only its last check is looked at, so that single bad checks do no harm. How much
    the loss rose is of no matter. A value that is not finite counts as a rise above the last finite one.

    Args:
        increases: rises in a row, s of the source, >= 1; Prechelt tries 2, 3, 4, 6 and 8.
        strip: checks in a strip, k of the source, >= 1.

    Source: Prechelt, Early Stopping - But When?, 1998, class UP.
    """

    increases: int = 4
    strip: int = 5

    def __post_init__(self) -> None:
        require("SuccessiveIncreases", at_least_one=self.increases)
        require("SuccessiveIncreases", at_least_one=self.strip)

    def init(self) -> dict[str, Any]:
        """No strip yet."""
        return {"checks": 0, "loss": None, "increases": 0}

    def update(self, state: dict[str, Any], point: Report) -> dict[str, Any]:
        """Compare the end of a strip with the end of the one before."""
        checks, before = state["checks"] + 1, state["loss"]
        if checks % self.strip:
            return {**state, "checks": checks}
        if not math.isfinite(point.loss):
            return {"checks": checks, "loss": before, "increases": state["increases"] + 1}
        rose = before is not None and point.loss > before
        return {"checks": checks, "loss": point.loss, "increases": state["increases"] + 1 if rose else 0}

    def check(self, curve: Curve, state: dict[str, Any], context: RunContext) -> Verdict:
        """Stop at the end of a strip, after enough rises."""
        if state["increases"] < self.increases or state["checks"] % self.strip:
            return CONTINUE
        step, objective, value = curve.last.step, context.objective, context.objective.value(curve.last.loss)
        rises = state["increases"]
        unit = ("strip" if self.strip > 1 else "check") + ("" if rises == 1 else "s")
        over = f"{rises} {unit}" + (f" of {self.strip} checks" if self.strip > 1 else "")
        reason = f"{objective.metric} has got worse over {over} in a row, to {value:.4g}, at epoch {step}"
        evidence = {"increases": rises}
        limit = float(self.increases)
        return Verdict("stop", "successive_increases", reason, step=step, value=value, limit=limit, evidence=evidence)
