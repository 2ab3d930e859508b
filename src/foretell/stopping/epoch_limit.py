"""Stop one run when it has trained for enough epochs, whatever its loop asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.curve import Curve
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["EpochLimit"]


@final
@dataclass(frozen=True)
class EpochLimit(StoppingRule):
    """Stops at the first check at or after an epoch.

    Args:
        epochs: >= 1.
    """

    epochs: int

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise ValueError(f"EpochLimit({self.epochs!r}) must be a whole number of epochs, 1 or more.")

    def check(self, curve: Curve, state: None, context: RunContext) -> Verdict:
        """Stop when the epochs are used up."""
        step = curve.last.step
        if step < self.epochs:
            return CONTINUE
        reason = f"epoch {step} reached the limit of {self.epochs} epochs"
        return Verdict("stop", "epoch_limit", reason, step=step, value=float(step), limit=float(self.epochs))
