"""Stop one run when it has trained for long enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from foretell.budget import duration
from foretell.curve import Curve
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["TimeLimit"]


@final
@dataclass(frozen=True)
class TimeLimit(StoppingRule):
    """Stops at the first check after so many seconds of training; time spent paused does not count.

    Args:
        seconds: > 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"TimeLimit({self.seconds}) must be a number of seconds above 0.")

    def check(self, curve: Curve, state: None, context: RunContext) -> Verdict:
        """Stop when the time is used up."""
        point = curve.last
        if point.seconds < self.seconds:
            return CONTINUE
        reason = f"trained for {duration(point.seconds)}, the limit is {duration(self.seconds)}, at epoch {point.step}"
        return Verdict("stop", "time_limit", reason, step=point.step, value=point.seconds, limit=self.seconds)
