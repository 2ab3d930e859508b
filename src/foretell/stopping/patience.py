"""Stop when the objective has not improved for a number of checks: the early stopping of every framework."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from foretell.curve import Curve, Report
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["Patience"]


@final
@dataclass(frozen=True)
class Patience(StoppingRule):
    """Stops after `checks` checks in a row without an improvement by more than the minimum gain.

    The reference moves only when it is beaten by more than the minimum gain, so that many small gains add up to one.
    NaN and infinity are never an improvement. With the defaults a tie is no improvement. For a warm-up, see `ft.after`.

    Args:
        checks: checks without improvement that are borne, >= 1: the run stops at that one.
        min_delta: smallest gain that counts, >= 0, in the units of the metric.
        relative: whether `min_delta` is a share of the reference's absolute value instead.
        baseline: the first reference, finite, in the units of the metric; None takes the first finite value.

    Source: Prechelt, Early Stopping - But When?, 1998.
    """

    checks: int
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.checks, int) or self.checks < 1:
            raise ValueError(f"Patience({self.checks!r}) leaves no check to wait for: use a whole number, 1 or more.")
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            raise ValueError(f"Patience(min_delta={self.min_delta}) must be a finite number, 0 or more.")
        if self.baseline is not None and not math.isfinite(self.baseline):
            raise ValueError(f"Patience(baseline={self.baseline}) can never be judged: give a finite number, or None.")

    def init(self) -> dict[str, Any]:
        """No reference yet; or the baseline, counted once as a loss and once as a score: a fold knows no direction."""
        if self.baseline is None:
            return {"best": None, "waited": 0}
        return {"loss": {"best": self.baseline, "waited": 0}, "score": {"best": -self.baseline, "waited": 0}}

    def update(self, state: dict[str, Any], point: Report) -> dict[str, Any]:
        """Move the reference or count one more check without improvement."""
        if self.baseline is None:
            return self._counted(state, point.loss)
        return {side: self._counted(part, point.loss) for side, part in state.items()}

    def check(self, curve: Curve, state: dict[str, Any], context: RunContext) -> Verdict:
        """Stop when the patience is used up."""
        objective = context.objective
        if self.baseline is not None:
            state = state["score" if objective.maximizes else "loss"]
        if state["waited"] < self.checks:
            return CONTINUE
        step, best = curve.last.step, state["best"]
        if best is None:
            reason = f"{objective.metric} was not finite for {self.checks} checks, at epoch {step}"
            return Verdict("stop", "patience", reason, step=step)
        value = objective.value(best)
        margin = f" by more than {self.min_delta:g}{' of it' if self.relative else ''}" if self.min_delta else ""
        name = "the baseline " if value == self.baseline else ""
        reason = (
            f"{objective.metric} has not beaten {name}{value:.4g}{margin} for {self.checks} checks, at epoch {step}"
        )
        current = objective.value(curve.last.loss)
        return Verdict("stop", "patience", reason, step=step, value=current, limit=value, evidence=dict(state))

    def _counted(self, state: dict[str, Any], loss: float) -> dict[str, Any]:
        best = state["best"]
        if math.isfinite(loss) and (best is None or loss < best - self._gain(best)):
            return {"best": loss, "waited": 0}
        return {"best": best, "waited": state["waited"] + 1}

    def _gain(self, best: float) -> float:
        return self.min_delta * abs(best) if self.relative else self.min_delta
