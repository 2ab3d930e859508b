"""No output."""

from __future__ import annotations

from typing import final

from foretell.budget import Budget
from foretell.events import Event
from foretell.record import Record
from foretell.trial import Verdict

__all__ = ["Silent"]


@final
class Silent:
    """Shows nothing."""

    def begin(self, name: str, record: Record, budget: Budget) -> None:
        """Nothing."""

    def happened(self, event: Event) -> None:
        """Nothing."""

    def tick(self, now: float) -> None:
        """Nothing."""

    def end(self, verdict: Verdict) -> None:
        """Nothing."""
